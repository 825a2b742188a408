"""Data for one board in its plan: the row that is chosen, the place, and races for the next row."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flash.kit import (
    STOCK,
    MemoryBoard,
    board_info,
    content,
    esp_image,
    ignore,
    partition_table,
    pki,
)
from fwsign.device_data.policy import MAX_POLICY, parse
from fwsign.device_data.rows import read
from fwsign.errors import FwsignError
from fwsign.flash.boards.board import BoardInfo
from fwsign.flash.boards.release import HeldRelease
from fwsign.flash.device_data import Filled, Filler
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judge, Judged, Options, Outcome
from fwsign.flash.verify_per_board import Given, Judging
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import file_identifier, flash_identifier
from fwsign.format.payload import digest
from fwsign.memory.rows import Batch
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy
from support import NOW, PRODUCT, VENDOR, make_manifest, sign_with, verify

TABLE = partition_table(
    ("factory", 0, 0, 0x10000, 0x70000),
    ("device", 1, 2, 0x80000, 0x3000),
    ("custom", 0x40, 0, 0x83000, 0x2000),
)
PARTS = {
    "esp32c3@0x0": esp_image(app=False),
    "esp32c3@0x8000": TABLE,
    "esp32c3@0x10000": esp_image(),
}
HEAD = 'version = 1\n[[partition]]\nchip = "{chip}"\nformat = "raw"\n'
VALUE = '[[partition.value]]\ncolumn = "note"\ntype = "string"\nmax = 100\n'
RAW = HEAD.format(chip="esp32c3") + "offset = 0x83000\nsize = 4096\n" + VALUE
ROWS = b"serial,note\nA,first\nB,second\nC,third\n"


def component(name: str, data: bytes) -> Component:
    image = Digest(SHA256, digest(SHA256, data))
    if "@" not in name:
        return Component(file_identifier(name), image, len(data), name)
    chip, _, offset = name.partition("@")
    return Component(flash_identifier(chip, int(offset, 0)), image, len(data), f"{chip}-{offset}")


def held(
    policy: str | bytes | None = RAW, parts: Mapping[str, bytes] = PARTS, **more: Any
) -> HeldRelease:
    """Hold a release with a policy beside its envelope."""
    data = policy.encode() if isinstance(policy, str) else policy
    every = {**parts, **({"device-data.toml": data} if data is not None else {})}
    components = [component(name, one) for name, one in every.items()]
    release = verify(sign_with(pki(), make_manifest(*components)), [pki().root])
    return HeldRelease(release, lambda one: io.BytesIO(every[one.name]), **more)


def rows_for(state: Path | None, policy: str = RAW, rows: bytes = ROWS, **more: Any) -> Filler:
    parsed = parse(policy.encode())
    usual: dict[str, Any] = {"remember": state is not None, "take_next": True}
    return Filler(
        read(rows, parsed, "rows.csv"), parsed, bytes(16), bytes(16), state, **{**usual, **more}
    )


def judging(filler: Any, **more: Any) -> Judge:
    one = held(**more)
    return lambda _: Judged(one, lambda: None, filler)


def program(board: MemoryBoard, filler: Any, **more: Any) -> Outcome:
    return flash(board.connect, judging(filler, **more), Options(), ignore)


def memory(tmp_path: Path) -> Path:
    path = tmp_path / "boards.db"
    State.open(path, create=True).close()
    return path


def test_the_place_is_a_region_of_the_plan(tmp_path: Path) -> None:
    board = MemoryBoard()
    found = program(board, rows_for(memory(tmp_path)))
    assert found.status == "verified", found.error
    assert [one.region.component for one in found.regions] == [
        "esp32c3@0x10000",
        "device data in 4096 bytes at 0x83000",
        "esp32c3@0x8000",
        "esp32c3@0x0",
    ]
    assert board.flash[0x83000:0x84000] == b"first".ljust(4096, b"\xff")


def test_a_row_that_another_board_was_faster_to_get_is_not_written() -> None:
    class Late(Filler):
        """Loses the race for the first row."""

        lost = 0

        def choose(self, info: BoardInfo) -> Filled:
            del info
            row = list(self.rows.by_serial.values())[Late.lost]
            return Filled(row, self.policy.places)

        def allot(self, info: BoardInfo, filled: Filled | None) -> bool:
            del info, filled
            Late.lost += 1
            return Late.lost > 1

    board = MemoryBoard()
    found = program(board, Late(*rows_for(None)))
    assert found.filled is not None
    assert found.filled.row.serial == "B"
    assert board.flash[0x83000:0x84000] == b"second".ljust(4096, b"\xff")
    assert b"first" not in bytes(board.flash)


def test_a_board_that_lost_the_last_row_is_refused_without_a_row(tmp_path: Path) -> None:
    path = memory(tmp_path)
    one = rows_for(path, rows=b"serial,note\nA,only\n")

    class Late(Filler):
        """Another board gets the row between choosing and allotting."""

        def allot(self, info: BoardInfo, filled: Filled | None) -> bool:
            assert super().allot(info._replace(identity="mac:02"), filled)
            return super().allot(info, filled)

    board = MemoryBoard()
    found = program(board, Late(*one))
    assert found.status == "refused"
    assert found.error is not None
    assert found.error.message == (
        "rows.csv has no row for the board mac:a0b765c1d2e3: none of 1 is free"
    )
    assert found.filled is None
    assert not found.touched


def test_a_row_may_be_lost_between_finding_and_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes the free row just after it was found: the board gets the next."""
    state = memory(tmp_path)
    found = State.first_free
    taken: list[str] = []

    def first_free(self: State, batch: Batch, serials: Any) -> str | None:
        row = found(self, batch, serials)
        if row is not None and not taken:
            taken.append(row)
            assert self.allot(batch, "mac:02", row)
        return row

    monkeypatch.setattr(State, "first_free", first_free)
    outcome = program(MemoryBoard(STOCK), rows_for(state))
    assert (outcome.status, taken) == ("verified", ["A"])
    assert outcome.filled is not None
    assert outcome.filled.row.serial == "B"


