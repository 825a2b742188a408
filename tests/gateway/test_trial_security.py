"""What a trial must never open: an older release, a longer trial, a revoked signer, lost memory."""

import contextlib
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.target import programs
from fwsign.gateway.trial import going_back
from fwsign.gateway.trust import apply
from fwsign.memory.state import State
from gateway.kit import crls, pki
from gateway.trial_kit import TrialGateway
from support import DAY, NOW, Entity, make_crl, make_leaf, make_pki, refused
from trust.test_update import root, sign, update


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


def signed_by(signer: Entity, lists: tuple[bytes, ...]) -> dict[str, Any]:
    return {"signers": [(signer, [pki().issuing], lists)]}


def state_of(gateway: TrialGateway) -> State:
    return State.open(gateway.base / "state.db")


# --- what comes back ------------------------------------------------------------------------------


def test_a_release_before_whose_signer_was_revoked_does_not_come_back_silently(
    gateway: TrialGateway,
) -> None:
    victim = make_leaf(pki().issuing, common="victim")
    old = gateway.plain.release(1, {"app.tar": b"old"}, **signed_by(victim, crls(1)))
    gateway.install(old)
    gateway.healthy("exit 1")
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=crls(2, revoked=[victim]))
    with refused(
        "unsuitable.trial",
        "runner ended with status 1",
        "it stays, since the release before must not come back",
        'certificate "victim" ',
        "it is in place and not committed",
    ):
        gateway.install(second)
    record = gateway.record
    assert record is not None
    assert (gateway.app, gateway.floor, record.phase) == (b"new", 1, "stays")
    assert gateway.results[-2:] == ["on trial", "stays"]
    gateway.machine.reboot(seconds=100_000)
    assert gateway.judge().verdict == "stays"  # at each start, and its health is not asked again
    with refused("unsuitable.failed-before"):
        gateway.install(second)
    gateway.healthy("exit 0")
    assert gateway.install(gateway.release(3, b"good")).verdict == "installed"
    assert (gateway.app, gateway.floor, gateway.record) == (b"good", 3, None)


def test_the_owner_may_let_a_revoked_release_return_and_it_is_told(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, revoked="return")
    victim = make_leaf(pki().issuing, common="victim")
    gateway.install(gateway.plain.release(1, {"app.tar": b"old"}, **signed_by(victim, crls(1))))
    gateway.healthy("exit 1")
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=crls(2, revoked=[victim]))
    with refused(
        "unsuitable.trial",
        "revocation was waived for the release before: ",
        "release 1 is in place again",
    ):
        gateway.install(second)
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)


@pytest.mark.parametrize("revoked", ["stay", "return"])
def test_a_release_before_whose_anchor_was_removed_never_comes_back(
    tmp_path: Path, revoked: str
) -> None:
    gateway = TrialGateway(tmp_path, revoked=revoked, confirm="application")
    other = make_pki(common="Other ")
    gateway.start()
    both, alone = update(1, root(pki().root), root(other.root)), update(2, root(other.root))
    apply(gateway.plain.device, sign(both, pki().root.key), NOW, None)
    signer = (other.leaf, [other.issuing], other.crls)
    gateway.install(gateway.plain.release(2, {"app.tar": b"new"}, signers=[signer]))
    apply(gateway.plain.device, sign(alone, pki().root.key, other.root.key), NOW, None)
    gateway.machine.seconds += 600
    found = gateway.judge()
    assert (found.verdict, gateway.app, gateway.floor) == ("stays", b"new", 1)
    assert "must not come back" in found.reason


def test_a_release_before_comes_back_although_time_has_passed(gateway: TrialGateway) -> None:
    """Its CRLs and its certificate have ended, and CRLs that came since prove it."""
    brief = make_leaf(pki().issuing, common="brief", days=(-5, 5))
    old = gateway.plain.release(1, {"app.tar": b"old"}, **signed_by(brief, crls(1, days=(-1, 2))))
    gateway.install(old)
    gateway.healthy("exit 1")
    later = crls(9, days=(20, 40))
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=later)
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(second, at=NOW + 21 * DAY)
    assert gateway.app == b"old"
    with refused("stale.certificate", "brief"):  # it is not installed anew
        gateway.install(old.parent / "update.suit", at=NOW + 21 * DAY, device=damaged(gateway))


