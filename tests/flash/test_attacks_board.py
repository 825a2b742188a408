# SPDX-License-Identifier: Apache-2.0
"""Boards, cables and people that try to end as verified with something else in the flash."""

import contextlib
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flash.kit import (
    BOOT,
    FACTORY_TABLE,
    OTA_TABLE,
    SECTOR,
    STOCK,
    MemoryBoard,
    board_info,
    content,
    esp_image,
    ignore,
    judging,
    lost,
    noise,
    partition_table,
    run,
)
from flash.smp_kit import image
from fwsign.errors import Failed
from fwsign.flash.boards.board import SECURE_BOOT, BoardInfo, Progress, Run
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Options, Outcome
from fwsign.flash.simulate import Simulated
from fwsign.flash.smp import board as smp
from fwsign.flash.station import Job, Station
from support import refused

APP = esp_image()
PARTS = {"esp32c3@0x10000": APP}
TWO = {**PARTS, "esp32c3@0x90000": noise(5000)}


def blank(table: bytes = FACTORY_TABLE, **info: object) -> MemoryBoard:
    """Return a board with a partition table, and nothing else in its flash."""
    return MemoryBoard(content(at_0=BOOT, at_8000=table), board_info(**info))


def at_first(board: MemoryBoard, what: str, do: Callable[[], object]) -> None:
    """Let something happen once, at the first step of a name."""
    done: list[object] = []

    def fault(_: int) -> None:
        if board.log[-1][0] == what and not done:
            done.append(what)
            do()

    board.fault = fault


def refusal(found: Outcome, status: str, code: str) -> str:
    """Check how a run ended, and return what it said."""
    assert found.error is not None
    assert (found.status, found.error.code) == (status, code)
    return found.error.message


class TestReconnecting:
    """What a board says of itself after the cable was put back."""

    def swap(self, **now: Any) -> Outcome:
        board = blank(digest="crc32", digest_block=SECTOR)

        def change() -> None:
            board.info = board.info._replace(**now)
            raise lost()

        at_first(board, "program", change)
        self.board = board
        return run(board, PARTS)

    def test_a_board_that_shows_nothing_any_more_is_not_good(self) -> None:
        found = self.swap(digest=None, readable=False)
        assert "cannot show what it holds" in refusal(found, "incomplete", "unsuitable.locked")

    def test_a_full_read_back_that_was_asked_for_is_not_replaced_by_digests(self) -> None:
        board = blank()

        def change() -> None:
            board.info = board.info._replace(readable=False)
            raise lost()

        at_first(board, "program", change)
        found = run(board, PARTS, readback="full")
        assert "be read back" in refusal(found, "incomplete", "unsuitable.locked")

    def test_another_boot_loader_with_another_start_is_another_board(self) -> None:
        found = self.swap(identity=None, start=SECTOR)
        refusal(found, "incomplete", "device.changed")

    def test_a_lock_that_was_not_there_before_is_another_board(self) -> None:
        words = refusal(self.swap(locks=(SECURE_BOOT,)), "incomplete", "device.changed")
        assert words == (
            "esp32c3 mac:a0b765c1d2e3, secure boot is at the port "
            "where esp32c3 mac:a0b765c1d2e3 was"
        )


class Damaging(MemoryBoard):
    """A board that destroys a byte elsewhere, once, when it writes to a place."""

    def __init__(self, flash: bytes, when: int, victim: int, **more: Any) -> None:
        super().__init__(flash, board_info(**more))
        self.when, self.victim = when, victim

    def write(self, runs: list[Run], progress: Progress) -> None:  # type: ignore[override]
        """Write, and damage."""
        super().write(runs, progress)
        if any(one.offset == self.when for one in runs):
            self.flash[self.victim] ^= 0x55
            self.when = -1


class TestCollateralDamage:
    """A bit that flips in a command's offset or size writes, or erases, another place."""

    @pytest.mark.parametrize("digest", ["md5", "crc32"])
    @pytest.mark.parametrize("readback", ["digest", "full"])
    def test_a_region_that_was_good_is_verified_after_writing_another(
        self, digest: str, readback: str
    ) -> None:
        flash = bytearray(STOCK)
        flash[0x8000 : 0x8000 + len(FACTORY_TABLE)] = FACTORY_TABLE
        flash[0x10000 : 0x10000 + len(APP)] = APP
        board = Damaging(bytes(flash), 0x90000, 0x10123, digest=digest, digest_block=SECTOR)
        found = run(board, TWO, readback=readback)
        assert found.error is None
        assert found.attempts == 2
        assert board.holds(TWO)

    def test_writing_the_ota_data_may_damage_the_application(self) -> None:
        parts = {"esp32c3@0x50000": APP}
        board = Damaging(content(at_0=BOOT, at_8000=OTA_TABLE), 0xD000, 0x50123)
        found = run(board, parts)
        assert (found.status, found.attempts) == ("verified", 2)
        assert board.holds(parts)


