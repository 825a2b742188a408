"""`fwsign receipts`: copies, pruning, whose they are, and long records in little memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.cli import ui
from fwsign.gateway.config.device import load
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest
from support import for_child

CLOCK = "2026-11-{:02}T12:00:00+00:00"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A memory with a receipt of each of nine days."""
    path = tmp_path / "boards.db"
    with State.open(path, create=True) as state:
        for day in range(1, 10):
            state.append_receipt({"clock": CLOCK.format(day), "device": {"id": "gw-1"}})
    return path


def lines(memory: Path) -> list[str]:
    with State.open(memory) as state:
        return list(state.receipt_lines())


def test_old_receipts_are_copied_and_removed(memory: Path, tmp_path: Path) -> None:
    before, copy = lines(memory), tmp_path / "old.jsonl"
    out = good("receipts", "prune", "--state", memory, "--keep", 4, "--lines", copy)
    assert out == "pruned  5 receipts, 5 left, with the record of those that are gone\n"
    assert copy.read_text().splitlines() == before
    assert lines(memory)[1:] == before[5:]
    found = run("receipts", "verify", "--state", memory, "--head", line_digest(before[4]))
    assert found.status == 0
    assert "since the head given: 4\npruned before: 5, which nothing here shows\n" in found.out
    assert "device: gw-1\n" in found.out
    shown = good("receipts", "show", "--state", memory)
    assert "5 older receipts were pruned" in shown
    assert json.loads(good("receipts", "verify", copy, "--json"))["receipts"] == 9


def test_receipts_before_a_time_are_removed(memory: Path, tmp_path: Path) -> None:
    copy = ("--lines", tmp_path / "old.jsonl")
    time = ("--before", "2026-11-04T00:00:00Z")
    found = json.loads(good("receipts", "prune", "--state", memory, *time, *copy, "--json"))
    assert found == {"verdict": "pruned", "removed": 3, "receipts": 7}
    late = ("--before", "2030-01-01T00:00:00Z")
    good("receipts", "prune", "--state", memory, *late, "--lines", tmp_path / "more.jsonl")
    assert json.loads(lines(memory)[-1])["clock"] == CLOCK.format(9)
    out = good("receipts", "prune", "--state", memory, *late)
    assert out == (
        "pruned  0 receipts, 2 left, with the record of those that are gone\n"
    )  # the record and the newest: nothing to agree to


def test_nothing_is_removed_without_a_copy_or_a_typed_number(memory: Path, tmp_path: Path) -> None:
    before = lines(memory)
    refused(
        run("receipts", "prune", "--state", memory, "--keep", 4),
        2,
        "receipts are removed for good, and there is no terminal to agree at",
        "keep a copy with --lines OUT",
    )
    there = tmp_path / "there.jsonl"
    there.write_text("precious")
    found = run("receipts", "prune", "--state", memory, "--keep", 4, "--lines", there)
    assert found.status == 5
    assert (there.read_text(), lines(memory)) == ("precious", before)
    refused(
        run("receipts", "prune", "--state", memory),
        2,
        "exactly one of --keep and --before is needed",
        "--keep 1000 keeps the newest",
    )
    both = ("--state", memory, "--config", "device.toml")
    refused(
        run("receipts", "prune", *both, "--keep", 1),
        2,
        "more than one of --state and --config",
        "receipts are in one of them",
    )


def test_the_number_is_typed_at_a_terminal(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "is_terminal", lambda stream: stream is sys.stdin)
    before = lines(memory)
    prune = ("receipts", "prune", "--state", memory, "--keep", 4)
    found = run(*prune, stdin="4\n")
    assert found.status == 2
    assert "this removes 5 receipts for good; --lines OUT keeps a copy" in found.err
    assert '"4" is not 5' in found.err
    assert lines(memory) == before
    assert (
        "pruned  5 receipts, 5 left, with the record of those that are gone\n"
        in run(*prune, stdin="5\n").out
    )
    assert lines(memory)[1:] == before[5:]


