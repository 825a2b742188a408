"""Refusals never fill the memory, whatever a server answers; what is not written is counted."""

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed, FwsignError, Untrusted
from fwsign.gateway.enrol import reset, status
from fwsign.gateway.run import refusals
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.refusals import MAX_WRITTEN, Refusals, decode
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines, verify_lines
from gateway.kit import Gateway, make_gateway
from support import NOW, make_pki, refused


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def contents(gateway: Gateway) -> list[dict[str, Any]]:
    with State.open(gateway.base / "state.db") as state:
        return [dict(one.content) for one in judge_lines(state.receipt_lines())]


def poll(gateway: Gateway, first: int, count: int, code: Any = "untrusted.no-anchor") -> None:
    """Refuse envelopes that all differ, a minute after each other."""
    device = gateway.device
    with State.open(device.state) as state, state.transaction():
        for number in range(first, first + count):
            log = Log(state, device, NOW + timedelta(minutes=number), None)
            error = Untrusted(code, f"no {number}")
            log.add("refused", envelope=str(number).encode(), error=error)


def dropped(found: list[dict[str, Any]]) -> int:
    counts = [one["dropped"] for one in found if one["kind"] == "refusals"]
    return sum(sum(one.values()) for one in counts)


@pytest.mark.parametrize("size", [60, 10_000, 62_000, 1_000_000])
@pytest.mark.parametrize("letter", ["x", "\x1b", "\u202e", "\U0001f4a3"])
def test_a_hostile_name_of_any_length_leaves_a_receipt(
    gateway: Gateway, size: int, letter: str
) -> None:
    with State.open(gateway.device.state) as state:
        error = Untrusted("untrusted.no-anchor", f'certificate "{letter * size}" has no anchor')
        Log(state, gateway.device, NOW, None).add("refused", envelope=b"x", error=error)
        assert len(str(state.last_receipt()).encode()) < 8192
    last = contents(gateway)[-1]
    assert (last["result"], last["code"]) == ("refused", "untrusted.no-anchor")
    assert last["message"].startswith('certificate "')
    assert (" bytes]" in last["message"]) == (size > 1000 or len(letter.encode()) * size > 1000)


def test_after_so_many_only_counts_are_written(gateway: Gateway) -> None:
    poll(gateway, 0, MAX_WRITTEN + 100)
    found = contents(gateway)
    refusals = [one for one in found if one["result"] == "refused"]
    told = [one for one in found if one["kind"] == "refusals"]
    assert len(refusals) == MAX_WRITTEN
    assert [sum(one["dropped"].values()) for one in told] == [1, 1, 2, 4, 8, 16, 32]
    assert (told[0]["result"], told[-1]["dropped"]) == ("not written", {"untrusted.no-anchor": 32})
    first = NOW + timedelta(minutes=MAX_WRITTEN + 32)
    assert told[-1]["first"] == first.isoformat()
    assert told[-1]["last"] == (first + timedelta(minutes=31)).isoformat()


def test_the_next_good_receipt_brings_the_rest_of_the_count_and_a_new_budget(
    gateway: Gateway,
) -> None:
    poll(gateway, 0, MAX_WRITTEN + 50)
    poll(gateway, MAX_WRITTEN + 50, 20, "stale.crl")
    gateway.install(gateway.release(1, {"a": b"a"}))
    found = contents(gateway)
    kinds = [(one["kind"], one["result"]) for one in found[-3:]]
    assert kinds == [("refusals", "not written"), ("install", "accepted"), ("install", "installed")]
    assert found[-3]["dropped"] == {"stale.crl": 6}
    assert dropped(found) == 70
    poll(gateway, 1000, 3)
    assert [one["result"] for one in contents(gateway)[-3:]] == ["refused"] * 3


def test_two_refusals_that_alternate_are_each_written_once(gateway: Gateway) -> None:
    one = gateway.release(1, {"a": b"a"}, signers=[(make_pki().leaf, [], ())])
    other = gateway.base / "other.suit"
    other.write_bytes(b"no envelope")
    before = (gateway.base / "state.db").read_bytes()
    for turn in range(3):
        for path in (one, other):
            with pytest.raises(FwsignError):
                gateway.install(path)
        now = (gateway.base / "state.db").read_bytes()
        assert (now == before) == (turn > 0)  # and nothing wears the disk out
        before = now
    codes = [code for result, code in gateway.results if result == "refused"]
    assert codes == ["untrusted.no-anchor", "malformed.cbor"]