class Deaf(MemoryBoard):
    """A board that takes what is written to the OTA data, and forgets it, some times."""

    times = 1

    def write(self, runs: list[Run], progress: Progress) -> None:  # type: ignore[override]
        """Write, or do nothing."""
        if runs[0].offset != 0xD000 or not self.times:
            super().write(runs, progress)
        else:
            self.times -= 1


@pytest.mark.parametrize(("times", "status"), [(1, "verified"), (99, "incomplete")])
def test_ota_data_that_was_not_written_is_noticed(times: int, status: str) -> None:
    board = Deaf(content(at_0=BOOT, at_8000=OTA_TABLE))
    board.times = times
    found = run(board, {"esp32c3@0x50000": APP})
    assert found.status == status
    if found.error is not None:
        assert "does not hold what was written for the ota data" in found.error.message
    assert board.resets == (status == "verified")


class TestClaims:
    """A receipt says no more than what was done."""

    def test_what_was_verified_before_the_board_was_lost_is_not_told(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "reset":
                board.flash[0x10000] ^= 1
                board.fault = dead
                raise lost()

        def dead(_: int) -> None:
            if board.log[-1][0] == "program":
                raise lost()

        board.fault = fault
        found = run(board, PARTS)
        refusal(found, "incomplete", "device.lost")
        assert found.regions == ()

    def test_bytes_that_were_never_sent_are_not_written_ones(self) -> None:
        board = blank()
        at_first(board, "program", lambda: setattr(board, "fault", always_lost))
        found = run(board, {"esp32c3@0xa0000": noise(50_000)})
        assert (found.status, found.written, found.touched) == ("incomplete", SECTOR, True)

    def test_bytes_written_are_counted_for_each_region(self) -> None:
        board = blank()
        found = run(board, TWO)
        sizes = {one.region.component: one.written for one in found.regions}
        assert sizes == {"esp32c3@0x10000": 5 * SECTOR, "esp32c3@0x90000": 2 * SECTOR}
        assert found.written == 7 * SECTOR

    def test_attempts_are_connections_also_of_a_refused_run(self) -> None:
        found = run(blank(chip="esp32s3"), PARTS)
        refusal(found, "refused", "unsuitable.chip")
        assert found.attempts == 1


def always_lost(_: int) -> None:
    """Be a cable that was pulled for good."""
    raise lost()


def test_digests_that_the_board_cannot_compute_are_not_waived_by_asking_for_them() -> None:
    board = blank(digest=None, digest_block=0)
    found = run(board, PARTS, readback="digest")
    assert (found.status, found.regions[0].how) == ("verified", "sha256")


def test_two_images_for_the_one_slot_of_serial_recovery_are_refused() -> None:
    parts = {"nrf52840@0x0": image(seed=1), "nrf52840@0x40000": image(seed=2)}
    info = BoardInfo("smp", None, None, None, sector=1, digest="image")
    accepted: list[str] = []
    board = MemoryBoard(info=info)
    found = run(board, judging(parts, accepted))
    words = refusal(found, "refused", "unsuitable.payload")
    assert "is of kind 2 images, this board takes one image" in words
    assert (found.touched, accepted, board.did("erase")) == (False, [], [])


def test_serial_recovery_is_believed_about_its_one_image() -> None:
    parts = {"nrf52840@0x0": image(3000)}
    with Simulated("sim:smp") as board:
        connect = smp.connect(board.port)
        first = flash(connect, judging(parts), Options(), ignore)
        again = flash(connect, judging(parts), Options(), ignore)
    assert (first.status, again.status, again.written) == ("device-reported", "device-reported", 0)
    assert first.written == len(parts["nrf52840@0x0"])
    assert first.regions[0].how == "image"
    assert "the board does not tell its chip, the release is for nrf52840" in first.notes


class TestPartitionTables:
    """The board's own table is signed by nobody."""

    def test_ota_data_on_the_boot_loader_is_refused(self) -> None:
        table = partition_table(
            ("otadata", 1, 0, 0x0, 0x2000),
            ("ota_0", 0, 0x10, 0x10000, 0x40000),
            ("ota_1", 0, 0x11, 0x50000, 0x40000),
        )
        board = blank(table)
        found = run(board, {"esp32c3@0x50000": APP})
        words = refusal(found, "refused", "unsuitable.partition")
        assert words == (
            'partition "otadata" is at 0x0 to 0x2000, there is room from 0x9000 to 0x100000'
        )
        assert board.did("erase") == []

    def test_a_damaged_table_of_the_board_is_said_to_be_its_own(self) -> None:
        table = bytearray(FACTORY_TABLE)
        table[40] ^= 1
        found = run(blank(bytes(table)), PARTS)
        words = refusal(found, "refused", "unsuitable.partition")
        assert words.startswith("the board's partition table is damaged: ")

    def test_other_bytes_where_the_table_is_are_refused(self) -> None:
        board = blank(FACTORY_TABLE)
        found = run(board, {**PARTS, "esp32c3@0x8000": b"no table"})
        words = refusal(found, "refused", "unsuitable.region")
        assert words == (
            "esp32c3@0x8000 cannot be written where it is to go: "
            "expected a partition table at 0x8000, found other bytes"
        )
        assert board.did("erase") == []

    def test_a_table_cut_off_by_the_end_of_the_image_is_refused(self) -> None:
        with refused("malformed.image", "partition 1: expected 32 bytes, found 8 bytes"):
            judging({**PARTS, "esp32c3@0x8000": FACTORY_TABLE[:40]})

    def test_rows_for_the_boot_loader_and_the_table_itself_are_below_the_partitions(self) -> None:
        table = partition_table(
            ("bootloader", 2, 0, 0x0, 0x8000),
            ("table", 3, 0, 0x8000, 0x1000),
            ("factory", 0, 0, 0x10000, 0x80000),
        )
        assert run(blank(table), PARTS).status == "verified"

    def test_ota_data_that_cannot_be_read_may_select_anything(self) -> None:
        parts = {**PARTS, "esp32c3@0x8000": OTA_TABLE}
        found = run(blank(readable=False), parts)
        assert found.status == "verified"
        assert found.notes == (
            'boot not controlled: the OTA data that may select "ota_0" cannot be read',
        )

    def test_random_ota_data_never_makes_another_slot_boot_without_a_note(self) -> None:
        states = (0, 1, 2, 3, 4, 0xFFFFFFFF)
        for number, state in enumerate(states * 4):
            raw = noise(2 * SECTOR, number)
            entry = struct.pack("<I", number) + raw[4:24] + struct.pack("<I", state)
            board = blank(OTA_TABLE)
            board.flash[0xD000 : 0xD000 + 2 * SECTOR] = entry + raw[len(entry) :]
            found = run(board, {"esp32c3@0x50000": APP})
            assert (found.status, found.notes) == ("verified", ())
            assert run(board, {"esp32c3@0x50000": APP}).written == 0


class TestStation:
    """One board's mishap is no other board's."""

    def job(self, port: str, board: MemoryBoard) -> Job:
        return Job(port, lambda: contextlib.nullcontext(board.connect), judging(PARTS))

    def test_a_mistake_of_ours_does_not_stop_the_other_boards(self) -> None:
        def fault(_: int) -> None:
            raise ZeroDivisionError

        boards = [blank(), MemoryBoard(fault=fault), blank()]
        station = Station([self.job(str(at), one) for at, one in enumerate(boards)], Options())
        ended: list[str] = []
        with pytest.raises(ZeroDivisionError):
            ended.extend(what.status for _, what in station if isinstance(what, Outcome))
        assert ended == ["verified", "verified"]
        assert boards[0].holds(PARTS)
        assert boards[2].holds(PARTS)

    def test_boards_do_not_go_on_when_nobody_listens_any_more(self) -> None:
        held = threading.Event()
        board = blank()
        at_first(board, "digest", lambda: held.wait(10))
        station = Station([self.job("A", board)], Options())
        happenings = iter(station)
        next(happenings)
        threading.Timer(0.2, held.set).start()
        happenings.close()
        assert station.stopping
        assert board.closed == 1
        assert board.did("erase") == []

    def test_abandoned_boards_are_not_waited_for(self) -> None:
        held = threading.Event()
        board = blank()
        at_first(board, "digest", lambda: held.wait(10))
        station = Station([self.job("A", board)], Options())
        happenings = iter(station)
        next(happenings)
        station.abandon()
        happenings.close()
        assert not held.is_set()
        assert board.closed == 0
        held.set()


def test_a_board_that_refuses_to_finish_is_not_verified() -> None:
    board = blank()

    def fault(_: int) -> None:
        if board.log[-1][0] == "finish":
            raise Failed("device.refused", "the boot loader refused SEAL")

    board.fault = fault
    refusal(run(board, PARTS), "incomplete", "device.refused")
    assert board.resets == 0
    board.fault = ignore
    assert run(board, PARTS).status == "verified"