def test_wherever_a_run_ends_a_board_that_was_touched_has_its_row(tmp_path: Path) -> None:
    class Cut(Exception):
        """The program ends here."""

    class Program:
        """A program that is killed at one step of its work."""

        def __init__(self, at: int) -> None:
            self.at = at

        def __call__(self, step: int) -> None:
            if step >= self.at:
                raise Cut

    seen = set()
    for at in range(500):
        path = memory(tmp_path / f"{at}")
        board = MemoryBoard(fault=Program(at))
        try:
            program(board, rows_for(path))
        except Cut:
            pass
        else:
            break
        with State.open(path) as state:
            serial = state.serial_of(Batch(bytes(16), bytes(16)), board.info.identity or "")
        touched = bool(board.did("erase"))
        assert serial in (("A",) if touched else ("A", None))
        seen.add((touched, serial))
        board.fault = ignore
        found = program(board, rows_for(path))
        assert found.filled is not None
        assert (found.status, found.filled.row.serial) == ("verified", "A")
    else:
        pytest.fail("it never ends")
    assert seen == {(False, None), (False, "A"), (True, "A")}


def test_without_a_memory_rows_are_chosen_and_none_is_kept(tmp_path: Path) -> None:
    for state in (None, tmp_path / "none.db"):
        found = program(MemoryBoard(), rows_for(state, remember=False))
        assert found.filled is not None
        assert found.filled.row.serial == "A"
    assert not (tmp_path / "none.db").exists()


def test_the_policy_is_neither_unplaced_nor_left_out() -> None:
    one = held()
    assert (one.unplaced, one.left_out) == ((), ())
    assert one.policy == parse(RAW.encode())
    left = held(left_out=["device-data.toml"])
    assert (left.unplaced, left.left_out, left.policy) == ((), ("device-data.toml",), None)
    there = held(elsewhere=["device-data.toml"])
    assert (there.unplaced, there.left_out, there.policy) == ((), (), None)
    assert held(policy=None).policy is None


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (b"version = 2", "malformed.device-data"),
        (b"\xff", "malformed.device-data"),
        (b"#" * (MAX_POLICY + 1), "malformed.size"),
    ],
)
def test_a_signed_policy_that_is_none_is_refused(policy: bytes, code: str) -> None:
    with pytest.raises(FwsignError) as caught:
        held(policy)
    assert caught.value.code == code
    held(policy, left_out=["device-data.toml"])


def test_a_changed_policy_is_noticed() -> None:
    data = RAW.encode()
    one = component("device-data.toml", data)
    parts = {"esp32c3@0x10000": esp_image(), "device-data.toml": data[::-1]}
    components = [component("esp32c3@0x10000", parts["esp32c3@0x10000"]), one]
    release = verify(sign_with(pki(), make_manifest(*components)), [pki().root])
    with pytest.raises(FwsignError) as caught:
        HeldRelease(release, lambda each: io.BytesIO(parts[each.name]))
    assert caught.value.code == "tampered.payload-digest"


def judged(policy: str, filler: Filler | None) -> Judged:
    """Judge a release as the command does, through the memory."""
    every = {**PARTS, "device-data.toml": policy.encode()}
    components = [component(name, one) for name, one in every.items()]
    envelope = sign_with(pki(), make_manifest(*components))
    rules = DevicePolicy(vendor=VENDOR, product=PRODUCT, min_sequence=0, revocation="require")
    one = Judging(Given(envelope, [pki().root.anchor], rules, NOW, (), None, remember=False))
    one.hold(lambda each: io.BytesIO(every[each.name]))
    assert one.policy == parse(policy.encode())
    return one.judge(board_info(), filler=filler)


def test_a_library_cannot_pass_over_a_required_policy() -> None:
    required = RAW.replace("version = 1", "version = 1\nrequired = true")
    with pytest.raises(FwsignError) as caught:
        judged(required, None)
    assert caught.value.code == "unsuitable.device-data"
    filler = rows_for(None, required)
    assert judged(required, filler).filler is filler
    assert judged(RAW, None).filler is None


