"""`fwsign follow`, `device hold` and `device release`: transcripts."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from cli.kit import MAIN, environment, good, refused, run
from fwsign.cli import answer, inputs
from support import DAY, NOW

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")

INIT = (
    *("device", "init", "--state", "state.db", "--vendor", "acme.example"),
    *("--product", "gateway-x1", "--anchor", "pki/ca.crt", "--target-dir", "files"),
)


@pytest.fixture
def enrolled(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a gateway, and a directory with a security release for it."""
    monkeypatch.setenv("FWSIGN_DEVICE", str(project / "device.toml"))
    (project / "files").mkdir()
    good(*INIT)
    notice = ("--class", "security", "--advisory", "CVE-2026-1234", "--support-until", "2031-12-31")
    (project / "offers").mkdir()
    good("sign", "build.bin", "--version", "2.4.1", "-o", "offers/update.suit", *notice)
    (project / "offers/build.bin").write_bytes((project / "build.bin").read_bytes())
    return project


def configure(project: Path, text: str) -> None:
    path = project / "device.toml"
    path.write_text(f"{path.read_text()}\n{text}\n")


SEQUENCE = int(NOW.timestamp())


def test_once_installs_and_then_finds_nothing_new(enrolled: Path) -> None:
    assert good("follow", "offers", "--once").splitlines() == [
        f"installed  gateway-x1 2.4.1, sequence {SEQUENCE}",
        "  notice     security release (CVE-2026-1234), supported until 2031-12-31",
        "  size       800 bytes, at most 800 of them to fetch",
    ]
    assert (enrolled / "files/current/build.bin").exists()
    found = run("follow", "offers", "--once")
    assert (found.status, found.err) == (0, "")
    assert found.out == f"nothing new  gateway-x1 2.4.1, sequence {SEQUENCE}\n"


def test_check_tells_what_is_offered(enrolled: Path) -> None:
    configure(enrolled, '[follow]\naddress = "offers"')
    refused(
        run("follow", "--check"),
        5,
        f'{enrolled}/device.toml: "follow.address" is not an https address, or an absolute path',
    )
    path = enrolled / "device.toml"
    path.write_text(path.read_text().replace('"offers"', f'"{enrolled}/offers"'))
    found = run("follow", "--check")
    assert found.out.splitlines() == [
        f"offered  gateway-x1 2.4.1, sequence {SEQUENCE}",
        "  notice     security release (CVE-2026-1234), supported until 2031-12-31",
        "  size       800 bytes, at most 800 of them to fetch",
    ]
    assert found.err == f"fwsign: next: fwsign install {enrolled}/offers/update.suit\n"
    said = json.loads(good("follow", "--check", "--json"))
    assert (said["verdict"], said["would_install"], said["obstacles"]) == ("offered", True, [])
    assert said["to_fetch"] == 800
    release = said["release"]
    assert (release["class"], release["advisories"]) == ("security", ["CVE-2026-1234"])
    assert (release["support_until"], release["version"]) == ("2031-12-31", "2.4.1")
    assert list((enrolled / "files").iterdir()) == []


def test_the_next_command_for_a_release_that_failed_its_trial(enrolled: Path) -> None:
    configure(enrolled, '[trial]\nhealth = ["/bin/false"]')
    assert run("follow", "offers", "--once").status == 4
    found = run("follow", "offers", "--check")
    assert "it failed its trial here before: /bin/false ended with status 1" in found.out
    assert found.err == f"fwsign: next: fwsign install {enrolled}/offers/update.suit --retry\n"


def test_nothing_is_proposed_while_another_release_is_on_trial(enrolled: Path) -> None:
    configure(enrolled, '[trial]\nhealth = ["/bin/true"]\nconfirm = "application"')
    good("sign", "build.bin", "--sequence", SEQUENCE - 1, "-o", "older.suit")
    assert good("install", "older.suit").startswith("on trial")
    found = run("follow", "offers", "--check")
    assert f"release {SEQUENCE - 1} is on trial" in found.out
    assert "fwsign install" not in found.err


@pytest.mark.usefixtures("enrolled")
def test_an_offer_below_the_floor_waits_no_more() -> None:
    good("follow", "offers", "--check")
    good("device", "hold")
    good("follow", "offers", "--once")
    assert f"offered     sequence {SEQUENCE}, 2.4.1" in good("device", "status")
    good("sign", "build.bin", "--sequence", SEQUENCE + 1, "-o", "newer.suit")
    good("install", "newer.suit")
    assert "offered" not in good("device", "status")
    assert json.loads(good("device", "status", "--json"))["offer"] is None


