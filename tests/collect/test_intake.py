"""What a collector stores and notices: in SQLite, and the same in PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collect.kit import (
    Chain,
    Taker,
    body_of,
    chain_of,
    collector,
    device_leaf,
    devices_ca,
    release,
    sqlite_address,
)
from fwsign.collect.store import FleetStore, open_store
from support import NOW

FORGED = "SELECT client, claimed, code, message, times FROM forged"


@pytest.fixture
def taker(store: FleetStore) -> Taker:
    """A collector with an empty store."""
    return collector(store)


def test_lines_are_stored_and_acknowledged(taker: Taker) -> None:
    device = chain_of("gw-1", 3)
    reply = taker.send(device.lines)
    assert (reply.status, reply.content) == (
        200,
        {"device": "gw-1", "head": device.head, "lines": 3},
    )
    assert taker.stored() == 3
    assert taker.running() == [("gw-1", "", "1.2.0", "installed")]
    assert taker.rows("SELECT line FROM receipts ORDER BY receipt") == [
        (line,) for line in device.lines
    ]
    assert taker.rows("SELECT DISTINCT signer, chain FROM receipts") == [("gw-1", 1)]


def test_the_same_lines_again_are_stored_once(taker: Taker) -> None:
    device = chain_of("gw-1", 3)
    for lines in (device.lines[:2], device.lines, device.lines, device.lines[2:]):
        assert taker.send(lines).content["head"] == device.head or len(lines) == 2
    assert taker.stored() == 3
    assert taker.breaks == []


def test_receipt_replay_by_another_device_is_refused(taker: Taker) -> None:
    device = chain_of("gw-1", 2)
    taker.send(device.lines)
    reply = taker.send(device.lines, "gw-2")
    assert (reply.status, reply.content["code"]) == (422, "untrusted.receipt")
    assert reply.content["message"] == 'the receipts of device "gw-1" came from "gw-2"'
    assert taker.rows("SELECT name, receipts FROM devices") == [("gw-1", 2)]
    assert taker.rows(FORGED) == [
        ("gw-2", "gw-1", "untrusted.receipt", reply.content["message"], 1)
    ]


def test_receipt_replay_under_another_name_is_refused(taker: Taker) -> None:
    """A device cannot sign receipts that name another one."""
    thief = Chain("gw-2")
    thief.name = "gw-1"
    thief.add()
    reply = taker.send(thief.lines, "gw-1")
    assert (reply.status, reply.content["code"]) == (422, "untrusted.receipt")
    assert reply.content["message"] == (
        'the receipts of device "gw-1" are signed by the certificate of "gw-2"'
    )
    assert taker.rows("SELECT COUNT(*) FROM receipts") == [(0,)]


def test_a_station_may_hand_in_receipts_of_others(taker: Taker) -> None:
    device = chain_of("gw-1", 2)
    station = taker._replace(trust=taker.trust._replace(stations=("line-3",)))
    assert station.send(device.lines, "line-3").content["device"] == "gw-1"
    assert station.send(device.lines, "line-4").status == 422


@pytest.mark.parametrize("name", ["a\0b", "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))])
def test_a_name_that_no_database_keeps_is_refused(taker: Taker, name: str) -> None:
    """A station would be told for ever to come back later."""
    loose = collector(taker.store, stations=("line-3",), unsigned=True)
    device = chain_of(name, 1, signed=False, own=(device_leaf("line-3"), devices_ca()))
    reply = loose.send(device.lines, "line-3")
    assert (reply.status, reply.content["code"]) == (422, "malformed.receipt")
    assert reply.content["message"].startswith(f"the receipt names device {name!r:.30}")
    assert taker.rows("SELECT name FROM devices") == []


def test_an_old_copy_from_a_station_does_not_set_a_device_back(taker: Taker) -> None:
    device = chain_of("gw-1", 3)
    station = taker._replace(trust=taker.trust._replace(stations=("line-3",)))
    assert station.send(device.lines).status == 200
    assert station.send(device.lines[:1], "line-3").status == 200
    assert taker.breaks == []
    assert station.send(device.lines[:1]).status == 200
    assert taker.breaks == [("behind", False)]


def test_forged_receipt_is_kept_apart_and_not_counted(taker: Taker) -> None:
    device = chain_of("gw-1", 3)
    forged = device.lines[1].replace('"result":"installed"', '"result":"committed"')
    reply = taker.send([device.lines[0], forged, device.lines[2]])
    assert reply.status == 422
    assert reply.content["code"] == "tampered.signature"
    assert reply.content["message"].startswith("receipt 2: ")
    assert (reply.content["device"], reply.content["lines"]) == ("gw-1", 1)
    assert taker.stored() == 1
    taker.send([forged])
    assert [(one[0], one[2], one[4]) for one in taker.rows(FORGED)] == [
        ("gw-1", "tampered.signature", 2)
    ]
    assert taker.send(device.lines).content["lines"] == 3  # the genuine ones come after all


def test_forged_receipts_of_one_client_are_bounded(taker: Taker) -> None:
    for number in range(70):
        assert taker.send([f'{{"n":{number}}}']).status == 422
    ((count, times),) = taker.rows("SELECT COUNT(*), SUM(times) FROM forged")
    assert (count, times) == (64, 70)


def test_forged_lines_by_a_broker_are_bounded_and_blame_no_device(taker: Taker) -> None:
    """The topic is the broker's word: it has as many names as it likes."""
    for number in range(70):
        reply = taker.send([f'{{"n":{number}}}'], f"gw-{number}", direct=False)
        assert reply.status == 422
    found = taker.rows("SELECT client, COUNT(*), SUM(times) FROM forged GROUP BY client")
    assert [(one[0], int(one[1]), int(one[2])) for one in found] == [("a broker", 64, 70)]


