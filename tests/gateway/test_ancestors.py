"""Directories above target, memory and device.toml that others can write: refused, as by sshd."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fwsign.files import refuse_reachable
from fwsign.gateway import enrol
from fwsign.gateway.config import device as config
from fwsign.gateway.target.directory import Target
from fwsign.memory.state import State
from gateway.kit import Gateway, enrolment, make_gateway
from support import NOW, refused

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NEW = {"app.tar": b"new"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory below one that can be opened to others."""
    path = tmp_path / "above" / "below"
    path.mkdir(parents=True)
    return path


def names(gateway: Gateway) -> dict[str, tuple[Callable[[], object], str]]:
    return {
        "device.toml": (lambda: config.load(gateway.config), "io.config"),
        "target": (lambda: Target(gateway.target), "io.permission"),
        "memory": (lambda: enrol.status(gateway.device), "io.permission"),
    }


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
@pytest.mark.parametrize("what", ["device.toml", "target", "memory"])
def test_an_ancestor_that_others_can_write_is_refused(base: Path, what: str, mode: int) -> None:
    """Whoever can write it renames ours, and puts a directory of his own in its place."""
    gateway = make_gateway(base)
    device = gateway.device
    use, code = names(gateway)[what]
    if what == "memory":
        device.path.unlink()
        use = lambda: enrol.status(device)  # noqa: E731 - device.toml would be refused first
    base.parent.chmod(mode)
    with refused(code, f"{base.parent} has mode {mode:04o}, owner {os.geteuid()}"):
        use()
    base.parent.chmod(0o755)


def test_enrolment_refuses_what_no_later_command_would_use(base: Path) -> None:
    wanted = enrolment(base)
    base.parent.chmod(0o777)
    with refused("io.permission", f"{base.parent} has mode 0777"):
        enrol.init(wanted, NOW, None)
    base.parent.chmod(0o755)
    assert sorted(one.name for one in base.iterdir()) == ["target"]


def test_a_sticky_ancestor_protects_what_is_ours(base: Path) -> None:
    """As /tmp does: others may add names there, and not rename ours."""
    base.parent.chmod(0o1777)
    gateway = make_gateway(base)
    gateway.install(gateway.release(1, NEW))
    assert gateway.installed == NEW
    base.parent.chmod(0o755)


def test_links_are_followed_one_by_one(base: Path) -> None:
    """The way to the link counts, and that behind it; also with .. on it, and links of links."""
    target = base / "target"
    target.mkdir()
    shared = base / "shared"
    shared.mkdir(mode=0o755)
    (shared / "first").symlink_to("../second")
    (base / "second").symlink_to(target)
    refuse_reachable(shared / "first")
    shared.chmod(0o777)
    with refused("io.permission", f"{shared / 'first'} can be exchanged", f"{shared} has mode"):
        refuse_reachable(shared / "first")
    with refused("io.permission", f"{shared} has mode"):
        refuse_reachable(shared / ".." / "target")
    refuse_reachable(base / "target")
    (base / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        refuse_reachable(base / "loop")


@as_root
@pytest.mark.parametrize("what", ["directory", "link"])
def test_an_ancestor_or_link_of_another_user_is_refused(base: Path, what: str) -> None:
    place = base / "place"
    if what == "link":
        base.chmod(0o1777)
        (base / "real").mkdir()
        place.symlink_to("real")
    else:
        place.mkdir()
    os.chown(place, 12345, 12345, follow_symlinks=False)
    with refused("io.permission", f"{place} has mode", "owner 12345"):
        refuse_reachable(place / "file")


def test_what_is_not_there_is_judged_as_far_as_it_is(base: Path) -> None:
    refuse_reachable(base / "a/b/c")
    base.chmod(0o777)
    with refused("io.permission"):
        refuse_reachable(base / "a/b/c")


def test_a_memory_that_is_not_there_is_still_lost(base: Path) -> None:
    gateway = make_gateway(base)
    (base / "state.db").unlink()
    with refused("state.lost"):
        gateway.install(gateway.release(1, NEW))
    with refused("state.lost"):
        State.open(base / "state.db")
