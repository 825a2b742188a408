"""Permits for boards: one board has one release below its floor, once, and no floor moves."""

import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from channel_kit import channel_pki
from flash.kit import MemoryBoard, board_info, ignore, lost, pki
from flash.test_verify_per_board import DATA, board, code, envelope, floor
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judged, Options, Outcome
from fwsign.flash.receipt import Told, describe
from fwsign.flash.verify_per_board import Given, Judging
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.memory.permits import MAX_USED, Permits, PermittedRelease
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy
from permit_kit import forged, make_permit, signed
from support import DAY, NOW, PRODUCT, VENDOR, make_crl, make_pki, refused

BOARD = "mac:01"
OLD = envelope(10)


class Station:
    """A memory in which a board has floor 20, and permits for release 10."""

    def __init__(self, base: Path) -> None:
        self.state = base / "boards.db"
        self.count = 0
        self.flash(envelope(20))

    def permit(self, release: bytes = OLD, **more: Any) -> bytes:
        """Sign a permit for a release on the board; each has an id of its own."""
        self.count += 1
        own = {"device": BOARD, "release": digest(release), "id": self.count.to_bytes(16, "big")}
        return signed(pki(), make_permit(**{**own, **more}))

    def judging(self, release: bytes, permit: bytes | None = None, **more: Any) -> Judging:
        at, remember = more.pop("at", NOW), more.pop("remember", True)
        usual = {"vendor": VENDOR, "product": PRODUCT, "revocation": "require"}
        policy = DevicePolicy(**{**usual, **more})
        given = Given(release, [pki().root.anchor], policy, at, (), self.state, remember)
        made = Judging(given._replace(permit=permit))
        made.hold(lambda _: io.BytesIO(DATA))
        return made

    def judge(self, release: bytes, permit: bytes | None = None, **more: Any) -> Judged:
        info = board_info(identity=more.pop("identity", BOARD))
        return self.judging(release, permit, **more).judge(info)

    def flash(
        self,
        release: bytes,
        permit: bytes | None = None,
        *,
        on: MemoryBoard | None = None,
        options: Options = Options(),  # noqa: B008 - it is immutable
        **more: Any,
    ) -> Outcome:
        judge = self.judging(release, permit, **more).judge
        return flash((on or board()).connect, judge, options, ignore)

    def permits(self, key: str = BOARD) -> tuple[int, list[str]]:
        """Return how many permits a board used, and the releases that they let in."""
        with State.open(self.state) as memory:
            found = Permits(memory, key)
            return len(found.used), [one.manifest for one in found.permitted]


def digest(release: bytes) -> bytes:
    return check_manifest_digest(decode_envelope(release))


@pytest.fixture
def one(tmp_path: Path) -> Station:
    return Station(tmp_path)


def refusal(found: Outcome) -> tuple[str, str | None, bool]:
    """Return what a refusal is: its status, its code, and whether the board was touched."""
    return found.status, code(found), found.touched


def test_a_permit_lets_one_board_have_one_older_release(one: Station) -> None:
    assert refusal(one.flash(OLD)) == ("refused", "unsuitable.rollback", False)
    permit = one.permit()
    found = one.flash(OLD, permit)
    assert (found.status, floor(one.state)) == ("verified", 20)
    assert found.notes[0] == f"below the floor, by permit {1:032x}"
    assert found.held is not None
    assert found.held.release.unchecked == ()
    told = describe(found, Told("x", NOW, None))["permit"]
    name = digest(permit).hex()
    assert told == {"manifest": digest(OLD).hex(), "permit": name, "id": f"{1:032x}"}
    assert one.permits() == (1, [digest(OLD).hex()])


def test_a_receipt_without_a_permit_says_so(one: Station) -> None:
    found = one.flash(envelope(21))
    assert describe(found, Told("x", NOW, None))["permit"] is None
    assert found.permit is None


def test_permit_replay_is_refused(one: Station) -> None:
    permit = one.permit()
    one.flash(OLD, permit)
    one.flash(envelope(20))  # forward again
    found = one.flash(OLD, permit)
    assert refusal(found) == ("refused", "unsuitable.permit-used", False)
    assert found.error is not None
    assert found.error.message == f"permit {1:032x} was used on this device before"
    assert refusal(one.flash(OLD)) == ("refused", "unsuitable.rollback", False)
    assert one.flash(OLD, one.permit()).status == "verified"  # another permit, another time


def test_a_permit_for_another_board_is_refused(one: Station) -> None:
    found = one.flash(OLD, one.permit(device="mac:02"))
    assert refusal(found) == ("refused", "unsuitable.permit-device", False)
    assert found.error is not None
    words = 'the permit is for device "mac:02", this device is "mac:01"'
    assert found.error.message == words
    assert one.permits() == (0, [])