@pytest.mark.parametrize("before", ["zz", "", "ab", "AB" * 32, "0" * 63 + "\0"])
def test_a_first_line_after_no_digest_is_refused(taker: Taker, before: str) -> None:
    device = Chain("gw-1")
    device.lines = []
    device.add(previous=before or "-")
    reply = taker.send(device.lines)
    assert (reply.status, reply.content["code"]) == (422, "malformed.receipt")
    assert reply.content["message"] == "receipt 1 names no digest as that of the line before"


def test_a_simulated_board_is_in_no_history_of_a_real_one(taker: Taker) -> None:
    station = Chain("line-1")
    for simulated in (True, False):
        board = {"identity": "mac:01", "simulated": simulated}
        station.add("verified", kind="flash", board=board, release=release("1.0", 1))
    assert taker.send(station.lines, "line-1").status == 200
    assert taker.rows("SELECT board FROM receipts ORDER BY receipt") == [(None,), ("mac:01",)]
    assert ("line-1", "mac:01", "1.0", "installed") in taker.running()


def test_a_receipt_without_a_signature_is_refused(taker: Taker) -> None:
    device = chain_of("gw-1", 1, signed=False)
    reply = taker.send(device.lines)
    assert reply.content["message"] == "receipt 1: it is not signed"
    loose = taker._replace(trust=taker.trust._replace(unsigned=True))
    assert loose.send(device.lines).status == 200
    assert taker.rows("SELECT signer FROM receipts") == [(None,)]
    # Signed lines are judged all the same.
    signed = chain_of("gw-3", 1)
    assert loose.send(signed.lines, "gw-3").status == 200
    wrong = [signed.lines[0].replace("1.0.0", "1.0.1")]
    assert loose.send(wrong, "gw-3").content["code"] == "tampered.signature"
    # So are those after an unsigned one.
    later = Chain("gw-6")
    later.lines = chain_of("gw-6", 1, signed=False).lines
    later.add()
    assert loose.send(later.lines, "gw-6").status == 200
    assert taker.rows("SELECT signer FROM receipts ORDER BY receipt DESC LIMIT 1") == [("gw-6",)]
    # And an unsigned line is only of the client that brings it.
    other = chain_of("gw-4", 1, signed=False)
    assert loose.send(other.lines, "gw-5").content["code"] == "untrusted.receipt"


def test_deleted_receipts_in_the_middle_are_a_gap_until_they_come(taker: Taker) -> None:
    device = chain_of("gw-1", 6)
    taker.send(device.lines[:2])
    reply = taker.send(device.lines[4:])
    assert reply.status == 200
    assert reply.content["after"] == head_at(device, 1)
    assert taker.breaks == [("gap", False)]
    assert taker.running() == [("gw-1", "", "1.5.0", "installed")]
    taker.send(device.lines[2:4])
    assert taker.breaks == [("gap", True)]
    assert taker.stored() == 6
    # What came late does not change what runs, and the next line is the next one.
    assert taker.running() == [("gw-1", "", "1.5.0", "installed")]
    device.add()
    taker.send(device.lines[5:])
    assert taker.breaks == [("gap", True)]


def test_a_gap_is_filled_piece_by_piece(taker: Taker) -> None:
    device = chain_of("gw-1", 8)
    taker.send(device.lines[:1])
    taker.send(device.lines[6:])
    taker.send(device.lines[4:6])
    assert sorted(taker.breaks) == [("gap", False), ("gap", True)]
    taker.send(device.lines)
    assert {closed for _, closed in taker.breaks} == {True}
    assert taker.stored() == 8


