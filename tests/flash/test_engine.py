"""The engine, on a board in memory: comparing, writing, verifying, and any single fault."""

import itertools
import zlib

import pytest

from flash.kit import (
    SECTOR,
    STOCK,
    MemoryBoard,
    board_info,
    esp_image,
    ignore,
    judging,
    lost,
    noise,
    run,
)
from fwsign.errors import Code, Failed
from fwsign.flash.attempts import ATTEMPTS
from fwsign.flash.boards.board import BoardInfo, Run
from fwsign.flash.outcome import Event, Stopped

APP = esp_image()
PARTS = {"esp32c3@0x10000": APP}


def blank(**info: object) -> MemoryBoard:
    """Return a board with a partition table, and nothing else in its flash."""
    return MemoryBoard(STOCK, board_info(**info))


class TestWriting:
    def test_a_blank_board_is_written_and_verified(self) -> None:
        board = blank()
        found = run(board, PARTS)
        assert (found.status, found.error, found.notes) == ("verified", None, ())
        assert board.holds(PARTS)
        assert [one.how for one in found.regions] == ["md5"]
        assert found.written == -(-len(APP) // SECTOR) * SECTOR
        assert (board.resets, board.closed, found.attempts) == (1, 1, 1)
        assert [stage for stage, _ in found.seconds] == [
            "connecting", "comparing", "writing", "verifying", "finishing",
        ]  # fmt: skip

    def test_what_is_there_already_is_not_written(self) -> None:
        board = blank()
        run(board, PARTS)
        board.log.clear()
        found = run(board, PARTS)
        assert (found.status, found.written, found.touched) == ("verified", 0, False)
        assert board.did("erase") == board.did("program") == []
        assert board.did("digest") == [(0x10000, len(APP))]

    @pytest.mark.parametrize(
        ("places", "sectors"),
        [
            ([200_000], [48]),  # one block of five: its sectors are compared as well
            ([0], [0]),
            ([299_999], [73]),
            ([200_000, 204_800, 220_000], [48, 50, 53]),  # all in one block
            ([100, 200_000], [*range(16), *range(48, 64)]),  # two blocks: both are written
        ],
    )
    def test_only_what_differs_is_written(self, places: list[int], sectors: list[int]) -> None:
        large = {"esp32c3@0xa0000": noise(300_000)}
        board = blank()
        run(board, large)
        for place in places:
            board.flash[0xA0000 + place] ^= 1
        board.log.clear()
        found = run(board, large)
        assert (found.status, found.written) == ("verified", SECTOR * len(sectors))
        erased = [offset for offset, _ in board.did("erase")]
        assert erased == [0xA0000 + SECTOR * one for one in sectors]
        assert board.holds(large)

    def test_a_first_write_compares_no_sectors(self) -> None:
        board = blank()
        run(board, {"esp32c3@0xa0000": noise(300_000)})
        assert {size for _, size in board.did("digest")} == {65536, 300_000 % 65536, 300_000}

    def test_force_rewrites_everything(self) -> None:
        board = blank()
        run(board, PARTS)
        found = run(board, PARTS, force_rewrite=True)
        assert (found.status, found.written) == ("verified", -(-len(APP) // SECTOR) * SECTOR)

    def test_bytes_behind_the_last_sector_stay(self) -> None:
        board = blank()
        behind = 0x10000 + -(-len(APP) // SECTOR) * SECTOR
        board.flash[behind : behind + 4] = b"mine"
        run(board, PARTS)
        assert board.flash[behind : behind + 4] == b"mine"

    def test_a_dry_run_changes_nothing(self) -> None:
        board, accepted = blank(), list[str]()
        before = bytes(board.flash)
        found = run(board, judging(PARTS, accepted), dry_run=True)
        assert (found.status, found.touched, accepted) == ("dry run", False, [])
        assert bytes(board.flash) == before
        assert board.resets == 1  # it goes on as before

    def test_the_memory_is_told_before_the_first_erase(self) -> None:
        accepted: list[str] = []
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "erase":
                assert accepted == ["mac:a0b765c1d2e3"]

        board.fault = fault
        assert run(board, judging(PARTS, accepted)).status == "verified"
        assert board.did("erase")
        assert accepted == ["mac:a0b765c1d2e3"]

    def test_a_memory_that_refuses_leaves_the_board_alone(self) -> None:
        board = blank()

        def judge(info: BoardInfo) -> object:
            def accept() -> None:
                raise Failed("state.conflict", "another release was accepted meanwhile")

            return judging(PARTS)(info)._replace(accept=accept)

        found = run(board, judge)  # type: ignore[arg-type]
        assert (found.status, found.touched) == ("refused", False)
        assert found.error is not None
        assert found.error.code == "state.conflict"
        assert board.did("erase") == []


class TestVerifying:
    def test_full_reads_everything_back(self) -> None:
        board = blank()
        found = run(board, PARTS, readback="full")
        assert (found.status, found.regions[0].how) == ("verified", "sha256")
        assert (0x10000, len(APP)) in board.did("read")

    def test_crc_alone_is_only_what_the_board_reports(self) -> None:
        board = blank(digest="crc32", digest_block=SECTOR)
        found = run(board, PARTS, readback="digest")
        assert (found.status, found.regions[0].how) == ("device-reported", "crc32")

    def test_crc_with_a_read_back_is_verified(self) -> None:
        board = blank(digest="crc32", digest_block=SECTOR)
        assert run(board, PARTS).status == "verified"
        again = run(board, PARTS)
        assert (again.status, again.written, again.regions[0].how) == ("verified", 0, "sha256")

    def test_crc_without_reading_is_only_what_the_board_reports(self) -> None:
        board = blank(digest="crc32", digest_block=SECTOR, readable=False)
        assert run(board, PARTS).status == "device-reported"

    def test_a_board_that_shows_nothing_is_refused_unless_that_was_accepted(self) -> None:
        board = blank(digest=None, readable=False)
        found = run(board, PARTS)
        assert (found.status, found.touched) == ("refused", False)
        assert found.error is not None
        assert found.error.code == "unsuitable.locked"
        found = run(board, PARTS, accept_unverifiable=True)
        assert (found.status, found.regions[0].how) == ("not verifiable", "none")
        assert board.holds(PARTS)

    def test_full_read_back_is_refused_where_nothing_can_be_read(self) -> None:
        found = run(blank(readable=False), PARTS, readback="full")
        assert found.status == "refused"
        assert found.error is not None
        assert "does not let its flash be read back" in found.error.message

    def test_a_stuck_bit_ends_incomplete(self) -> None:
        board = blank()
        at = 0x10000 + APP.index(b"\xff")

        def stick(_: int) -> None:
            board.flash[at] &= 0x7F

        board.fault = stick
        found = run(board, PARTS)
        assert (found.status, found.touched, found.attempts) == ("incomplete", True, ATTEMPTS)
        assert found.error is not None
        assert found.error.code == "device.mismatch"
        assert board.resets == 0

    def test_a_wrong_skip_by_crc_is_found_and_mended(self) -> None:
        board = blank(digest="crc32", digest_block=SECTOR)
        run(board, PARTS)
        board.flash[0x10000 + 5000] ^= 1
        honest = board.digest

        def lie(offset: int, size: int) -> bytes:
            honest(offset, size)
            data = APP[offset - 0x10000 :][:size]
            return zlib.crc32(data).to_bytes(4, "big")

        board.digest = lie  # type: ignore[method-assign]
        found = run(board, PARTS)
        assert (found.status, found.attempts) == ("verified", 2)
        assert board.holds(PARTS)


class TestFaults:
    def steps(self) -> int:
        board = blank()
        run(board, PARTS)
        return board.steps

    def test_a_cable_pulled_at_any_step_is_resumed(self) -> None:
        for at in range(self.steps()):

            def fault(step: int, at: int = at) -> None:
                if step == at:
                    raise lost()

            board = MemoryBoard(STOCK, fault=fault)
            found = run(board, PARTS)
            assert found.status == "verified", (at, board.log[-1])
            assert board.holds(PARTS)
            assert found.attempts == 2
            assert board.closed >= 1

    @pytest.mark.parametrize("code", ["device.protocol", "device.refused", "device.mismatch"])
    def test_any_failure_at_any_step_is_tried_again(self, code: Code) -> None:
        for at in range(0, self.steps(), 3):

            def fault(step: int, at: int = at) -> None:
                if step == at:
                    raise Failed(code, "no")

            board = MemoryBoard(STOCK, fault=fault)
            assert run(board, PARTS).status == "verified"
            assert board.holds(PARTS)

    def test_a_line_that_never_recovers_is_incomplete_and_a_second_run_completes_it(self) -> None:
        for at in range(4, self.steps(), 2):

            def fault(step: int, at: int = at) -> None:
                if step >= at:
                    raise lost()

            board = MemoryBoard(STOCK, fault=fault)
            found = run(board, PARTS)
            assert found.status == "incomplete"
            assert found.error is not None
            assert found.error.code == "device.lost"
            board.fault = ignore
            assert run(board, PARTS).status == "verified"
            assert board.holds(PARTS)

    def test_a_board_that_never_answers_was_not_touched(self) -> None:
        def fault(_: int) -> None:
            raise Failed("device.absent", "no answer")

        found = run(MemoryBoard(fault=fault), PARTS)
        assert (found.status, found.touched, found.info) == ("incomplete", False, None)
        assert found.attempts == 1

    def test_a_board_that_is_swapped_is_not_written(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "program":
                board.info = board_info(identity="mac:ffffffffffff")
                board.log.append(("swapped", 0, 0))
                raise lost()

        board.fault = fault
        found = run(board, PARTS)
        assert found.status == "incomplete"
        assert found.error is not None
        assert found.error.code == "device.changed"
        assert "esp32c3 mac:ffffffffffff is at the port" in found.error.message
        swapped = board.log.index(("swapped", 0, 0))
        assert not [what for what, _, _ in board.log[swapped:] if what in ("erase", "program")]

    def test_stopping_leaves_a_clear_state_at_any_event(self) -> None:
        for at in itertools.count():
            events = itertools.count()

            def report(_: Event, at: int = at, events: "itertools.count[int]" = events) -> None:
                if next(events) == at:
                    raise Stopped

            board = blank()
            found = run(board, PARTS, report)
            if found.status == "verified":
                break
            assert found.status == "incomplete"
            assert found.error is not None
            assert found.error.code == "device.stopped"
            assert found.touched == bool(board.did("erase")) or found.regions == ()
            assert board.closed == (board.steps > 0)
        assert at > 5

    def test_a_mistake_of_ours_closes_the_port(self) -> None:
        board = blank()

        def fault(step: int) -> None:
            if step == 3:
                raise ZeroDivisionError

        board.fault = fault
        with pytest.raises(ZeroDivisionError):
            run(board, PARTS)
        assert board.closed == 1


def test_finish_is_given_whole_regions() -> None:
    board = blank()
    run(board, PARTS)
    assert board.finished == [Run(0x10000, APP)]
