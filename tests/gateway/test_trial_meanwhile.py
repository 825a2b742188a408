"""What other processes do to the memory while a release on trial is put in place or judged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.gateway.enrol import reset
from fwsign.gateway.judge import Judge
from fwsign.gateway.target import programs
from fwsign.gateway.target.directory import Target
from fwsign.gateway.trust import apply
from fwsign.memory.state import State
from fwsign.trust.lists import Floors
from fwsign.verify.verifier import Verifier
from gateway.kit import pki
from gateway.test_trial_commands_and_boards import Loader, both
from gateway.trial_kit import TrialGateway
from support import NOW, Pki, make_pki, refused
from trust.test_update import root, sign, update

HIGHEST = 2**53 - 1
EPOCH = sign(update(1, root(pki().root), epoch=1, floors=Floors(sequence=150)), pki().root.key)


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


def meanwhile(monkeypatch: pytest.MonkeyPatch, when: str, action: Callable[[], object]) -> None:
    """Let something happen once while a program runs: the health command, or one with a verb."""
    run, left = programs.run, [action]

    def busy(*arguments: Any, **more: Any) -> programs.Ended:
        if left and more["environment"].get("FWSIGN_VERB", "health") == when:
            left.pop()()
        return run(*arguments, **more)

    monkeypatch.setattr(programs, "run", busy)


def new_epoch(gateway: TrialGateway) -> None:
    apply(gateway.plain.device, EPOCH, NOW, None)


@pytest.mark.parametrize(
    ("when", "status"),
    [("activate", 0), ("health", 0), ("health", 1), ("health", 75), ("confirm", 0)],
)
def test_a_new_epoch_ends_a_trial_whatever_is_at_work(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch, when: str, status: int
) -> None:
    """Else the commit would raise the floor again that the owner has just stated."""
    loader = Loader(gateway)
    gateway.install(both(gateway, 100, b"old"))
    gateway.healthy(f"exit {status}")
    meanwhile(monkeypatch, when, lambda: new_epoch(gateway))
    words = ("a trust update with a new epoch ended its trial", "release 100 is in place again")
    if when == "confirm":
        with refused("state.conflict", "the trial of release 9007199254740991 was ended meanwhile"):
            gateway.install(both(gateway, HIGHEST, b"new"))
        assert gateway.judge().verdict == "fell back"
    else:
        with refused("unsuitable.trial", *words):
            gateway.install(both(gateway, HIGHEST, b"new"))
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 150, None)
    assert loader.calls[-1] == "revert load.bin 100 load old"
    gateway.healthy("exit 0")
    assert gateway.install(both(gateway, 200, b"200")).verdict == "installed"
    assert gateway.floor == 200


def test_a_new_epoch_while_commands_run_without_a_trial_leaves_boards_alone(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.configure("[exec]", **{'"load.bin"': ["/bin/true"]})
    gateway.install(both(gateway, 100, b"old"))
    run = programs.run

    def busy(*arguments: Any, **more: Any) -> programs.Ended:
        new_epoch(gateway)
        return run(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(programs, "run", busy)
        with refused("state.conflict", "a trust update came in meanwhile"):
            gateway.install(both(gateway, HIGHEST, b"new"))
    assert (gateway.app, gateway.floor) == (b"old", 150)
    assert gateway.install(both(gateway, 200, b"200")).verdict == "installed"


@pytest.mark.parametrize("trial", [True, False])
def test_a_trust_update_in_the_last_moment_accepts_nothing(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch, *, trial: bool
) -> None:
    """It came after the release was judged for the last time, and before that is written."""
    gateway.install(gateway.release(100, b"old"))
    if not trial:
        config = gateway.plain.config
        config.write_text(config.read_text().partition("[trial]")[0])
    verify_after = Judge.verify_after

    def and_then(judge: Judge, envelope: bytes) -> Any:
        found = verify_after(judge, envelope)
        new_epoch(gateway)
        return found

    monkeypatch.setattr(Judge, "verify_after", and_then)
    with refused("state.conflict", "a trust update came in meanwhile"):
        gateway.install(gateway.release(HIGHEST))
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 150, None)


def test_a_reset_while_health_is_judged_is_not_undone(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    meanwhile(monkeypatch, "health", lambda: reset(gateway.plain.device, NOW, None))
    with refused("state.conflict", "the trial of release 2 was ended meanwhile"):
        gateway.install(gateway.release(2))
    assert (gateway.record, gateway.floor) == (None, None)


def test_a_reset_while_a_release_is_put_in_place_takes_it_back(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    Loader(gateway)
    gateway.install(both(gateway, 1, b"old"))
    meanwhile(monkeypatch, "activate", lambda: reset(gateway.plain.device, NOW, None))
    with refused("state.conflict", "the trial of release 2 was ended meanwhile"):
        gateway.install(both(gateway, 2, b"new"))
    assert (gateway.app, gateway.floor) == (b"old", None)


def test_an_anchor_that_is_removed_while_a_release_is_confirmed_commits_nothing(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    Loader(gateway)
    other: Pki = make_pki(common="Other ")
    change = sign(update(1, root(other.root)), pki().root.key, other.root.key)
    gateway.install(both(gateway, 1, b"old"))
    meanwhile(monkeypatch, "confirm", lambda: apply(gateway.plain.device, change, NOW, None))
    with refused(
        "unsuitable.trial", "it cannot be committed: ", "it is in place and not committed"
    ):
        gateway.install(both(gateway, 2, b"new"))
    assert gateway.floor == 1


def test_a_floor_that_rose_during_a_trial_is_above_what_is_committed(tmp_path: Path) -> None:
    """A board without an identity has the gateway's floor, and may be flashed meanwhile."""
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    gateway.install(gateway.release(2))
    higher = gateway.release(5).read_bytes()
    with State.open(tmp_path / "state.db") as state:
        policy, floor = state.policy(gateway.plain.device.policy, None)
        state.accept(None, Verifier([pki().root.anchor], policy).verify(higher, at=NOW), floor)
    found = gateway.confirm()
    assert (found.verdict, gateway.app, gateway.floor) == ("fell back", b"old", 5)
    assert "it cannot be committed: sequence number 2 is below 5" in found.reason


