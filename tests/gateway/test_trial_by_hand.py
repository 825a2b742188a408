"""Going back by hand after a trial: from a release that stays, and again after a failure."""

from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.gateway import install
from fwsign.gateway.rollback import rollback
from gateway.kit import crls, pki
from gateway.test_trial_commands_and_boards import Loader
from gateway.trial_kit import TrialGateway
from support import make_leaf, refused


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


def no_room(*_: Any) -> None:
    raise Failed("io.full", "there is no room")


def test_the_release_before_one_that_stays_comes_back_by_hand(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    old = (gateway.plain.target / "current").resolve()
    gateway.healthy("exit 1")
    (old / "app.tar").rename(old / "away")
    with refused("unsuitable.trial", "it stays"):
        gateway.install(gateway.release(2))
    (old / "away").rename(old / "app.tar")
    with monkeypatch.context() as patch:
        patch.setattr(install, "make_room", no_room)
        with refused("io.full", "there is no room"):
            rollback(gateway.request())
    assert (gateway.app, gateway.floor) == (b"new", 1)
    assert rollback(gateway.request()).verdict == "installed"
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)


def test_going_back_by_hand_is_tried_again_after_a_failure(
    gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its payload for a command is still there, and nothing is fetched."""
    loader = Loader(gateway)
    first = gateway.plain.release(3, {"load.bin": b"1"})
    gateway.install(first)
    gateway.install(gateway.plain.release(3, {"two.bin": b"2"}))
    for path in first.parent.iterdir():
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(install, "make_room", no_room)
        for _ in range(2):
            with refused("io.full", "there is no room"):
                rollback(gateway.request())
    assert rollback(gateway.request()).verdict == "installed"
    assert loader.calls[-2:] == ["activate load.bin 3 1", "confirm load.bin 3 "]


def test_a_release_without_files_that_stays_is_gone_back_to(gateway: TrialGateway) -> None:
    loader = Loader(gateway)
    victim = make_leaf(pki().issuing, common="victim")
    signers = [(victim, [pki().issuing], crls(1))]
    gateway.install(gateway.plain.release(1, {"app.tar": b"one"}, signers=signers))
    gateway.healthy("exit 1")
    revoked = crls(2, revoked=[victim])
    with refused("unsuitable.trial", "it is in place and not committed"):
        gateway.install(gateway.plain.release(2, {"load.bin": b"2"}, crls=revoked))
    with refused("unsuitable.trial", "release 2 is in place again"):
        gateway.install(gateway.plain.release(3, {"app.tar": b"3", "load.bin": b"3"}))
    assert (gateway.app, loader.calls[-1]) == (b"one", "revert load.bin 2 2")
    record = gateway.record
    assert record is not None
    assert (record.phase, record.release.sequence, record.release.directory) == ("stays", 2, None)
