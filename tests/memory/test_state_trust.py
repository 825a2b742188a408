"""Trust updates in the memory: kept whole, floors reset as they state, killed at any time."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.trust.lists import Floors
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from pki_kit import needs_fork
from support import NOW, PRODUCT, VENDOR, make_manifest, refused, sign_with
from trust.test_update import (
    ENROLLED,
    FIRST,
    NEW,
    OLD,
    ONE,
    PKI,
    SECOND,
    TWO,
    root,
    sign,
    state,
    update,
)

BASE = DevicePolicy(vendor=VENDOR, product=PRODUCT)
HUGE = 2**53 - 1


def opened(path: Path) -> State:
    return State.open(path / "state.db", create=True)


def install(memory: State, number: int) -> None:
    policy, floor = memory.policy(BASE, None)
    envelope = sign_with(PKI, make_manifest(sequence_number=number), crls=PKI.crls)
    memory.accept(None, Verifier([PKI.root.anchor], policy).verify(envelope, at=NOW), floor)


def test_a_list_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        assert memory.trust() is None
        assert memory.apply_trust([ONE], ENROLLED) == FIRST.trust
    with opened(tmp_path) as memory:
        assert memory.trust() == FIRST.trust
        assert memory.apply_trust([ONE, TWO], ENROLLED) == SECOND.trust
        assert memory.apply_trust([ONE, TWO], ENROLLED) == SECOND.trust


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.apply_trust([ONE], ENROLLED)
        with refused("untrusted.signers"):
            memory.apply_trust([sign(SECOND, OLD.key)], ENROLLED)
        with refused("untrusted.signers"):
            memory.apply_trust([TWO, sign(update(3, root(NEW)), NEW.key)], ENROLLED)
        assert memory.trust() == FIRST.trust


def test_enrolment_counts_only_until_the_first_update(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.apply_trust([ONE], ENROLLED)
        other = sign(update(1, root(OLD)), OLD.key)
        with refused("untrusted.signers"):
            memory.apply_trust([other], ENROLLED)


def test_a_raised_epoch_ends_a_fast_forward(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        install(memory, HUGE)
        with refused("unsuitable.rollback"):
            install(memory, 101)
        reset = update(1, root(NEW), epoch=1, floors=Floors(sequence=100))
        memory.apply_trust([sign(reset, OLD.key, NEW.key)], ENROLLED)
        assert memory.floor(None, VENDOR, PRODUCT) == Floor(100)
        with refused("unsuitable.rollback"):
            install(memory, 99)
        install(memory, 100)
        assert memory.floor(None, VENDOR, PRODUCT) != Floor(100)  # it has a record now


def test_a_floor_is_set_where_there_was_none(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        reset = update(1, root(NEW), epoch=1, floors=Floors(sequence=100))
        memory.apply_trust([sign(reset, OLD.key, NEW.key)], ENROLLED)
        with refused("unsuitable.rollback"):
            install(memory, 99)


def test_unstated_floors_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        install(memory, 100)
        before = memory.policy(BASE, None)
        assert before[0].time_floor is not None
        memory.apply_trust([sign(update(1, root(NEW), epoch=1), OLD.key, NEW.key)], ENROLLED)
        assert memory.policy(BASE, None) == before


def test_a_raised_epoch_sets_the_time_back(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        install(memory, 100)
        floor = memory.floor(None, VENDOR, PRODUCT)
        seconds = 1700000000
        reset = update(1, root(NEW), epoch=1, floors=Floors(time=seconds))
        memory.apply_trust([sign(reset, OLD.key, NEW.key)], ENROLLED)
        found = memory.policy(BASE, None)[0].time_floor
        assert found is not None
        assert found.timestamp() == seconds
        assert memory.floor(None, VENDOR, PRODUCT) == floor


def test_boards_get_the_floor_too_and_other_products_keep_theirs(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        for product in (PRODUCT, "other"):
            policy, floor = memory.policy(BASE._replace(product=product), "board")
            manifest = make_manifest(sequence_number=HUGE, product=product)
            envelope = sign_with(PKI, manifest, crls=PKI.crls)
            release = Verifier([PKI.root.anchor], policy).verify(envelope, at=NOW)
            memory.accept("board", release, floor)
        reset = update(1, root(NEW), epoch=1, floors=Floors(sequence=1))
        memory.apply_trust([sign(reset, OLD.key, NEW.key)], ENROLLED)
        for identity in ("board", None):
            assert memory.floor(identity, VENDOR, PRODUCT) == Floor(1)
        other = memory.floor("board", VENDOR, "other")
        assert other is not None
        assert (other.sequence, len(other.recorded)) == (HUGE, 1)
        assert memory.floor("another", VENDOR, PRODUCT) is None


def test_forgetting_all_forgets_the_list(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.apply_trust([ONE], ENROLLED)
        memory.forget()
        assert memory.trust() is None


def step(path: Path, number: int) -> None:
    """Apply the next list, which sets the floor to its number."""
    with opened(path) as memory:
        wanted = update(number, root(OLD), epoch=number, floors=Floors(sequence=number))
        memory.apply_trust([sign(wanted, OLD.key)], ENROLLED)


@needs_fork
def test_killed_at_any_time_list_and_floor_belong_together(tmp_path: Path) -> None:
    step(tmp_path, 1)
    dice, number = random.Random(1), 1  # no secret
    for tries in range(400):
        if tries >= 40 and number > 10:  # on a busy machine a step takes longer than a life
            break
        child = os.fork()
        if child == 0:
            try:
                for following in range(number + 1, number + 1000):
                    step(tmp_path, following)
            finally:
                os._exit(1)
        time.sleep(dice.random() / 20 * (1 + tries // 40))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with opened(tmp_path) as memory:
            found = memory.trust()
            assert found is not None
            assert memory.floor(None, VENDOR, PRODUCT) == Floor(found.number)
            assert found.number >= number
            number = found.number
    assert number > 10


def test_of_two_at_once_the_second_sees_what_the_first_did(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        assert one.trust() == other.trust()
        one.apply_trust([ONE], ENROLLED)
        with pytest.raises(FwsignError, match="another list 1"):
            other.apply_trust(
                [sign(update(1, root(NEW), threshold=1, epoch=1), OLD.key, NEW.key)], ENROLLED
            )
        assert other.trust() == FIRST.trust


def test_a_device_made_later_goes_on_from_its_own_list(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        assert memory.apply_trust([ONE, TWO], state(1, root(NEW))).number == 2
