"""A release on trial: it passes and stays, or the release before comes back; the floor waits."""

from pathlib import Path

import pytest

from gateway.trial_kit import TrialGateway
from support import refused


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


def test_a_release_that_passes_is_committed(gateway: TrialGateway) -> None:
    gateway.start()
    done = gateway.install(gateway.release(2))
    assert (done.verdict, gateway.app, gateway.floor) == ("installed", b"new", 2)
    assert gateway.results[1:] == ["on trial", "committed"] * 2
    assert (gateway.record, gateway.failed, gateway.asked) == (None, (), ["1", "2"])
    kept = gateway.plain.target / ".fwsign"
    assert {one.name for one in kept.iterdir()} == {"lock", "kept"}
    assert len(list((kept / "kept").iterdir())) == 2
    assert len(list((gateway.plain.target / "versions").iterdir())) == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "runner ended with status 3"),
        ("echo the pump is dead; exit 1", "ended with status 1: the pump is dead"),
        ("kill -9 $$", "runner ended with signal 9"),
        ("sleep 1000", "runner did not end within 1 seconds"),
        ("(sleep 1000 &) ; sleep 1000", "runner did not end within 1 seconds"),
    ],
)
def test_a_release_that_fails_goes_and_the_one_before_comes_back(
    tmp_path: Path, script: str, said: str
) -> None:
    gateway = TrialGateway(tmp_path, health_seconds=1)
    gateway.start()
    gateway.healthy(script)
    second = gateway.release(2)
    with refused("unsuitable.trial", "release 2 failed its trial", said, "release 1 is in place"):
        gateway.install(second)
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)
    assert gateway.results[-2:] == ["on trial", "fell back"]
    assert [(one.sequence, one.interrupted) for one in gateway.failed] == [(2, 0)]
    assert said in str(gateway.failed[0].reason)
    assert len(list((gateway.plain.target / "versions").iterdir())) == 1


def test_after_a_commit_nothing_older_is_accepted(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.install(gateway.release(2))
    with refused("unsuitable.rollback", "sequence number 1 is below 2"):
        gateway.install(gateway.release(1, b"old"))


def test_until_the_commit_the_floor_is_what_it_was(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    assert gateway.floor == 1
    done = gateway.install(gateway.release(2))
    assert (done.verdict, gateway.app, gateway.floor) == ("on trial", b"new", 1)
    assert done.notes == ("release 2, on trial: the application has not confirmed it yet",)
    assert gateway.confirm(2).verdict == "committed"
    assert gateway.floor == 2