def test_a_release_before_comes_back_although_the_clock_was_wrong_when_it_came(
    gateway: TrialGateway,
) -> None:
    """The time that was known then was before its certificate, and proved nothing against it."""
    fresh = make_leaf(pki().issuing, common="fresh", days=(0, 365))
    old = gateway.plain.release(1, {"app.tar": b"old"}, **signed_by(fresh, crls(1)))
    gateway.install(old, at=datetime(1970, 1, 1, tzinfo=UTC))
    assert (gateway.app, gateway.floor) == (b"old", 1)
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(gateway.release(2))
    assert gateway.app == b"old"


def damaged(gateway: TrialGateway) -> Any:
    (gateway.plain.target / "current/app.tar").write_bytes(b"bad")
    return gateway.plain.device


@pytest.mark.parametrize(
    "how", ["file", "more", "gone", "envelope", "other envelope", "no envelope"]
)
def test_only_the_very_bytes_of_the_release_before_come_back(
    gateway: TrialGateway, how: str
) -> None:
    gateway.start()
    (version,) = (gateway.plain.target / "versions").iterdir()
    (kept,) = (gateway.plain.target / ".fwsign/kept").iterdir()
    before = gateway.plain.release(1, {"app.tar": b"evl"})
    gateway.healthy("exit 75")
    gateway.install(gateway.release(2))
    if how == "file":
        (version / "app.tar").write_bytes(b"evl")
    elif how == "more":
        (version / "evil").write_bytes(b"")
    elif how == "gone":
        (version / "app.tar").unlink()
    elif how == "envelope":
        (kept / "envelope").write_bytes(b"evil")
    elif how == "no envelope":
        (kept / "envelope").unlink()
    else:  # signed by the same signer, with the same number
        (kept / "envelope").write_bytes(before.read_bytes())
        (version / "app.tar").write_bytes(b"evl")
    gateway.machine.seconds += 600
    verdicts = []
    for _ in range(3):  # what may be read next time is tried again
        with contextlib.suppress(FwsignError):
            verdicts.append(gateway.judge().verdict)
    assert verdicts[-1] == "stays"
    assert (gateway.app, gateway.floor) == (b"new", 1)


def test_a_failed_release_opens_no_downgrade(gateway: TrialGateway) -> None:
    for number in (1, 2, 3):
        gateway.install(gateway.release(number, bytes([number])))
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 3 is in place again"):
        gateway.install(gateway.release(4))
    for number in (1, 2):
        with refused("unsuitable.rollback", f"sequence number {number} is below 3"):
            gateway.install(gateway.release(number, bytes([number])))
    assert (gateway.app, gateway.floor) == (b"\3", 3)


# --- what is kept of a release that failed --------------------------------------------------------


def test_crls_and_times_of_a_release_that_failed_are_kept(gateway: TrialGateway) -> None:
    gateway.start()
    victim = make_leaf(pki().issuing, common="victim")
    gateway.healthy("exit 1")
    lists = (make_crl(pki().issuing, [victim], number=7), make_crl(pki().root, number=7))
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=lists)
    with refused("unsuitable.trial"):
        gateway.install(second)
    gateway.healthy("exit 0")
    with refused("untrusted.revoked", "victim"):
        third = gateway.plain.release(3, {"app.tar": b"3"}, **signed_by(victim, crls(1)))
        gateway.install(third)
    with state_of(gateway) as state:
        policy, _ = state.policy(gateway.plain.device.policy, None)
    assert policy.time_floor == NOW - DAY


