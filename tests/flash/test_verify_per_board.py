# SPDX-License-Identifier: Apache-2.0
"""The floor of each board: never lowered, never skipped, and none of another product."""

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flash.kit import MemoryBoard, board_info, ignore, noise, pki
from fwsign.errors import FwsignError
from fwsign.flash import plan as planning
from fwsign.flash.boards.release import HeldRelease
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judged, Options, Outcome
from fwsign.flash.verify_per_board import Given, Judging
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import file_identifier, flash_identifier
from fwsign.format.payload import digest
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy
from support import DAY, NOW, PRODUCT, VENDOR, make_manifest, refused, sign_with, verify

DATA = noise(9000)
OTHER = "another product"


def envelope(sequence: int, data: bytes = DATA, **more: Any) -> bytes:
    """Sign a payload for flash."""
    component = Component(
        flash_identifier("esp32c3", 0xA0000), digest_of(data), len(data), "data.bin"
    )
    return sign_with(pki(), make_manifest(component, sequence_number=sequence, **more))


def judging(signed: bytes, state: Path | None, waived: Sequence[str] = (), **more: Any) -> Judging:
    """Judge an envelope as the command does."""
    usual = {"vendor": VENDOR, "product": PRODUCT, "revocation": "require"}
    remember = more.pop("remember", True)
    data = more.pop("data", DATA)
    policy = DevicePolicy(**{**usual, **more})
    made = Judging(Given(signed, [pki().root.anchor], policy, NOW, waived, state, remember))
    made.hold(lambda _: io.BytesIO(data))
    return made


def program(
    board: MemoryBoard, signed: bytes, state: Path | None, *args: Any, **more: Any
) -> Outcome:
    """Flash an envelope to a board."""
    return flash(board.connect, judging(signed, state, *args, **more).judge, Options(), ignore)


def code(found: Outcome) -> str | None:
    """Return the code of how it ended; None where all is good."""
    return found.error.code if found.error else None


def board(identity: str | None = "mac:01") -> MemoryBoard:
    """Return a board."""
    return MemoryBoard(info=board_info(identity=identity))


def floor(state: Path, identity: str | None = "mac:01", product: str = PRODUCT) -> int | None:
    """Return the floor that is remembered."""
    with State.open(state) as memory:
        found = memory.floor(identity, VENDOR, product)
    return found.sequence if found else None


