"""`fwsign permit` and `fwsign install --permit`: transcripts."""

import json
import os
import re
from pathlib import Path

import pytest

from cli.kit import good, refused, run

INIT = (
    *("device", "init", "--state", "state.db", "--vendor", "acme.example", "--id", "gw-0007"),
    *("--product", "gateway-x1", "--anchor", "pki/ca.crt", "--target-dir", "files"),
)
posix = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")


@pytest.fixture
def two(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two releases."""
    monkeypatch.setenv("FWSIGN_DEVICE", str(project / "device.toml"))
    for number in ("1", "2"):
        (project / "build.bin").write_bytes(f"release {number}".encode())
        folder = project / number
        folder.mkdir()
        good("sign", "build.bin", "--sequence", number, "--output", folder / "build.bin.suit")
        (folder / "build.bin").write_bytes((project / "build.bin").read_bytes())
    return project


def test_make_show_and_install(two: Path) -> None:
    made = run("permit", "make", "--device", "gw-0007", "--release", "1/build.bin.suit")
    assert made.status == 0, made
    assert made.out == f"{Path('1/build.bin.permit')}\n"
    assert "device   gw-0007" in made.err
    assert "expires  2026-11-29T12:00:00+00:00" in made.err
    assert "signer   release, ESP256" in made.err
    assert "next: fwsign install" in made.err
    assert "--permit" in made.err
    shown = good("permit", "show", "1/build.bin.permit")
    assert re.match(r"permit [0-9a-f]{32}\n", shown)
    assert "release  sequence 1, manifest " in shown
    assert "signer   release (claimed)" in shown
    found = json.loads(good("permit", "show", "1/build.bin.permit", "--json"))
    assert (found["device"], found["sequence_number"]) == ("gw-0007", 1)
    assert found["claimed_signers"] == ["release"]
    log = (two / "pki" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["kind"] == "permit"


@posix
def test_install_with_a_permit(two: Path) -> None:
    (two / "files").mkdir()
    good(*INIT)
    good("install", "2/build.bin.suit")
    assert run("install", "1/build.bin.suit").status == 4
    good("permit", "make", "--device", "gw-0007", "--release", "1/build.bin.suit")
    done = good("install", "1/build.bin.suit", "--permit", "1/build.bin.permit")
    assert "below the floor, by permit " in done
    receipts = good("receipts", "show", "--config", "device.toml", "--json")
    assert '"permit"' in receipts
    good("install", "2/build.bin.suit")
    again = run("install", "1/build.bin.suit", "--permit", "1/build.bin.permit", "--json")
    told = json.loads(again.out)
    assert (again.status, told["code"]) == (4, "unsuitable.permit-used")
    assert told["hint"] == ("a permit works once: fwsign permit make makes another")


@posix
def test_options_that_exclude_each_other(two: Path) -> None:
    (two / "files").mkdir()
    good(*INIT)
    found = run("install", "1/build.bin.suit", "--check", "--permit", "x")
    refused(found, 2, "--check and --permit exclude each other", "--dry-run judges with a permit")
    found = run("install", "1/build.bin.suit", "--permit", "none.permit")
    assert (found.status, found.errors[0]) == (
        5,
        "error: cannot read none.permit: no such file or directory",
    )


def test_what_is_not_allowed(two: Path) -> None:
    del two
    start = ("permit", "make", "--device", "gw-0007", "--release", "1/build.bin.suit")
    found = run(*start, "--key", "x")
    hint = "--pki and --signer name a signer of a PKI"
    refused(found, 2, "--key and --chain go together", hint)
    found = run(*start, "--key", "x", "--chain", "y", "--signer", "z")
    assert (found.status, found.errors[0]) == (2, "error: --key excludes --pki and --signer")
    found = run(*start, "--expires", "91d")
    assert found.status == 2
    words = "a permit ends within 90 days, this one would at 2027-02-21T12:00:00+00:00"
    assert found.errors[0] == f"error: {words}"
    good(*start)
    there = f"cannot write {Path('1/build.bin.permit')}: exists already"
    refused(run(*start), 5, there, "--output names another file")
    found = run("permit", "show", "1/build.bin.suit")
    assert (found.status, "a release" in found.errors[0]) == (4, True)
    other = ("--device", "a\nb", "--release", "1/build.bin.suit", "--output", "x.permit")
    found = run("permit", "make", *other)
    assert found.status == 1
    assert "no line of printable text" in found.errors[0]


def test_json(two: Path) -> None:
    start = ("permit", "make", "--device", "gw-0007", "--release", "1/build.bin.suit")
    made = json.loads(good(*start, "--expires", "24h", "--json", "--output", "one.permit"))
    assert made["verdict"] == "signed"
    assert made["permit"]["expires"] == "2026-11-23T12:00:00+00:00"
    assert made["permit"]["file"] == "one.permit"
    del two
