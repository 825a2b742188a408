"""`fwsign pki log`."""

import json
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from fwsign.pki.log import user

pytestmark = pytest.mark.usefixtures("project")


def test_each_line_says_what_happened() -> None:
    good("pki", "issue", "client", "sensor-7", "--no-passphrase")
    serial = json.loads(good("pki", "log", "sensor-7", "--json"))["log"][0]["serial"]
    good("pki", "revoke", "sensor-7", "--reason", "superseded")
    found = run("pki", "log", "sensor-7")
    first, last = found.out.splitlines()
    assert f"  issue    sensor-7  serial {serial}, until 2028-" in first
    assert f"  revoke   sensor-7  serial {serial}, reason superseded  by {user()}" in last
    assert good("pki", "log", ":".join(serial[at : at + 2] for at in range(0, len(serial), 2)))
    assert found.err.startswith("fwsign: head: ")


def test_the_head_shows_that_nothing_is_gone(tmp_path: Path) -> None:
    head = json.loads(good("pki", "log", "--json"))["head"]
    good("pki", "issue", "client", "sensor-7", "--no-passphrase")
    assert run("pki", "log", "--head", head).status == 0
    assert run("receipts", "verify", "pki/log.jsonl", "--head", head).status == 0
    file = tmp_path / "pki/log.jsonl"
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:3]))
    refused(
        run("pki", "log", "--head", head),
        1,
        f"none of 3 receipts is the head {head[:16]}: the end was cut off or rewritten",
        "receipts were changed or taken out; ask who kept a copy",
    )
    file.write_text("".join(kept[1:]))
    assert run("pki", "log").status == 1


def test_no_log_and_nothing_of_that_name(tmp_path: Path) -> None:
    assert run("pki", "log", "nobody") == (
        0,
        "",
        'fwsign: nothing in pki/log.jsonl concerns "nobody"\n',
    )
    (tmp_path / "pki/log.jsonl").unlink()
    assert run("pki", "log") == (
        0,
        "",
        "fwsign: pki/log.jsonl begins with the next signature\n",
    )


def test_a_head_that_is_none() -> None:
    refused(
        run("pki", "log", "--head", "4f5e"),
        2,
        '"4f5e" is not a head',
        "64 hex digits, as they were printed before",
    )


def test_a_request_is_named(tmp_path: Path) -> None:
    from cli.test_pki_life import request

    request(tmp_path / "b.csr")
    good("pki", "issue", "client", "b", "--csr", "b.csr")
    assert ", request " in good("pki", "log", "b")