def test_lines_are_exported_as_they_stand(memory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    good("receipts", "export", "--state", memory, "--lines", copy)
    assert copy.read_text().splitlines() == lines(memory)
    refused(
        run("receipts", "export", "--state", memory, "--lines", copy, "--since", "12h"),
        2,
        "--lines goes alone",
        "it writes the receipts as they stand",
    )
    assert run("receipts", "export", "--state", memory, "--lines", copy).status == 5


def test_a_record_of_another_device_is_refused(memory: Path) -> None:
    good("receipts", "verify", "--state", memory, "--device", "gw-1")
    found = run("receipts", "verify", "--state", memory, "--device", "gw-2")
    assert found.status == 1
    assert 'the receipts are of device "gw-1", not of "gw-2"' in found.err


def enrol(tmp_path: Path, *more: object) -> dict[str, Any]:
    good("init", "--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
    (tmp_path / "target").mkdir()
    own = ("--vendor", "acme.example", "--product", "x1", "--anchor", "pki/ca.crt")
    places = ("--config", "device.toml", "--state", "state.db", "--target-dir", "target")
    found: dict[str, Any] = json.loads(good("device", "init", *own, *places, *more, "--json"))
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_gateway_has_an_id_of_its_own(here: Path) -> None:
    name = enrol(here)["id"]
    assert name.startswith("gw-")
    assert load(here / "device.toml").identity.id == name
    good("receipts", "verify", "--config", "device.toml", "--device", name)
    (only,) = lines(here / "state.db")
    assert json.loads(only)["device"] == {"id": name, "vendor": "acme.example", "product": "x1"}
    old = here / "device.toml"
    kept = [one for one in old.read_text().splitlines() if not one.startswith("id = ")]
    old.write_text("\n".join(kept))
    assert json.loads(good("device", "status", "--config", "device.toml", "--json"))["id"] is None


def test_a_wrong_id_is_a_usage_error(here: Path) -> None:
    del here
    found = run("device", "init", "--id", "x" * 65)
    assert found.status == 2
    assert "cannot be the serial number of a device" in found.err


def test_a_device_certificate_names_the_device(here: Path) -> None:
    good("init", "--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
    good("pki", "issue", "client", "gw-0007", "--no-passphrase")
    found = list((here / "pki").rglob("gw-0007*"))
    keys = [one for one in found if one.suffix == ".key"]
    certificates = [one for one in found if one.suffix == ".crt"]
    (here / "target").mkdir()
    own = ("--vendor", "acme.example", "--product", "x1", "--anchor", "pki/ca.crt")
    places = ("--config", "device.toml", "--state", "state.db", "--target-dir", "target")
    signer = ("--device-key", keys[0], "--device-certificate", certificates[0])
    done = json.loads(good("device", "init", *own, *places, *signer, "--json"))
    assert done["id"] == "gw-0007"
    (root,) = [one for one in (here / "pki").rglob("*tls*.crt") if "chain" not in one.name]
    anchor = ("--config", "device.toml", "--anchor", root)
    good("receipts", "verify", *anchor, "--device", "gw-0007")
    assert run("receipts", "verify", *anchor, "--device", "gw-0008").status == 1


CODE = """
import resource, sys
from fwsign.__main__ import main
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
try:
    main()
finally:
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="its peak is read from /proc")
def test_a_long_record_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with State.open(path, create=True) as state, state.transaction():
        for number in range(12_000):
            state.append_receipt({"clock": "now", "text": "x" * 900, "number": number})
    for words in (["show"], ["show", "--json"], ["verify"]):
        command = [sys.executable, "-c", CODE, "receipts", *words, "--state", str(path)]
        done = subprocess.run(
            command, capture_output=True, check=False, env=for_child(), timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stderr.split()[-1]) < 100 * 1024
        if words[-1] == "--json":
            found = json.loads(done.stdout)
            assert [one["number"] for one in found["receipts"]] == list(range(12_000))
            assert list(found) == ["receipts", "head"]