def test_trust_updates_that_came_during_a_trial_are_kept(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    gateway.install(gateway.release(2))
    both = update(1, root(pki().root), root(make_pki(common="Other ").root))
    apply(gateway.plain.device, sign(both, pki().root.key), NOW, None)
    gateway.machine.seconds += 600
    assert gateway.judge().verdict == "fell back"
    with state_of(gateway) as state:
        trust = state.trust()
    assert trust is not None
    assert trust.number == 1


def test_a_release_whose_signer_was_revoked_during_its_trial_is_not_committed(
    tmp_path: Path,
) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    victim = make_leaf(pki().issuing, common="victim")
    gateway.install(gateway.plain.release(2, {"app.tar": b"new"}, **signed_by(victim, crls(1))))
    teacher = gateway.plain.release(1, {"app.tar": b"old"}, crls=crls(5, revoked=[victim]))
    with state_of(gateway) as state:  # as `fwsign follow` learns CRLs
        policy, floor = state.policy(gateway.plain.device.policy, None)
        from fwsign.verify.verifier import Verifier

        taught = Verifier([pki().root.anchor], policy).verify(teacher.read_bytes(), at=NOW)
        state.accept(None, taught, floor)
    found = gateway.confirm()
    assert (found.verdict, gateway.app, gateway.floor) == ("fell back", b"old", 1)
    assert 'it cannot be committed: certificate "victim"' in found.reason


# --- a trial is not prolonged ---------------------------------------------------------------------


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("why", ["deadline", "starts", "one start", "health"])
def test_a_trial_is_not_prolonged_by_a_full_disk(tmp_path: Path, why: str) -> None:
    gateway = TrialGateway(tmp_path, confirm="application" if why != "health" else "health")
    gateway.start()
    gateway.healthy("exit 75" if why == "health" else "exit 0")
    assert gateway.install(gateway.release(2)).verdict == "on trial"
    if why == "deadline":
        gateway.machine.seconds += 600
    elif why != "health":
        gateway.machine.reboot()
    gateway.healthy("exit 1")
    with full_disk(), pytest.raises(FwsignError) as caught:
        gateway.judge()
    assert caught.value.code.startswith("io.")
    assert (gateway.app, gateway.floor) == (b"old", 1)  # before anything was written
    assert len(list((gateway.plain.target / "versions").iterdir())) == 1
    gateway.healthy("exit 0")
    assert gateway.judge().verdict == "fell back"
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)


def test_a_trial_is_not_prolonged_by_kills(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """The end of the process."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    gateway.start()
    second = gateway.release(2)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "run", kill)
        with pytest.raises(Killed):
            gateway.install(second)
        for _ in range(2):
            gateway.machine.seconds += 299
            with pytest.raises(Killed):
                gateway.judge()
            assert (gateway.app, gateway.floor) == (b"new", 1)
        gateway.machine.seconds += 2
        assert gateway.judge().verdict == "fell back"
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)


def test_a_new_epoch_ends_a_trial(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    gateway.install(gateway.release(2**53 - 1))
    with state_of(gateway) as state, state.transaction():
        from fwsign.gateway.trial.record import end_for_epoch

        end_for_epoch(state)
    done = gateway.install(gateway.release(200))
    assert done.notes[0].startswith("release 9007199254740991, fell back: a trust update with")
    assert gateway.confirm().verdict == "committed"
    assert gateway.floor == 200


def test_a_failed_release_that_stays_is_gone_back_to_and_stays_uncommitted(
    gateway: TrialGateway,
) -> None:
    victim = make_leaf(pki().issuing, common="victim")
    gateway.install(gateway.plain.release(1, {"app.tar": b"old"}, **signed_by(victim, crls(1))))
    gateway.healthy("exit 1")
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=crls(2, revoked=[victim]))
    with refused("unsuitable.trial", "it stays"):
        gateway.install(second)
    with refused("unsuitable.trial", "release 2 is in place again"):
        gateway.install(gateway.release(3, b"3"))
    record = gateway.record
    assert record is not None
    assert (gateway.app, gateway.floor) == (b"new", 1)
    assert (record.phase, record.release.sequence) == ("stays", 2)
    assert (record.before and record.before.sequence) == 1
    with refused("unsuitable.trial", "it stays"):  # and its release before is the first one still
        gateway.install(second, retry=True)
    assert (gateway.app, gateway.floor) == (b"new", 1)


def test_without_revocation_the_release_before_comes_back_by_its_signature(
    tmp_path: Path,
) -> None:
    gateway = TrialGateway(tmp_path)
    config = gateway.plain.config
    config.write_text(config.read_text().replace('revocation = "require"', 'revocation = "off"'))
    gateway.start()
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(gateway.release(2))
    assert gateway.app == b"old"


def test_a_memory_that_is_busy_while_going_back_is_asked_again(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    gateway.healthy("exit 1")

    def busy(*_: Any, **__: Any) -> None:
        raise Failed("state.busy", "another process keeps it locked")

    with monkeypatch.context() as patch:
        patch.setattr(going_back, "judge_again", busy)
        with refused("state.busy", "another process keeps it locked"):
            gateway.install(gateway.release(2))
    assert gateway.judge().verdict == "fell back"
    assert (gateway.app, gateway.floor) == (b"old", 1)