# --- a trial ends, although its end cannot be written, or nothing read ----------------------------


def test_a_memory_that_takes_nothing_does_not_let_health_be_asked_for_ever(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    gateway.healthy("exit 75")
    gateway.install(gateway.release(2))
    gateway.healthy("exit 0")

    def read_only(_: State) -> Any:
        assert len(gateway.asked) < 5, "it is asked again and again"
        raise Failed("io.permission", "it is read-only")

    with monkeypatch.context() as patch:
        patch.setattr(State, "transaction", read_only)
        with refused("io.permission", "it is read-only"):
            gateway.judge()
    assert gateway.asked == ["1", "2", "2"]
    assert gateway.judge().verdict == "committed"


@pytest.mark.parametrize("why", ["deadline", "starts"])
def test_files_that_cannot_be_read_end_a_trial_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    gateway.install(gateway.release(2))
    adopt = Target.adopt

    def broken(target: Target, parts: Any, name: str) -> Any:
        if gateway.plain.target.joinpath("versions", name, "app.tar").read_bytes() == b"new":
            raise Failed("io.read", "the disk does not answer")
        return adopt(target, parts, name)

    monkeypatch.setattr(Target, "adopt", broken)
    with refused("io.read", "the disk does not answer"):
        gateway.confirm()
    if why == "starts":
        for _ in range(2):
            gateway.machine.reboot()
            with refused("io.read", "the disk does not answer"):
                gateway.judge()
        gateway.machine.reboot()
    else:
        gateway.machine.seconds += 600
    found = gateway.judge()
    assert found.verdict == "fell back"
    assert "it cannot be committed: the disk does not answer" in found.reason
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)


def test_a_command_after_an_install_does_not_prolong_a_trial(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    gateway.configure("[after_install]", command=["/bin/true"])
    run = programs.run

    def slow(command: tuple[str, ...], **more: Any) -> programs.Ended:
        gateway.machine.seconds += 700 * (command == ("/bin/true",))
        return run(command, **more)

    monkeypatch.setattr(programs, "run", slow)
    with refused("unsuitable.trial", "it was not confirmed within 600 seconds of uptime"):
        gateway.install(gateway.release(2))
    assert (gateway.app, gateway.asked) == (b"old", ["1"])
    assert gateway.results[-1] == "fell back"


def test_a_health_command_gets_no_more_time_than_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = TrialGateway(tmp_path, health_seconds=60)
    gateway.start()
    gateway.healthy("exit 75")
    gateway.install(gateway.release(2))
    gateway.machine.seconds += 597
    limits = []
    run = programs.run

    def limited(*arguments: Any, **more: Any) -> programs.Ended:
        limits.append(more["seconds"])
        return run(*arguments, **more)

    monkeypatch.setattr(programs, "run", limited)
    assert gateway.judge().verdict == "on trial"
    assert limits == [3]
