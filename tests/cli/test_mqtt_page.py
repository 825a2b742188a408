"""docs/mqtt.md, followed literally with a real broker."""

import os
import re
import sys
from pathlib import Path

import pytest

from cli.test_pki_page import reader
from mqtt_kit import free_port
from support import require_package, require_program

PAGE = Path(__file__).parents[2] / "docs" / "mqtt.md"
_STEP = re.compile(r"as `([\w.]+)`:\n\n```\n(.*?)```|```console\n(.*?)```", re.DOTALL)


@pytest.mark.external
@pytest.mark.skipif(sys.platform == "win32", reason="gateways are POSIX only")
def test_the_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("paho")
    places = (str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin")
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    for program in ("bash", "mosquitto", "timeout"):
        require_program(program)
    port = str(free_port())
    page = PAGE.read_text(encoding="utf-8").partition("## Hands on")[2].partition("## Settings")[0]
    page = page.replace("mqtts://localhost", f"mqtts://localhost:{port}").replace("8883", port)
    with reader(tmp_path) as one:
        one.port = int(port)
        for step in _STEP.finditer(page):
            if step[1]:
                one.write(step[1], step[2])
            else:
                for line in step[3].splitlines():
                    one.type(line)
    assert one.commands == 32


def test_the_page_names_every_setting() -> None:
    from fwsign.gateway.config.watch_rules import WatchRules

    table = PAGE.read_text(encoding="utf-8").partition("## Settings")[2].partition("## What")[0]
    for name in WatchRules._fields:
        assert f"`{name}`" in table