def test_a_board_without_an_identity_has_no_permits(one: Station) -> None:
    one.flash(envelope(20), on=board(None))
    with State.open(one.state) as memory:  # what a gateway of this memory has is not the boards'
        Permits(memory).keep([PermittedRelease(digest(OLD).hex(), "00", "00")])
    assert code(one.flash(OLD, on=board(None))) == "unsuitable.rollback"
    found = one.flash(OLD, one.permit(), on=board(None))
    assert refusal(found) == ("refused", "unsuitable.permit-device", False)
    assert found.error is not None
    assert found.error.message.endswith("this device is without an id")
    assert one.flash(envelope(21), on=board(None)).status == "verified"


def test_a_permit_for_another_release_is_refused(one: Station) -> None:
    other = envelope(11)
    for release, permit in ((other, one.permit()), (OLD, one.permit(other))):
        found = one.flash(release, permit)
        assert refusal(found) == ("refused", "unsuitable.permit-release", False)
        assert found.error is not None
        assert found.error.message.startswith("the permit is for the release with manifest ")
    assert one.permits() == (0, [])


def test_an_expired_permit_is_refused(one: Station) -> None:
    permit = one.permit(expires=int((NOW + DAY).timestamp()))
    found = one.flash(OLD, permit, at=NOW + DAY)
    assert refusal(found) == ("refused", "stale.permit", False)
    assert found.error is not None
    assert "the permit was to be used before" in found.error.message
    # The clock is set back, but a release has proven the time.
    late = make_crl(pki().issuing, number=5, days=(2, 60)), make_crl(pki().root, number=5)
    one.flash(envelope(21), crls=late, at=NOW + 2 * DAY)
    assert code(one.flash(OLD, permit)) == "stale.permit"
    assert one.permits() == (0, [])


def test_a_permit_under_a_clock_of_1970_is_refused(one: Station) -> None:
    found = one.flash(OLD, one.permit(), at=datetime.fromtimestamp(0, NOW.tzinfo))
    assert code(found) == "stale.permit"
    assert found.error is not None
    assert "it cannot tell whether the permit has expired" in found.error.message


def test_two_boards_at_once_with_the_same_permit(one: Station) -> None:
    """One of them is the permit's; both are in one run, judged by the same bytes."""
    one.flash(envelope(20), on=board("mac:02"))
    judging = one.judging(OLD, one.permit())
    boards = [board(), board("mac:02")]
    found = [flash(each.connect, judging.judge, Options(), ignore) for each in boards]
    assert [code(each) for each in found] == [None, "unsuitable.permit-device"]
    assert boards[1].did("erase") == []


def test_two_boards_with_one_identity_at_once_use_a_permit_once(one: Station) -> None:
    judging = one.judging(OLD, one.permit())
    boards = [board(), board()]
    first, second = [judging.judge(each.info) for each in boards]  # both before either is flashed
    first.accept()
    with refused("unsuitable.permit-used", f"permit {1:032x} was used on this device before"):
        second.accept()
    found = flash(boards[1].connect, lambda _: second, Options(), ignore)
    assert refusal(found) == ("refused", "unsuitable.permit-used", False)
    assert one.permits() == (1, [digest(OLD).hex()])


@pytest.mark.parametrize("kind", ["channel key", "stranger", "release", "release as permit"])
def test_what_is_no_permit_of_a_signer_of_releases(one: Station, kind: str) -> None:
    own = make_permit(device=BOARD, release=digest(OLD))
    data, expected = {
        "channel key": (forged(channel_pki(), own), "untrusted.no-anchor"),
        "stranger": (forged(make_pki(), own), "untrusted.no-anchor"),
        "release": (OLD, "unsuitable.release"),
        "release as permit": (b"x", "malformed.cbor"),
    }[kind]
    assert refusal(one.flash(OLD, data)) == ("refused", expected, False)


def test_a_permit_is_no_release(one: Station) -> None:
    with refused("unsuitable.permit"):
        one.judging(one.permit())


def test_as_many_must_sign_it_as_a_release(one: Station) -> None:
    with refused("untrusted.signers"):  # the release itself has one signer
        one.judging(OLD, one.permit(), threshold=2)


def test_the_floor_does_not_move_for_anything_else(one: Station) -> None:
    one.flash(envelope(20), on=board("mac:02"))
    one.flash(OLD, one.permit())
    for release, on in ((envelope(9), board()), (envelope(15), board()), (OLD, board("mac:02"))):
        assert refusal(one.flash(release, on=on)) == ("refused", "unsuitable.rollback", False)
    assert (floor(one.state), floor(one.state, "mac:02")) == (20, 20)


def test_a_typed_minimum_stays(one: Station) -> None:
    with refused("unsuitable.rollback", "10 is below 15"):
        one.judging(OLD, one.permit(), min_sequence=15)


