"""Old receipts give way to a record of them, and the rest still proves what it did before."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwsign.errors import Failed
from fwsign.keys.file import FileSigner
from fwsign.memory.state import State
from fwsign.receipts.chain import Summary, line_digest, make_line, pruning, verify_lines
from receipts.test_receipts import anchor_of, station
from support import new_key, refused


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state.db", create=True) as found:
        fill(found, 10)
        yield found


def fill(state: State, count: int, signer: FileSigner | None = None) -> None:
    with state.transaction():
        for number in range(count):
            state.append_receipt({"number": number}, signer)


def lines(state: State) -> list[str]:
    return list(state.receipt_lines())


def summary(state: State, **more: object) -> Summary:
    return verify_lines(state.receipt_lines(), **more)  # type: ignore[arg-type]


def test_the_chain_begins_with_a_record_of_what_is_gone(state: State) -> None:
    before = lines(state)
    assert state.prune_receipts(6, {"clock": "now"}) == 6
    record, *rest = lines(state)
    assert rest == before[6:]
    assert json.loads(record) == {
        "clock": "now",
        "kind": "pruned",
        "pruned": {"receipts": 6, "head": line_digest(before[5])},
        "previous": None,
    }
    assert summary(state) == Summary(5, 0, (), line_digest(before[9]), None, 6, None)
    assert state.receipt_count() == 5


def test_a_second_pruning_counts_all_that_are_gone(state: State) -> None:
    before = lines(state)
    state.prune_receipts(3, {})
    assert state.prune_receipts(4, {}) == 3  # the record of the first one, and three more
    found = json.loads(lines(state)[0])["pruned"]
    assert found == {"receipts": 6, "head": line_digest(before[5])}
    assert state.prune_receipts(1, {}) == 0  # nothing but the record
    fill(state, 3)
    assert summary(state).pruned == 6


def test_the_newest_receipt_stays(state: State) -> None:
    last = lines(state)[-1]
    assert state.prune_receipts(10**6, {}) == 9
    assert lines(state)[1:] == [last]
    assert state.prune_receipts(10**6, {}) == 0
    assert state.last_receipt() == last


@pytest.mark.parametrize("drop", [0, -1])
def test_nothing_to_prune_changes_nothing(state: State, drop: int) -> None:
    before = lines(state)
    assert state.prune_receipts(drop, {}) == 0
    assert lines(state) == before


def test_an_empty_memory_has_nothing_to_prune(tmp_path: Path) -> None:
    with State.open(tmp_path / "empty.db", create=True) as empty:
        assert (empty.prune_receipts(3, {}), empty.receipt_count()) == (0, 0)


def test_heads_before_and_after_the_cut(state: State) -> None:
    before = lines(state)
    state.prune_receipts(6, {})
    assert summary(state, head=line_digest(before[5])).since == 4  # the last one that is gone
    assert summary(state, head=line_digest(before[7])).since == 2
    words = "none of 5 receipts is the head .*, and 6 older ones were pruned: the end was cut off"
    with pytest.raises(Exception, match=words) as caught:
        summary(state, head=line_digest(before[2]))
    assert getattr(caught.value, "code", None) == "tampered.receipt-head"


def test_the_record_is_signed_like_every_line(tmp_path: Path) -> None:
    key = new_key()
    with State.open(tmp_path / "signed.db", create=True) as state:
        fill(state, 5, FileSigner(key))
        state.prune_receipts(2, {}, FileSigner(key))
        assert summary(state, keys=[anchor_of(key)]).signed == 4
        state.prune_receipts(2, {})
        with refused("untrusted.receipt", "receipt 1: it is not signed"):
            summary(state, keys=[anchor_of(key)])


def test_a_forged_record_of_pruning_does_not_join_a_chain(state: State) -> None:
    before = lines(state)
    forged = make_line(pruning(3, "0" * 64), None)
    with refused("tampered.receipt-chain", "receipt 2 names"):
        verify_lines([forged, *before[3:]])
    inside = [*before[:3], make_line(pruning(3, line_digest(before[5])), line_digest(before[2]))]
    with refused("tampered.receipt-chain", "receipt 5 names"):
        verify_lines([*inside, *before[6:]])


@pytest.mark.parametrize(
    "odd",
    [
        {"receipts": 0, "head": "0" * 64},
        {"receipts": "3", "head": "0" * 64},
        {"receipts": True, "head": "0" * 64},
        {"receipts": 3, "head": "00"},
        {"receipts": 3, "head": "\u202e" * 64},
        {"receipts": 3},
        None,
    ],
)
def test_an_odd_record_of_pruning_is_a_line_like_others(odd: object) -> None:
    first = make_line({"kind": "pruned", "pruned": odd}, None)
    assert verify_lines([first, make_line({}, line_digest(first))]).pruned == 0


def test_a_failed_signature_prunes_nothing(state: State) -> None:
    before = lines(state)

    class Broken(FileSigner):
        def sign(self, message: bytes, /) -> bytes:
            del message
            raise Failed("key.failed", "the token is gone")

    with refused("key.failed"):
        state.prune_receipts(5, {}, Broken(new_key()))
    with refused("state.receipt"):
        state.prune_receipts(5, {"a": 1.5})
    assert lines(state) == before


# --- devices --------------------------------------------------------------------------------


def chain(*devices: str | None, signer: FileSigner | None = None, **more: object) -> list[str]:
    found: list[str] = []
    for device in devices:
        receipt = {"device": {"id": device}, **more} if device else {"device": {"vendor": "a"}}
        previous = line_digest(found[-1]) if found else None
        found.append(make_line(receipt, previous, signer))
    return found


def test_receipts_name_their_device() -> None:
    assert verify_lines(chain("gw-1", "gw-1"), device="gw-1").device == "gw-1"
    assert verify_lines(chain(None, "gw-1", None)).device == "gw-1"  # old ones name none
    assert verify_lines(chain(None)).device is None


def test_the_chain_of_another_device_is_refused() -> None:
    with refused("untrusted.receipt", 'the receipts are of device "gw-2", not of "gw-1"'):
        verify_lines(chain("gw-2"), device="gw-1")
    with refused("untrusted.receipt", 'the receipts are of device "unknown", not of "gw-1"'):
        verify_lines(chain(None), device="gw-1")
    assert verify_lines([], device="gw-1").receipts == 0


def test_a_device_does_not_change_within_a_chain() -> None:
    words = 'receipt 2 is of device "gw-2", those before it are of "gw-1"'
    with refused("tampered.receipt-chain", words):
        verify_lines(chain("gw-1", "gw-2"))
    assert verify_lines(chain("gw-1", "gw-2", result="enrolled anew")).device == "gw-2"


def test_the_certificate_must_be_the_devices_own() -> None:
    root, leaf = station()
    signer = FileSigner(leaf.key)
    lines = [make_line({"device": {"id": "station 7"}}, None, signer, [leaf.der])]
    anchors = [root.anchor]
    assert verify_lines(lines, (), anchors, device="station 7").signers == ("station 7",)
    stolen = [make_line({"device": {"id": "gw-1"}}, None, signer, [leaf.der])]
    words = 'the receipts of device "gw-1" are signed by the certificate of "station 7"'
    with refused("untrusted.receipt", words):
        verify_lines(stolen, (), anchors, device="gw-1")
    assert verify_lines(stolen, (), anchors).device == "gw-1"
    assert verify_lines(stolen, [leaf.anchor], device="gw-1").signers == ("station 7",)  # pinned
    _, namesake = station()
    with refused("untrusted.receipt", words):  # a key was given, and not a name
        verify_lines(stolen, [namesake.anchor], anchors, device="gw-1")
    bare = chain("gw-1", signer=FileSigner(key := new_key()))
    assert verify_lines(bare, [anchor_of(key)], device="gw-1").signed == 1


# --- many -----------------------------------------------------------------------------------


def test_many_receipts_slow_nothing_down(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    with State.open(path, create=True) as state:
        fill(state, 1)
        with state.transaction():
            line = str(state.last_receipt())
            for _ in range(20_000):
                state._file.run("INSERT INTO receipts (line) VALUES (?)", line)
    began = time.process_time()
    for _ in range(20):
        with State.open(path) as state:
            assert state.receipt_count() == 20_001
            with state.transaction():
                state.append_receipt({})
                state._file.run("DELETE FROM receipts WHERE number > 20001")
    assert time.process_time() - began < 2


def test_the_record_of_what_is_gone_is_no_head(state: State) -> None:
    state.prune_receipts(6, {})
    with refused("tampered.receipt-head", "none of 5 receipts is the head"):
        summary(state, head=line_digest(lines(state)[0]))