class TestAnyProduct:
    WAIVED = ("product",)

    def test_the_floor_is_that_of_the_releases_own_product(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        found = program(board(), envelope(20), state, self.WAIVED, product=None)
        assert code(found) is None
        assert floor(state) == 20
        assert floor(state, product=OTHER) is None

    def test_rollback_is_refused_although_any_product_is_accepted(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        program(board(), envelope(20), state)
        one = board()
        found = program(one, envelope(19), state, self.WAIVED, product=None)
        assert (code(found), found.touched) == ("unsuitable.rollback", False)
        assert one.did("erase") == []
        another = envelope(3, product=OTHER)
        assert code(program(board(), another, state, self.WAIVED, product=None)) is None
        assert (floor(state), floor(state, product=OTHER)) == (20, 3)

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_dry_run_judges_by_the_floor_and_leaves_it(
        self, tmp_path: Path, exists: bool
    ) -> None:
        state = tmp_path / "boards.db"
        if exists:
            program(board(), envelope(20), state)
        more: dict[str, Any] = {"product": None, "remember": False}
        found = judging(envelope(21), state, self.WAIVED, **more).judge(board_info())
        found.accept()
        assert state.exists() == exists
        if exists:
            assert floor(state) == 20
            with refused("unsuitable.rollback", "19 is below 20"):
                judging(envelope(19), state, self.WAIVED, **more).judge(
                    board_info(identity="mac:01")
                )


class TestFloors:
    def test_a_floor_is_not_lowered_by_min_sequence(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        program(board(), envelope(20), state)
        assert code(program(board(), envelope(19), state, min_sequence=5)) == "unsuitable.rollback"
        with refused("unsuitable.rollback", "21 is below 30"):
            judging(envelope(21), state, min_sequence=30)
        assert floor(state) == 20

    def test_a_dry_run_without_a_memory_is_judged_by_min_sequence(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        found = judging(envelope(20), state, min_sequence=20, remember=False).judge(board_info())
        assert found.held.release.unchecked == ()
        assert not state.exists()

    def test_waiving_the_check_moves_no_floor(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        program(board(), envelope(20), state)
        assert code(program(board(), envelope(10), None, ("rollback",))) is None
        assert code(program(board(), envelope(19), state)) == "unsuitable.rollback"

    def test_boards_without_an_identity_share_one_floor(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        program(board(None), envelope(20), state)
        assert code(program(board(None), envelope(19), state)) == "unsuitable.rollback"
        assert code(program(board(), envelope(19), state)) is None
        assert floor(state, None) == 20

    def test_an_identity_that_could_deceive_is_refused(self, tmp_path: Path) -> None:
        for name in ("mac:\x1b[2K", "x" * 201):
            found = program(board(name), envelope(20), tmp_path / "boards.db")
            assert (found.status, code(found)) == ("refused", "state.limit")

    def test_another_release_of_the_same_number_is_refused(self, tmp_path: Path) -> None:
        state = tmp_path / "boards.db"
        program(board(), envelope(20), state)
        data = noise(9000, 2)
        found = program(board(), envelope(20, data), state, data=data)
        assert (code(found), found.touched) == ("unsuitable.conflict", False)

    def test_a_floor_that_moved_after_judging_is_noticed_before_the_first_erase(
        self, tmp_path: Path
    ) -> None:
        state = tmp_path / "boards.db"
        slow = judging(envelope(20), state)
        one = board()

        def judge(info: Any) -> Any:
            judged = slow.judge(info)
            assert code(program(board(), envelope(30), state)) is None
            return judged

        found = flash(one.connect, judge, Options(), ignore)
        assert (found.status, code(found)) == ("refused", "state.conflict")
        assert one.did("erase") == []
        assert floor(state) == 30

    def test_a_memory_that_was_swapped_after_judging_is_noticed(self, tmp_path: Path) -> None:
        state, other = tmp_path / "boards.db", tmp_path / "other.db"
        program(board(), envelope(30), other)
        judged = judging(envelope(20), state).judge(board_info(identity="mac:01"))
        other.replace(state)
        with refused("state.conflict"):
            judged.accept()
        state.unlink()
        with refused("state.lost"):
            judged.accept()

    def test_the_same_release_may_be_accepted_by_boards_of_one_identity_at_once(
        self, tmp_path: Path
    ) -> None:
        found = self.at_once(tmp_path, [envelope(20)] * 4, [None] * 4)
        assert [code(one) for one in found] == [None] * 4
        assert floor(tmp_path / "boards.db", None) == 20

    def test_of_two_releases_at_once_the_floor_is_the_newest_that_was_accepted(
        self, tmp_path: Path
    ) -> None:
        found = self.at_once(tmp_path, [envelope(20), envelope(21)] * 2, ["mac:01"] * 4)
        assert {code(one) for one in found} <= {None, "state.conflict", "unsuitable.rollback"}
        good = [one.held.release for one in found if one.held is not None and one.error is None]
        assert floor(tmp_path / "boards.db") == max(one.manifest.sequence_number for one in good)

    def at_once(
        self, directory: Path, signed: Sequence[bytes], identities: Sequence[str | None]
    ) -> list[Outcome]:
        """Flash to several boards at the same time."""
        state = directory / "boards.db"
        found: list[Outcome] = []

        def work(one: bytes, identity: str | None) -> Callable[[], None]:
            return lambda: found.append(program(board(identity), one, state))

        threads = [
            threading.Thread(target=work(*both)) for both in zip(signed, identities, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def test_a_crash_between_accepting_and_writing_is_made_good_by_the_same_release(
    tmp_path: Path,
) -> None:
    state = tmp_path / "boards.db"
    judging(envelope(20), state).judge(board_info(identity="mac:01")).accept()
    one = board()
    assert code(program(one, envelope(20), state)) is None
    assert one.holds({"esp32c3@0xa0000": DATA})


def test_bytes_that_change_after_they_were_verified_are_not_written(tmp_path: Path) -> None:
    file = io.BytesIO(DATA)
    made = Judging(
        Given(
            envelope(20),
            [pki().root.anchor],
            DevicePolicy(vendor=VENDOR, product=PRODUCT),
            NOW,
            (),
            tmp_path / "boards.db",
            remember=True,
        )
    )
    made.hold(lambda _: file)
    file.getbuffer()[:] = bytes(len(DATA))
    one = board()
    assert flash(one.connect, made.judge, Options(), ignore).status == "verified"
    assert one.holds({"esp32c3@0xa0000": DATA})


def test_a_release_that_expires_for_the_time_that_the_memory_knows_is_refused(
    tmp_path: Path,
) -> None:
    state = tmp_path / "boards.db"
    program(board(), envelope(20), state)
    old = Given(
        envelope(21),
        [pki().root.anchor],
        DevicePolicy(vendor=VENDOR, product=PRODUCT),
        NOW - 400 * DAY,
        (),
        state,
        remember=True,
    )
    try:
        made = Judging(old)
    except FwsignError as error:
        assert error.code.startswith("stale.")  # noqa: PT017 - either way is one
        return
    made.hold(lambda _: io.BytesIO(DATA))
    assert made.judge(board_info()).held.release.now >= NOW - DAY


def test_what_is_not_for_flash_is_left_out_and_said() -> None:
    found = held_with_a_file(left_out=["notes.txt"])
    plan = planning.make(found, board_info(), lambda _, size: b"\xff" * size)
    assert [one.component for one in plan.regions] == ["esp32c3@0xa0000"]
    assert plan.notes == ("not for flash, left out: notes.txt",)


def test_what_is_not_for_flash_is_not_left_out_without_its_name() -> None:
    one = board()
    held = held_with_a_file()
    found = flash(one.connect, lambda _: Judged(held, lambda: None), Options(), ignore)
    assert (found.status, code(found), found.touched) == ("incomplete", "device.left-out", False)
    assert found.error is not None
    assert found.error.message == "not for flash, and not left out by name: notes.txt"
    assert found.error.hint is not None
    assert found.error.hint.startswith("--leave-out notes.txt flashes the rest; ")
    assert one.did("erase") == []


@pytest.mark.parametrize("how", ["left_out", "elsewhere"])
def test_what_is_left_out_by_name_or_goes_elsewhere_does_not_matter(how: str) -> None:
    one = board()
    held = held_with_a_file(**{how: ("notes.txt",)})
    found = flash(one.connect, lambda _: Judged(held, lambda: None), Options(), ignore)
    assert found.status == "verified"
    assert any("notes.txt" in note for note in found.notes)


def held_with_a_file(**more: Any) -> HeldRelease:
    """Hold a release of a payload for flash and of a file."""
    parts = (
        Component(flash_identifier("esp32c3", 0xA0000), digest_of(DATA), len(DATA), "a.bin"),
        Component(file_identifier("notes.txt"), digest_of(b"x"), 1, "notes.txt"),
    )
    release = verify(sign_with(pki(), make_manifest(*parts)), [pki().root])
    return HeldRelease(release, lambda _: io.BytesIO(DATA), **more)


def digest_of(data: bytes) -> Digest:
    """Return the digest that is signed."""
    return Digest(SHA256, digest(SHA256, data))


def test_only_a_verified_release_is_held() -> None:
    with pytest.raises(TypeError, match="only a VerifiedRelease can be flashed"):
        HeldRelease(make_manifest(), lambda _: None)  # type: ignore[arg-type]


def test_a_simulated_board_has_a_floor_of_its_own(tmp_path: Path) -> None:
    state = tmp_path / "boards.db"
    real, simulated = board("mac:01"), board("mac:01")
    simulated.info = simulated.info._replace(simulated=True)
    assert code(program(simulated, envelope(20), state)) is None
    assert code(program(real, envelope(10), state)) is None
    assert code(program(simulated, envelope(10), state)) == "unsuitable.rollback"
    nameless = board(None)
    nameless.info = nameless.info._replace(simulated=True)
    assert code(program(nameless, envelope(20), state)) is None
    assert code(program(board(None), envelope(10), state)) is None


def test_what_goes_elsewhere_leaves_nothing_to_flash() -> None:
    with refused("unsuitable.payload", "nothing in this release is for flash, it has "):
        held_with_a_file(elsewhere=("esp32c3@0xa0000",))