@pytest.mark.parametrize("again", [True, False])
def test_a_run_that_was_cut_short_goes_on(one: Station, again: bool) -> None:
    permit = one.permit()
    weak = board()

    def cable(_: int) -> None:
        if weak.did("erase"):
            raise lost()

    weak.fault = cable
    found = one.flash(OLD, permit, on=weak)
    assert (found.status, found.touched) == ("incomplete", True)
    found = one.flash(OLD, permit if again else None)
    assert (found.status, one.permits()[0]) == ("verified", 1)
    assert found.notes[0] == f"below the floor, by permit {1:032x}"


def test_a_crash_between_accepting_and_writing_is_made_good(one: Station) -> None:
    permit = one.permit()
    one.judge(OLD, permit).accept()
    assert one.flash(OLD).status == "verified"
    assert one.permits() == (1, [digest(OLD).hex()])


def test_after_a_newer_release_it_needs_another_permit(one: Station) -> None:
    one.flash(OLD, one.permit())
    one.flash(envelope(21))
    assert one.permits() == (1, [])
    assert code(one.flash(OLD)) == "unsuitable.rollback"


def test_a_second_permit_while_it_is_in_place_stays_good(one: Station) -> None:
    one.flash(OLD, one.permit())
    second = one.permit()
    assert one.flash(OLD, second).status == "verified"
    assert one.permits()[0] == 1
    one.flash(envelope(20))
    assert one.flash(OLD, second).status == "verified"


def test_a_permit_for_a_second_old_release_replaces_the_first(one: Station) -> None:
    other = envelope(11)
    one.flash(OLD, one.permit())
    assert one.flash(other, one.permit(other)).status == "verified"
    assert one.permits() == (2, [digest(other).hex()])
    assert code(one.flash(OLD)) == "unsuitable.rollback"


def test_a_permit_that_is_not_needed_stays_good(one: Station) -> None:
    newer = envelope(21)
    permit = one.permit(newer)
    found = one.flash(newer, permit)
    assert (found.permit, one.permits()) == (None, (0, []))
    one.flash(envelope(30))
    assert one.flash(newer, permit).status == "verified"  # now it is


def test_another_release_at_the_floor_needs_a_permit_where_it_collides(one: Station) -> None:
    same = envelope(20, use_before=int((NOW + DAY).timestamp()))
    assert code(one.flash(same)) == "unsuitable.conflict"
    assert one.flash(same, one.permit(same)).status == "verified"
    assert one.permits() == (1, [digest(same).hex()])
    one.flash(envelope(20))
    assert code(one.flash(same)) == "unsuitable.conflict"


def test_a_dry_run_uses_nothing(one: Station) -> None:
    permit = one.permit()
    found = one.flash(OLD, permit, remember=False, options=Options(dry_run=True))
    assert (found.status, found.notes[0]) == ("dry run", f"below the floor, by permit {1:032x}")
    assert one.permits() == (0, [])
    assert one.flash(OLD, permit).status == "verified"


def test_a_floor_that_moved_after_judging_leaves_the_permit_unused(one: Station) -> None:
    judged = one.judge(OLD, one.permit())
    one.flash(envelope(30))
    with refused("state.conflict"):
        judged.accept()
    assert one.permits() == (0, [])


def test_a_simulated_board_uses_no_permit_of_the_real_one(one: Station) -> None:
    permit, simulated = one.permit(), board()
    simulated.info = simulated.info._replace(simulated=True)
    one.flash(envelope(20), on=simulated)
    assert one.flash(OLD, permit, on=simulated).status == "verified"
    assert one.permits() == (0, [])
    assert one.flash(OLD, permit).status == "verified"


def test_a_board_that_was_never_here_needs_no_permit(one: Station) -> None:
    found = one.flash(OLD, one.permit(device="mac:09"), on=board("mac:09"))
    assert (found.status, found.permit, floor(one.state, "mac:09")) == ("verified", None, 10)


def test_used_permits_of_a_board_are_bounded(one: Station) -> None:
    later = int((NOW + DAY).timestamp())
    kept = [[f"{number:064x}", later] for number in range(MAX_USED)]
    with State.open(one.state) as memory:
        memory.remember(f"permits {BOARD}", json.dumps(kept))
    found = one.flash(OLD, one.permit())
    assert refusal(found) == ("refused", "state.limit", False)
    one.flash(envelope(20), on=board("mac:02"))
    other = one.permit(device="mac:02")
    assert one.flash(OLD, other, on=board("mac:02")).status == "verified"


def test_a_damaged_record_is_no_permission(one: Station) -> None:
    with State.open(one.state) as memory:
        memory.remember(f"permitted {BOARD}", "[[1]]")
    assert refusal(one.flash(OLD)) == ("refused", "state.damaged", False)


def test_a_permit_of_an_hour_works_within_it(one: Station) -> None:
    permit = one.permit(expires=int((NOW + timedelta(hours=1)).timestamp()))
    assert code(one.flash(OLD, permit, at=NOW + timedelta(hours=1))) == "stale.permit"
    assert one.flash(OLD, permit, at=NOW + timedelta(minutes=59)).status == "verified"