@pytest.mark.usefixtures("enrolled")
def test_a_held_device(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("device", "hold", "--until", "7d", "--reason", "harvest time")
    assert found.out == "held  until 2026-11-29 12:00 UTC: harvest time\n"
    assert found.err == "fwsign: next: fwsign device release ends it\n"
    assert "held        until 2026-11-29T12:00:00+00:00: harvest time" in good("device", "status")
    shown = json.loads(good("device", "status", "--json"))["hold"]
    assert shown == {
        "since": "2026-11-22T12:00:00+00:00",
        "until": "2026-11-29T12:00:00+00:00",
        "reason": "harvest time",
    }
    waits = good("follow", "offers", "--once").splitlines()
    assert waits[0] == f"waiting  gateway-x1 2.4.1, sequence {SEQUENCE}"
    words = "this device is held until 2026-11-29 12:00 UTC: harvest time"
    assert waits[-1] == f"  not now    {words}"
    line = f"offered     sequence {SEQUENCE}, 2.4.1: fwsign follow --check"
    assert line in good("device", "status").splitlines()
    offer = json.loads(good("device", "status", "--json"))["offer"]
    assert (offer["class"], offer["sequence_number"]) == ("security", SEQUENCE)
    said = json.loads(good("follow", "offers", "--check", "--json"))
    assert said["obstacles"] == [{"name": "held", "words": words}]
    assert said["would_install"] is False
    assert good("device", "release") == (
        "released  it was held until 2026-11-29 12:00 UTC: harvest time\n"
    )
    assert good("device", "release") == "was not held  nothing to do\n"
    assert json.loads(good("device", "status", "--json"))["hold"] is None
    good("device", "hold", "--until", "1h")
    monkeypatch.setattr(inputs, "now", lambda: NOW + DAY)
    assert good("follow", "offers", "--once").startswith("installed")
    assert json.loads(good("device", "status", "--json"))["offer"] is None


def test_a_typed_install_is_done_on_a_held_device(enrolled: Path) -> None:
    del enrolled
    good("device", "hold")
    note = "this device is held until it is released; a typed install is done all the same"
    assert note in good("install", "offers/update.suit")


def test_what_is_typed_wrong(enrolled: Path) -> None:
    hint = 'name it: fwsign follow URL; or put address = "https://..." into [follow]'
    refused(run("follow"), 2, f"{enrolled}/device.toml has no address to follow", hint)
    refused(
        run("follow", "offers", "--once", "--check"),
        2,
        "--once and --check exclude each other",
        "--check alone looks once",
    )
    refused(
        run("follow", "http://acme.example/u.suit", "--once"),
        2,
        '"http://acme.example/u.suit" is not https',
        "name an https address of a channel or an envelope, or a directory",
    )
    refused(run("device", "hold", "--until", "soon"), 2, '"soon" is not a time', WHEN)
    found = run("device", "hold", "--until", "2026-11-22T11:00:00Z")
    assert (found.status, found.errors[0]) == (
        5,
        "error: a hold until 2026-11-22 11:00 UTC is over already",
    )


WHEN = "write 2026-11-22T12:00:00Z, or 30min, 12h, 90d, 4w, 2y"


def test_a_refused_release_gives_its_exit_status_each_time(enrolled: Path) -> None:
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    crls = [part for one in (enrolled / "pki/crl").glob("[ci][as]*.crl") for part in ("--crl", one)]
    good("staple", "offers/update.suit", *crls)
    for _ in range(2):
        found = run("follow", "offers", "--once", "--json")
        assert (found.status, json.loads(found.out)["code"]) == (1, "untrusted.revoked")
    assert json.loads(good("device", "status", "--json"))["receipts"] == 2


def test_install_check_and_download_only(enrolled: Path) -> None:
    found = run("install", "offers/update.suit", "--check")
    assert found.out.splitlines()[0] == f"offered  gateway-x1 2.4.1, sequence {SEQUENCE}"
    assert list((enrolled / "files").iterdir()) == []
    good("device", "hold")
    said = json.loads(good("install", "offers/update.suit", "--check", "--json"))
    assert [one["name"] for one in said["obstacles"]] == ["held"]
    good("device", "release")
    assert good("install", "offers/update.suit", "--download-only").startswith("downloaded  ")
    again = json.loads(good("install", "offers/update.suit", "--check", "--json"))
    assert again["to_fetch"] == 0
    for one in (enrolled / "offers").iterdir():
        one.unlink()
    assert good("install", "--resume").startswith("installed  gateway-x1 2.4.1")
    assert (enrolled / "files/current/build.bin").exists()


def test_install_options_that_exclude_each_other(enrolled: Path) -> None:
    del enrolled
    found = run("install", "offers/update.suit", "--check", "--download-only")
    assert (found.status, found.errors[0]) == (
        2,
        "error: --check and --download-only exclude each other",
    )
    assert run("install", "--resume", "--download-only").status == 2


def test_units(enrolled: Path) -> None:
    refused(
        run("device", "units", "--output", "units"),
        2,
        f"{enrolled}/device.toml has no address to follow",
        'put address = "https://..." into [follow]',
    )
    configure(enrolled, '[follow]\naddress = "https://updates.acme.example/x1/update.suit"')
    (enrolled / "units").mkdir()
    found = run("device", "units", "--output", "units", "--writable", "data")
    names = ["fwsign-follow.service", "fwsign-follow.timer", "fwsign-trial.service"]
    assert found.out.splitlines() == [f"written  units/{name}" for name in names]
    assert found.err.splitlines() == [
        "fwsign: next: systemctl daemon-reload",
        "fwsign: next: systemctl enable --now fwsign-trial.service fwsign-follow.timer",
    ]
    text = (enrolled / "units/fwsign-follow.service").read_text()
    assert f'"{enrolled}/data"' in text
    again = run("device", "units", "--output", "units")
    hint = "remove it first, or name another directory with --output"
    refused(again, 5, "units/fwsign-follow.service exists already", hint)
    (enrolled / "more").mkdir()
    said = json.loads(good("device", "units", "--output", "more", "--json"))
    assert said == {"verdict": "written", "files": [f"more/{name}" for name in names]}


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_units_run_the_one_file_that_wrote_them(
    enrolled: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    configure(enrolled, '[follow]\naddress = "https://updates.acme.example/x1/update.suit"')
    with zipfile.ZipFile(enrolled / "fwsign.pyz", "w") as archive:
        archive.writestr("__main__.py", "")
    (enrolled / "fwsign.pyz").chmod(mode)
    monkeypatch.setattr(sys, "argv", ["fwsign.pyz"])
    (enrolled / "units").mkdir()
    good("device", "units", "--output", "units")
    start = f"{enrolled}/fwsign.pyz device trial --config {enrolled}/device.toml"
    program = start if mode == 0o755 else f"{sys.executable} {start}"
    text = (enrolled / "units/fwsign-trial.service").read_text()
    assert f"\nExecStart={program}\n" in text


def asleep(process: int) -> None:
    """Wait until a process of Python sleeps: nanosleep, and SIGTERM caught."""
    caught, deadline = 1 << (signal.SIGTERM - 1), time.monotonic() + 60
    while time.monotonic() < deadline:
        facts = Path(f"/proc/{process}/status").read_text()
        mask = int(facts.partition("SigCgt:")[2].split()[0], 16)
        if mask & caught and "State:\tS" in facts and "nanosleep" in where(process):
            return
        time.sleep(0.05)
    raise AssertionError("it does not sleep")


def where(process: int) -> str:
    """Return the system call in which a process waits."""
    number = Path(f"/proc/{process}/syscall").read_text().split()[0]
    return "nanosleep" if number in ("35", "230", "101", "115") else number


class TestDaemon:
    """`fwsign follow` without --once."""

    @pytest.fixture
    def naps(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Sleep no longer, and end the program at the fourth pause."""
        found: list[float] = []

        def sleep(seconds: float) -> None:
            found.append(seconds)
            if len(found) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(random, "random", lambda: 0.5)
        return found

    def test_it_polls_and_reads_device_toml_anew(self, enrolled: Path, naps: list[float]) -> None:
        (enrolled / "offers").rename(enrolled / "later")
        configure(enrolled, "[follow]\ninterval = 600")
        found = run("follow", "offers", "--json")
        said = [json.loads(line) for line in found.out.splitlines()]
        assert [one["code"] for one in said] == ["io.missing"] * 3
        assert naps == [30, 1200, 2400, 4800]  # failures make the pauses longer
        assert found.status == answer.INTERRUPTED
        naps.clear()
        (enrolled / "later").rename(enrolled / "offers")
        found = run("follow", "offers")
        assert [line.split("  ")[0] for line in found.out.splitlines() if line[0] != " "] == [
            "installed",
            "nothing new",
            "nothing new",
        ]
        assert naps == [30, 600, 600, 600]

    def test_a_release_on_trial_is_looked_at_each_minute(
        self, enrolled: Path, naps: list[float]
    ) -> None:
        health = enrolled / "health"
        health.write_text("#!/bin/sh\nexit 75\n")
        health.chmod(0o755)
        configure(enrolled, f'[trial]\nhealth = ["{health}"]')
        found = run("follow", "offers")
        assert found.out.startswith("on trial  gateway-x1 2.4.1")
        assert naps == [30, 60, 60, 60]

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
    def test_a_signal_ends_it_and_no_lock_is_left(self, enrolled: Path, name: str) -> None:
        words = [sys.executable, "-c", MAIN, "follow", "offers"]
        environ = environment(FWSIGN_DEVICE=str(enrolled / "device.toml"))
        with subprocess.Popen(words, stderr=subprocess.PIPE, env=environ, text=True) as process:
            assert process.stderr is not None
            asleep(process.pid)
            process.send_signal(getattr(signal, name))
            status = process.wait(30)
            said = process.stderr.read()
        assert status == 128 + getattr(signal, name), said
        assert "interrupted" in said
        good("install", "offers/update.suit")