def test_deleted_receipts_at_the_end_are_a_fork(taker: Taker) -> None:
    device = chain_of("gw-1", 5)
    taker.send(device.lines)
    back = Chain("gw-1")
    back.lines = device.lines[:3]
    taker.send(back.lines)  # an older end than is known
    assert taker.breaks == [("behind", False)]
    back.add("refused", code="stale.crl")
    reply = taker.send(back.lines)
    assert reply.status == 200
    assert taker.breaks == [("behind", True), ("fork", False)]
    back.add()
    taker.send(back.lines[4:])
    assert taker.breaks == [("behind", True), ("fork", False)]
    assert taker.stored() == 7
    lost = taker.rows("SELECT digest, chain FROM breaks WHERE kind = 'fork'")
    assert lost == [(bytes.fromhex(str(head_at(device, 2))), 2)]


def test_a_device_that_is_behind_and_comes_back_is_whole_again(taker: Taker) -> None:
    device = chain_of("gw-1", 4)
    taker.send(device.lines)
    taker.send(device.lines[:2])
    taker.send(device.lines[:3])
    assert taker.breaks == [("behind", False)]
    taker.send(device.lines[2:])
    assert taker.breaks == [("behind", True)]


def test_what_a_broker_sends_again_says_nothing_of_the_device(taker: Taker) -> None:
    device = chain_of("gw-1", 4)
    taker.send(device.lines)
    taker.send(device.lines[:2], direct=False)
    assert taker.breaks == []


@pytest.mark.parametrize("who", ["broker", "station", "itself"])
def test_receipt_replay_does_not_let_a_dead_device_look_alive(taker: Taker, who: str) -> None:
    """Whoever has an old copy of its lines can bring them for ever; only new lines are its word."""
    device = chain_of("gw-1", 4)
    taker.send(device.lines[:3])
    later = collector(taker.store, at=NOW + timedelta(days=9), stations=("line-3",))
    client, direct = ("line-3" if who == "station" else "gw-1"), who != "broker"
    assert later.send(device.lines[:3], client, direct=direct).status == 200
    ((heard,),) = taker.rows("SELECT last_heard FROM devices")
    assert heard == (NOW + timedelta(days=9 * (who == "itself"))).timestamp()
    assert later.send(device.lines[3:], client, direct=direct).status == 200
    ((heard,),) = taker.rows("SELECT last_heard FROM devices")
    assert heard == (NOW + timedelta(days=9)).timestamp()


def test_a_memory_that_was_lost_is_a_restart(taker: Taker) -> None:
    device = chain_of("gw-1", 2)
    taker.send(device.lines)
    anew = Chain("gw-1")
    anew.add("enrolled anew: the memory was lost", kind="device")
    taker.send(anew.lines)
    assert taker.breaks == [("restart", False)]
    assert taker.rows("SELECT chain, head FROM devices") == [(2, bytes.fromhex(str(anew.head)))]
    assert taker.running() == [("gw-1", "", "1.1.0", "installed")]


def test_pruned_receipts_that_never_came_are_noticed(taker: Taker) -> None:
    device = chain_of("gw-1", 4)
    kept = Chain("gw-1")
    gone: dict[str, Any] = {"kind": "pruned", "pruned": {"receipts": 2, "head": head_at(device, 1)}}
    kept.add("pruned", **gone)
    taker.send([kept.lines[0], *device.lines[2:]])
    assert taker.breaks == [("pruned", False)]
    taker.send(device.lines[:2])
    assert taker.breaks == [("pruned", True)]
    assert taker.stored() == 5


def test_pruned_receipts_that_came_before_are_no_break(taker: Taker) -> None:
    device = chain_of("gw-1", 5)
    taker.send(device.lines[:4])
    kept = Chain("gw-1")
    gone: dict[str, Any] = {"kind": "pruned", "pruned": {"receipts": 2, "head": head_at(device, 1)}}
    kept.add("pruned", **gone)
    assert taker.send([kept.lines[0], *device.lines[2:]]).status == 200
    assert taker.breaks == []
    assert taker.rows("SELECT head FROM devices") == [(bytes.fromhex(str(device.head)),)]


def test_what_runs_follows_trials(taker: Taker) -> None:
    device = chain_of("gw-1", 1)
    new = release("2.0.0", 2000)
    device.add("on trial", release=new)
    taker.send(device.lines)
    assert taker.running() == [("gw-1", "", "2.0.0", "on trial")]
    device.add("fell back", manifest=new["manifest_digest"], trial={"before": f"{1000:064x}"})
    taker.send(device.lines)
    assert taker.running() == [("gw-1", "", "1.0.0", "installed")]
    device.add("on trial", release=new)
    device.add("committed", release=new)
    taker.send(device.lines)
    assert taker.running() == [("gw-1", "", "2.0.0", "installed")]
    device.add("fell back", trial={"before": None})
    device.add("refused", release=release("3.0.0", 3000), code="stale.crl")
    taker.send(device.lines)
    assert taker.running() == [("gw-1", "", None, "installed")]