def test_signed_refusals_are_capped_by_bytes(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_BYTES", 3000)
    poll(gateway, 0, 40)
    found = contents(gateway)
    written = sum(one["result"] == "refused" for one in found)
    assert 1 <= written < 10
    assert written + dropped(found) >= 40 - 16


def test_a_reset_keeps_the_count(gateway: Gateway) -> None:
    poll(gateway, 0, MAX_WRITTEN + 3)
    reset(gateway.device, NOW, None)
    found = contents(gateway)
    assert (found[-2]["kind"], found[-1]["result"]) == ("refusals", "enrolled anew")
    assert dropped(found) == 3


def test_an_incomplete_release_is_written_once(gateway: Gateway) -> None:
    device = gateway.device
    with State.open(device.state) as state:
        for _ in range(3):
            error = Failed("io.hook", "the command failed")
            Log(state, device, NOW, None).add("incomplete", envelope=b"x", error=error)
    assert [one for one, _ in gateway.results] == ["enrolled", "incomplete"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "7", "null", '{"known": 1}', '{"other": 1}', '{"written": "many"}', "["),
        *('{"written": 1e400}', "[" * 9000, '{"dropped": [[1]]}', '{"first": {}, "last": 1}'),
    ],
)
def test_a_record_of_refusals_that_does_not_read_counts_as_none(text: str) -> None:
    found = decode(text or None)
    assert found._replace(first=None, last=None) == Refusals()
    assert decode(found.encode()) == found


def test_a_record_of_refusals_is_bounded() -> None:
    found = Refusals()
    for number in range(500):
        found = found.with_dropped(f"{number}", f"code.{number}", "now")
    assert len(found.encode()) < 4096
    assert dict(found.dropped)["others"] == 500 - refusals.MAX_CODES
    assert decode(found.encode()) == found


def test_a_year_of_hostile_polls_leaves_a_small_chain(gateway: Gateway) -> None:
    """By the doubling of the count: 525600 polls a year leave 64 receipts, and 19 counts."""
    found = Refusals()
    lines = 0
    for number in range(525_600):
        key = str(number)
        if found.what(key) == "write":
            found, lines = found.with_written(key, 1500), lines + 1
        else:
            found = found._replace(total=found.total + 1)
            lines += found.is_due
    assert lines == MAX_WRITTEN + 20
    poll(gateway, 0, 3000)
    assert (gateway.base / "state.db").stat().st_size < 200_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A partition of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root mounts")
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_year_fits_a_partition_of_2_mb(tmp_path: Path, small_disk: Path) -> None:
    gateway = make_gateway(tmp_path, state=small_disk / "state.db")
    (tmp_path / "state.db").symlink_to(small_disk / "state.db")
    for month in range(12):
        poll(gateway, 1000 * month, 400)
        release = gateway.release(month + 1, {"a": b"%d" % month})
        assert gateway.install(release).verdict == "installed"
    assert status(gateway.device)["installed"]["sequence"] == 12
    assert status(gateway.device)["receipts"] < 12 * 80
    reset(gateway.device, NOW, None)
    with State.open(small_disk / "state.db") as state:
        verify_lines(state.receipt_lines())
    with refused("io.missing"):
        gateway.install(tmp_path / "none.suit")


def test_time_goes_back_and_forth_in_the_counts(gateway: Gateway) -> None:
    """The clock is whatever the device believes; the counts keep its words."""
    device = gateway.device
    with State.open(device.state) as state:
        for number in range(MAX_WRITTEN + 2):
            at = datetime.fromtimestamp(10**9 * (number % 2), NOW.tzinfo)
            error = Untrusted("untrusted.no-anchor", "no")
            Log(state, device, at, None).add("refused", envelope=b"%d" % number, error=error)
    assert dropped(contents(gateway)) == 2
