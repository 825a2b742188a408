"""`fwsign receipts`: show and verify."""

import json
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from fwsign.keys.file import FileSigner
from fwsign.memory.file import default_path
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest
from fwsign.receipts.file import append
from receipts.test_receipts import station
from support import new_key

RECEIPT = {
    "clock": "2026-11-22T12:00:00+00:00",
    "result": "verified",
    "port": "/dev/ttyUSB0",
    "board": {"identity": "mac:a0b765c1d2e3"},
    "release": {"vendor": "acme.example", "product": "x1", "version": "1.2", "sequence_number": 7},
}
TABLE = """\
time                       board             release                   result    signed by (claimed)
2026-11-22T12:00:00+00:00  mac:a0b765c1d2e3  acme.example/x1 1.2 #7    verified  {claim}
2026-11-22T12:00:00+00:00  /dev/ttyUSB0      -                         refused   {claim}
-                          -                 acme.example \\x1b[31m #0  -         {claim}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three receipts without signatures, and what a board could want a terminal to do."""
    return write(tmp_path / "station.jsonl", None)


def write(path: Path, signer: FileSigner | None, chain: tuple[bytes, ...] = ()) -> Path:
    odd = {"vendor": "acme.example", "version": "\x1b[31m", "sequence_number": 0}
    refusal = {**RECEIPT, "board": None, "release": None, "result": "refused"}
    for receipt in (RECEIPT, refusal, {"release": odd, "board": [1]}):
        append(path, receipt, signer, chain)
    return path


def key_file(path: Path) -> tuple[FileSigner, Path]:
    good("key", "new", path / "station.key", "--no-passphrase")
    good("key", "convert", path / "station.key", path / "station.pub", "--to", "public")
    from fwsign.keys.file import open_signer  # made just now

    return open_signer(path / "station.key", lambda: None), path / "station.pub"


def test_a_table_has_a_line_for_each(log: Path) -> None:
    assert good("receipts", "show", log) == TABLE.format(claim="-")


def test_what_is_claimed_is_shown_as_a_claim(tmp_path: Path) -> None:
    signer, _ = key_file(tmp_path)
    path = write(tmp_path / "signed.jsonl", signer)
    claim = good("receipts", "show", path).splitlines()[1].split()[-1]
    assert len(claim) == 16
    assert good("receipts", "show", path) == TABLE.format(claim=claim)


def test_json_has_every_receipt_and_the_head(log: Path) -> None:
    found = json.loads(good("receipts", "show", log, "--json"))
    lines = log.read_text().splitlines()
    assert found == {"receipts": list(map(json.loads, lines)), "head": line_digest(lines[-1])}


def test_a_file_that_is_not_there_has_no_table(tmp_path: Path) -> None:
    found = run("receipts", "show", tmp_path / "no.jsonl")
    words = f"cannot read {tmp_path / 'no.jsonl'}: no such file or directory"
    refused(found, 5, words)


def test_what_is_before_a_wrong_line_is_shown(log: Path) -> None:
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], lines[2]]) + "\n")
    found = run("receipts", "show", log)
    assert found.status == 1
    assert len(found.out.splitlines()) == 2
    assert found.errors[0].startswith("error: receipt 2 names ")
    assert run("receipts", "verify", log).out == ""


def test_a_log_is_called_a_log(log: Path) -> None:
    head = line_digest(log.read_text().splitlines()[-1])
    found = run("receipts", "verify", log)
    assert found == (
        0,
        f"consistent  3 receipts, not signed: a log, not evidence\nhead: {head}\n",
        "fwsign: that the newest ones are still there, only a head kept elsewhere shows: --head\n",
    )


def test_signed_receipts_are_verified(tmp_path: Path) -> None:
    signer, public = key_file(tmp_path)
    path = write(tmp_path / "signed.jsonl", signer)
    out = good("receipts", "verify", path, "--key", public)
    assert out.startswith("verified  3 receipts, signed by ")
    head = out.split()[-1]
    append(path, RECEIPT, signer)
    out = good("receipts", "verify", path, "--key", public, "--head", head)
    assert "since the head given: 1\n" in out
    found = json.loads(good("receipts", "verify", path, "--key", public, "--json"))
    assert (found["verdict"], found["receipts"], found["signed"]) == ("verified", 4, 4)


def test_a_station_is_named_by_its_certificate(tmp_path: Path) -> None:
    root, leaf = station()
    path = write(tmp_path / "signed.jsonl", FileSigner(leaf.key), (leaf.der,))
    (tmp_path / "root.crt").write_bytes(root.der)
    out = good("receipts", "verify", path, "--anchor", tmp_path / "root.crt")
    assert out.startswith("verified  3 receipts, signed by station 7\n")


def test_signed_receipts_without_a_key_are_not_called_good(tmp_path: Path) -> None:
    path = write(tmp_path / "signed.jsonl", FileSigner(new_key()))
    refused(
        run("receipts", "verify", path),
        2,
        "3 of 3 receipts are signed, and no key was given",
        "name it with --key PEM, or its root with --anchor PEM",
    )


def test_unsigned_receipts_are_refused_where_a_key_was_given(log: Path, tmp_path: Path) -> None:
    _, public = key_file(tmp_path)
    refused(
        run("receipts", "verify", log, "--key", public),
        1,
        "receipt 1: it is not signed",
        "--key names what signed, --anchor its root",
    )


def test_a_head_shows_what_was_cut_off(log: Path) -> None:
    head = good("receipts", "verify", log).split()[-1]
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    found = run("receipts", "verify", log, "--head", head, "--json")
    assert found.status == 1
    assert json.loads(found.out)["code"] == "tampered.receipt-head"
    assert run("receipts", "verify", log, "--head", "abc").status == 2


def test_no_receipts_are_not_good(log: Path) -> None:
    log.write_text("")
    refused(run("receipts", "verify", log), 5, "there are no receipts")
    assert json.loads(good("receipts", "show", log, "--json")) == {"receipts": [], "head": None}
    assert len(good("receipts", "show", log).splitlines()) == 1


def test_the_memory_of_boards_has_receipts(tmp_path: Path) -> None:
    refused(
        run("receipts", "show"),
        5,
        f"the device's memory {default_path()} is not there",
        "--config FILE names a gateway's; the one of boards is made by the first fwsign flash",
    )
    for path in (default_path(), tmp_path / "other.db"):
        with State.open(path, create=True) as memory:
            memory.append_receipt(RECEIPT)
    assert "1 receipt, not signed" in good("receipts", "verify")
    assert len(good("receipts", "show", "--state", tmp_path / "other.db").splitlines()) == 2
    found = run("receipts", "show", "a.jsonl", "--state", "b.db")
    refused(
        found, 2, "more than one of a file, --state and --config", "receipts are in one of them"
    )