def test_boards_run_what_was_flashed(taker: Taker) -> None:
    device = Chain("gw-1")
    for identity, result in (("mac:01", "verified"), ("mac:02", "failed")):
        board = {"identity": identity, "simulated": False}
        device.add(result, kind="flash", board=board, release=release("1.0.0", 1, "sensor"))
    taker.send(device.lines)
    assert [one[1:3] for one in taker.running()] == [
        ("", None),
        ("mac:01", "1.0.0"),
        ("mac:02", None),
    ]


def test_lines_of_two_devices_are_taken_one_after_the_other(taker: Taker) -> None:
    """A gateway that was enrolled under another name goes on with its chain."""
    first = chain_of("gw-1", 2)
    second = Chain("gw-2")
    second.lines = list(first.lines)
    second.add("enrolled anew", kind="device")
    station = taker._replace(trust=taker.trust._replace(stations=("line-3",)))
    reply = station.send(second.lines, "line-3")
    assert (reply.content["device"], reply.content["lines"]) == ("gw-1", 2)
    assert station.send(second.lines[2:], "line-3").content["device"] == "gw-2"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "malformed.receipt", "the batch is not lines of receipts"),
        (b"\n", "malformed.receipt", "the batch is not lines of receipts"),
        (b"\xff\xfe", "malformed.receipt", "the batch is not lines of receipts"),
        (b"{}\n" * 1001, "malformed.size", "a batch of 1001 lines, at most 1000 are allowed"),
        (b" " * (1024 * 1024 + 1), "malformed.size", "a batch of 1048577 bytes"),
    ],
)
def test_what_is_no_batch_is_refused(taker: Taker, body: bytes, code: str, words: str) -> None:
    reply = taker.service.receive(body, "gw-1", taker.trust)
    assert (reply.status, reply.content["code"]) == (400, code)
    assert words in reply.content["message"]
    assert taker.rows("SELECT COUNT(*) FROM forged") == [(0,)]


def test_texts_that_databases_refuse_are_stored(taker: Taker) -> None:
    device = Chain("gw-1")
    device.add("refused\0", code="a\0b" * 1000, release={"version": "1\0", "sequence_number": -1})
    device.add(clock="never", release={"manifest_digest": "zz" * 32, "sequence_number": True})
    device.add(clock="0001-01-01T00:00:00+23:59", release=[], board=7, device=None)
    assert taker.send(device.lines).status == 200
    found = taker.rows("SELECT result, version, sequence, manifest, clock FROM receipts")
    assert found[0][:3] == ("refused\\x00", "1\\x00", None)
    assert found[1][2:] == (None, None, None)
    reply = taker.send(['{"device":{"id":"\\u0000\\ud800"},"previous":null}'])
    assert reply.status == 422


def head_at(device: Chain, number: int) -> str | None:
    """Return the digest of a line by its number from 0 on."""
    other = Chain(device.name)
    other.lines = device.lines[: number + 1]
    return other.head


def test_any_byte_that_is_changed_makes_no_other_receipt(tmp_path: Path) -> None:
    """Whatever is changed in a line, it is refused with a code, and what was good before counts."""
    device = chain_of("gw-1", 2)
    whole = body_of(device.lines)
    with open_store(sqlite_address(tmp_path)) as store:
        taker = collector(store)
        for at in range(0, len(whole) - 1, 61):
            for change in (1, 128):
                body = bytearray(whole)
                body[at] ^= change
                reply = taker.service.receive(bytes(body), "gw-1", taker.trust)
                assert reply.status in (400, 422), (at, reply)
                assert "." in reply.content["code"]
        first = len(device.lines[0])
        for end in set(range(1, len(whole) - 1, 101)) - {first, first + 1}:
            reply = taker.service.receive(whole[:end], "gw-1", taker.trust)
            assert reply.status == 422
        assert taker.rows("SELECT DISTINCT line FROM receipts") == [(device.lines[0],)]
        assert taker.rows("SELECT COUNT(*) FROM forged") == [(64,)]
        assert taker.send(device.lines).content["head"] == device.head
        assert taker.breaks == []


def test_the_same_lines_at_once_are_stored_once(taker: Taker) -> None:
    device = chain_of("gw-1", 12)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: taker.send(device.lines), range(8)))
    assert [one.content["head"] for one in replies] == [device.head] * 8
    assert taker.stored() == 12
    assert taker.breaks == []
