"""`fwsign device` and `fwsign install`: transcripts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.kit import command, environment, good, program, refused, run
from fwsign.cli import answer, inputs, ui
from fwsign.gateway.run import session
from support import DAY, NOW, require_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")


@pytest.fixture
def enrolled(signed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose build.bin is signed, and a gateway that trusts its root."""
    monkeypatch.setenv("FWSIGN_DEVICE", str(signed / "device.toml"))
    (signed / "files").mkdir()
    good(*INIT)
    return signed


INIT = (
    *("device", "init", "--state", "state.db", "--vendor", "acme.example"),
    *("--product", "gateway-x1", "--anchor", "pki/ca.crt", "--target-dir", "files"),
)


def test_a_device_is_enrolled(signed: Path) -> None:
    (signed / "files").mkdir()
    found = run(*INIT, "--config", "device.toml")
    assert found.status == 0
    lines = found.out.splitlines()
    assert lines[:3] == [
        "enrolled  acme.example gateway-x1",
        "  config  device.toml",
        f"  memory  {signed / 'state.db'}",
    ]
    assert lines[3].startswith("  anchor  Acme Root CA, key ")
    assert "fwsign: warning: a single anchor" in found.err
    assert found.err.endswith("fwsign: next: fwsign install ENVELOPE --config device.toml\n")
    again = run(*INIT, "--config", "device.toml")
    hint = "fwsign device status shows it; fwsign device reset enrols anew"
    refused(again, 5, "device.toml exists already", hint)
    other = run(*INIT, "--config", "other.toml")
    hint = "put its device.toml back, or name another memory with --state"
    refused(other, 5, "state.db exists already", hint)
    elsewhere = (*INIT[:-1], "nowhere", "--state", "other.db", "--config", "other.toml")
    words = "the target directory nowhere is not there"
    refused(run(*elsewhere), 5, words, "make it first: mkdir -p DIR")


def test_init_in_json_is_the_status(signed: Path) -> None:
    (signed / "files").mkdir()
    made = json.loads(good(*INIT, "--config", "device.toml", "--json"))
    assert made == json.loads(good("device", "status", "--config", "device.toml", "--json"))
    assert made["floor"] is None


def test_a_wrong_revocation_is_a_usage_error(signed: Path) -> None:
    del signed
    refused(
        run(*INIT, "--revocation", "maybe"),
        2,
        'revocation "maybe" is not a choice',
        "choose require, off, or allow-stale:TIME as in allow-stale:30d",
    )


def test_install_and_what_is_there_then(enrolled: Path) -> None:
    found = run("install", "build.bin.suit")
    assert (found.status, found.err) == (0, "")
    head, component, signer = found.out.splitlines()
    assert head.startswith("installed  gateway-x1, sequence ")
    assert component.startswith("  component  build.bin, 800 bytes, ")
    assert signer == "  signer     release, ESP256"
    assert (enrolled / "files/current/build.bin").read_bytes() == (
        enrolled / "build.bin"
    ).read_bytes()
    assert good("install", "build.bin.suit").startswith("already installed  gateway-x1")


def test_install_in_json(enrolled: Path) -> None:
    found = json.loads(good("install", "build.bin.suit", "--json"))
    assert found["verdict"] == "installed"
    assert found["current"] == str(enrolled / "files/current")
    assert found["release"]["product"] == "gateway-x1"
    assert found["unchecked"] == []
    second = json.loads(good("install", "build.bin.suit", "--json"))
    assert (second["verdict"], second["notes"]) == (
        "already installed",
        ["it was installed before"],
    )
    assert second.keys() == found.keys() >= answer.refused("a", "b").keys()


def test_a_dry_run(enrolled: Path) -> None:
    assert good("install", "build.bin.suit", "--dry-run").startswith("dry run  gateway-x1")
    assert list((enrolled / "files").iterdir()) == []


def test_exit_statuses(enrolled: Path) -> None:
    good("install", "build.bin.suit")
    good("sign", "build.bin", "--sequence", "5", "--force")
    old = run("install", "build.bin.suit")
    assert old.status == 4
    assert old.errors[1] == "hint: install the newest release"
    (enrolled / "state.db").unlink()
    lost = run("install", "build.bin.suit", "--json")
    assert (lost.status, json.loads(lost.out)["code"]) == (5, "state.lost")
    assert lost.errors[1].endswith("enrol this device anew: fwsign device reset")