PLACES = [
    ("offset = 0x83000\nsize = 8192", None),
    ("offset = 0x90000\nsize = 4096", None),
    ('label = "custom"', None),
    (
        "offset = 0x84000\nsize = 8192",
        (
            "expected a place in one partition for data, or in none, found a part of "
            '"custom", 0x83000 to 0x85000'
        ),
    ),
    (
        "offset = 0x10000\nsize = 4096",
        (
            "expected a place in one partition for data, or in none, found a part of "
            '"factory", 0x10000 to 0x80000'
        ),
    ),
    ("offset = 0x1000\nsize = 4096", "expected 0x9000 or more, found 0x1000"),
    ('label = "factory"', "expected a partition for data, found type 0, subtype 0"),
    ("offset = 0x100000\nsize = 4096", "ends at 0x101000, the board's flash at 0x100000"),
]


@pytest.mark.parametrize(("place", "error"), PLACES)
def test_places_on_the_board(place: str, error: str | None) -> None:
    policy = HEAD.format(chip="esp32c3") + place + "\n" + VALUE
    board = MemoryBoard()
    found = program(board, rows_for(None, policy), policy=policy)
    if error is None:
        assert found.status == "verified", found.error
        assert b"first\xff" in bytes(board.flash)
    else:
        assert found.error is not None
        assert error in found.error.message
        assert (found.status, found.touched) == ("refused", False)


def test_a_table_that_moved_up_moves_the_first_place() -> None:
    rows = (("factory", 0, 0, 0x20000, 0x60000), ("device", 1, 2, 0x80000, 0x3000))
    parts = {
        "esp32c3@0x0": esp_image(app=False, size=0xA000),
        "esp32c3@0x10000": partition_table(*rows),
        "esp32c3@0x20000": esp_image(),
    }
    for offset, error in ((0xC000, "expected 0x11000 or more"), (0x11000, None)):
        place = f"offset = {offset}\nsize = 4096\n"
        policy = HEAD.format(chip="esp32c3") + place + VALUE
        found = program(MemoryBoard(), rows_for(None, policy), policy=policy, parts=parts)
        assert (found.error is None) == (error is None), found.error
        assert error is None or error in str(found.error)


def test_without_a_known_table_nothing_is_filled() -> None:
    parts = {"esp32c3@0x10000": esp_image()}
    place = "offset = 0x90000\nsize = 4096"
    for info, where in ((board_info(readable=False), place), (board_info(), 'label = "device"')):
        policy = HEAD.format(chip="esp32c3") + where + "\n" + VALUE
        board = MemoryBoard(b"" if info.readable else STOCK, info=info)
        found = flash(
            board.connect,
            judging(rows_for(None, policy), policy=policy, parts=parts),
            Options(waived=("unbootable", "raw")),
            ignore,
        )
        assert found.error is not None
        assert "and the board's partition table is not known" in found.error.message
        assert not found.touched


def test_data_over_the_releases_own_is_refused() -> None:
    policy = HEAD.format(chip="esp32c3") + "offset = 0x90000\nsize = 4096\n" + VALUE
    parts = {**PARTS, "esp32c3@0x90000": b"the release's own"}
    found = program(MemoryBoard(), rows_for(None, policy), policy=policy, parts=parts)
    assert found.error is not None
    assert found.error.code == "unsuitable.device-data"
    assert found.error.message == (
        "4096 bytes at 0x90000 is for device data, and esp32c3@0x90000 goes there"
    )


def test_a_pico_with_an_identity_has_raw_places() -> None:
    policy = HEAD.format(chip="rp2040") + "offset = 0x1ff000\nsize = 4096\n" + VALUE
    parts = {"rp2040@0x0": bytes(range(256)) * 16}
    info = BoardInfo(
        "pico-uf2", "rp2040", "chipid:e66138935f3a8b2c", 1 << 21, digest=None, readable=True
    )
    board = MemoryBoard(b"\xff" * (1 << 21), info)
    rows = b"serial,mac,note\nA,E66138935F3A8B2C,mine\n"
    filler = rows_for(None, policy, rows, take_next=False)
    found = program(board, filler, policy=policy, parts=parts)
    assert found.status == "verified", found.error
    assert bytes(board.flash[0x1FF000:]) == b"mine".ljust(4096, b"\xff")
    label = policy.replace("offset = 0x1ff000\nsize = 4096", 'label = "x"')
    other = program(MemoryBoard(info=info), rows_for(None, label), policy=label, parts=parts)
    assert 'expected a table with the partition "x", found no known table' in str(other.error)


def test_a_partition_that_is_filled_in_part_is_not_called_kept() -> None:
    boot, app = PARTS["esp32c3@0x0"], PARTS["esp32c3@0x10000"]
    whole = content(at_0=boot, at_8000=TABLE, at_10000=app)
    board = MemoryBoard(content(at_0=boot, at_8000=TABLE, at_80000=b"own", at_84000=b"own"))
    found = program(board, rows_for(None), parts={"esp32c3@0x0": whole})
    assert (found.status, [one.label for one in found.kept]) == ("verified", ["device"])
    assert board.flash[0x83000:0x83006] == b"first\xff"
    assert board.flash[0x84000:0x84003] == board.flash[0x80000:0x80003] == b"own"