def test_a_revoked_signer_is_refused_with_1(enrolled: Path) -> None:
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    crls = [part for one in (enrolled / "pki/crl").glob("[ci][as]*.crl") for part in ("--crl", one)]
    good("staple", "build.bin.suit", *crls)
    found = run("install", "build.bin.suit", "--json")
    assert (found.status, json.loads(found.out)["code"]) == (1, "untrusted.revoked")
    assert not (enrolled / "files/current").exists()


def test_a_stale_crl_is_refused_with_3(enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW + 200 * DAY)
    found = run("install", "build.bin.suit", "--json")
    assert (found.status, json.loads(found.out)["code"]) == (3, "stale.crl")
    assert not (enrolled / "files/current").exists()


def test_what_has_to_be_named(enrolled: Path) -> None:
    del enrolled
    hint = "fwsign install update.suit"
    refused(run("install"), 2, "name an ENVELOPE, or --resume alone", hint)
    refused(run("install", "a", "--resume"), 2, "name an ENVELOPE, or --resume alone", hint)
    found = run("install", "--resume")
    assert found.errors[0] == "error: no install was begun here: there is nothing to resume"
    assert found.status == 5


def test_status_for_people(enrolled: Path) -> None:
    good("install", "build.bin.suit")
    lines = good("device", "status").splitlines()
    words = [line.split()[0] for line in lines]
    assert words == [
        *("device", "id", "config", "memory", "files", "anchor", "policy", "floor", "time", "crl"),
        *("crl", "installed", "files", "receipts"),
    ]
    assert f"files       {enrolled / 'files'}/current" in lines


def test_status_names_version_files_and_floor(enrolled: Path) -> None:
    (enrolled / "second.bin").write_bytes(b"second")
    typed = ("--output", "update.suit", "--version", "2.4.0", "--sequence", "1700000000")
    good("sign", "build.bin", "second.bin", *typed)
    good("install", "update.suit")
    lines = good("device", "status").splitlines()
    (installed,) = (line for line in lines if line.startswith("installed"))
    assert installed.startswith("installed   sequence 1700000000, version 2.4.0, ")
    assert installed.endswith(": build.bin, second.bin")
    assert "floor       1700000000" in lines
    found = json.loads(good("device", "status", "--json"))["installed"]
    assert (found["version"], found["files"]) == ("2.4.0", ["build.bin", "second.bin"])
    assert (enrolled / "files/versions" / found["directory"]).is_dir()


def test_what_device_toml_waives_is_shown_everywhere(signed: Path) -> None:
    (signed / "files").mkdir()
    config = ("--config", "device.toml")
    made = good(*INIT, *config, "--revocation", "allow-stale:30d")
    assert made.startswith("enrolled  acme.example gateway-x1, waived: stale\n")
    assert good("install", "build.bin.suit", *config).splitlines()[0].endswith(", waived: stale")
    told = json.loads(good("install", "build.bin.suit", *config, "--json"))
    assert (told["verdict"], told["waived"]) == ("already installed", ["stale"])
    assert "waived      stale\n" in good("device", "status", *config)
    assert good("receipts", "show", *config).count("\n  waived: stale\n") == 3


def test_a_refusal_of_the_gateway_is_shown_with_its_reason(enrolled: Path) -> None:
    data = bytearray((enrolled / "build.bin.suit").read_bytes())
    data[-1] ^= 1
    (enrolled / "build.bin.suit").write_bytes(data)
    assert run("install", "build.bin.suit").status == 1
    rows = good("receipts", "show", "--config", "device.toml").splitlines()
    assert rows[2].split()[1:4] == ["gateway-x1", "-", "refused"]
    assert rows[3].startswith(("  tampered.", "  malformed."))


def test_what_is_unfinished_is_shown(enrolled: Path) -> None:
    with (enrolled / "device.toml").open("a") as file:
        file.write('\n[exec]\n"build.bin" = ["/bin/false"]\n')
    found = run("install", "build.bin.suit")
    assert (found.status, found.errors) == (
        5,
        [
            "error: /bin/false ended with status 1",
            "hint: mend the command that device.toml names, then: fwsign install --resume",
        ],
    )
    assert "unfinished  sequence " in good("device", "status")
    assert ": fwsign install --resume\n" in good("device", "status")


def test_waived_revocation_is_shown(signed: Path) -> None:
    (signed / "files").mkdir()
    good(*INIT, "--config", "device.toml", "--revocation", "off")
    out = good("install", "build.bin.suit", "--config", "device.toml")
    assert "  unchecked  revocation (by device.toml)\n" in out


def test_receipts_of_the_gateway(enrolled: Path) -> None:
    good("install", "build.bin.suit")
    rows = good("receipts", "show", "--config", enrolled / "device.toml").splitlines()
    assert [row.split()[-2] for row in rows[1:]] == ["enrolled", "accepted", "installed"]
    out = good("receipts", "verify", "--config", enrolled / "device.toml")
    assert out.startswith("consistent  3 receipts, not signed: a log, not evidence")


def test_receipts_are_signed_by_the_device_key(signed: Path) -> None:
    (signed / "files").mkdir()
    good("key", "new", "device.key", "--no-passphrase")
    good("key", "convert", "device.key", "device.pub", "--to", "public")
    good(*INIT, "--config", "device.toml", "--device-key", "device.key")
    good("install", "build.bin.suit", "--config", "device.toml")
    out = good("receipts", "verify", "--config", "device.toml", "--key", "device.pub")
    assert out.startswith("verified  3 receipts, signed by ")


def test_a_check_that_finds_something_has_status_3(enrolled: Path) -> None:
    good("install", "build.bin.suit")
    assert "files are   in place, every byte\n" in good("device", "status", "--check")
    (path,) = (enrolled / "files/current").iterdir()
    path.write_bytes(path.read_bytes() + b"x")
    assert json.loads(run("device", "status", "--check", "--json").out)["in_place"]["faults"]
    found = run("device", "status", "--check")
    assert found.status == 3
    assert f"files are   changed; {path.name} has " in found.out
    assert "install that release again: fwsign install ENVELOPE" in found.err
    assert run("device", "status").status == 0


def test_reset_is_typed_at_a_terminal(enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good("install", "build.bin.suit")
    refused(
        run("device", "reset"),
        2,
        "fwsign device reset has to be typed at a terminal",
        "nothing was changed",
    )
    monkeypatch.setattr(ui, "is_terminal", lambda stream: stream is sys.stdin)
    found = run("device", "reset", stdin="gateway\n")
    assert found.status == 2
    assert '"gateway" is not the product "gateway-x1"' in found.err
    out = good("device", "reset", stdin="gateway-x1\n")
    assert out.endswith("enrolled  acme.example gateway-x1: the memory begins anew\n")
    assert json.loads(good("device", "status", "--json"))["floor"] is None
    (enrolled / "state.db").unlink()
    out = good("device", "reset", "--json", stdin="gateway-x1\n")  # what was typed, first
    assert json.loads(out[out.index("{") :])["receipts"] == 1


def test_it_is_for_posix_and_says_so(enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del enrolled

    class Windows:
        name = "nt"

    monkeypatch.setattr(session, "os", Windows)
    message = "fwsign install and fwsign device work on POSIX systems only"
    refused(run("install", "build.bin.suit"), 5, message)
    assert run(*INIT, "--config", "other.toml").errors == [f"error: {message}"]
    assert run("device", "status").errors == [f"error: {message}"]


def test_progress_is_for_terminals(enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "is_terminal", lambda _: True)
    found = run("install", "build.bin.suit")
    assert "\rbuild.bin: 100 %\n" in found.err
    assert (enrolled / "files/current/build.bin").exists()


def test_as_a_program_without_a_home(today: Path) -> None:
    (today / "files").mkdir()
    good("sign", "build.bin")
    good(*INIT, "--config", "device.toml")
    found = program(
        "install", "build.bin.suit", "--config", "device.toml", cwd=today, env={"HOME": "/none"}
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("installed  gateway-x1")


def test_two_programs_install_at_once_and_one_of_them_does(today: Path) -> None:
    (today / "build.bin").write_bytes(os.urandom(4_000_000))
    (today / "files").mkdir()
    good("sign", "build.bin")
    good(*INIT, "--config", "device.toml")
    line = command(["install", "build.bin.suit", "--config", "device.toml", "--json"])
    both = [
        subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    found = [(json.loads(one.communicate(timeout=60)[0]), one.returncode) for one in both]
    verdicts = sorted(str(said["code"] or said["verdict"]) for said, _ in found)
    assert verdicts in (["installed", "state.busy"], ["already installed", "installed"]), found
    installed = today / "files/current/build.bin"
    assert installed.read_bytes() == (today / "build.bin").read_bytes()


@pytest.mark.external
def test_verifying_a_file_makes_no_network_call(today: Path) -> None:
    strace = require_program("strace")
    good("sign", "build.bin")
    line = command(["verify", "build.bin.suit"])
    traced = [strace, "-f", "-o", "log", "-e", "trace=network", *line]
    done = subprocess.run(traced, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    calls = (today / "log").read_text()
    assert not re.search(r"\b(socket|connect|sendto|bind)\(", calls), calls
