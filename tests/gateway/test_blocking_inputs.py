"""A pipe or device in place of a file, as on a hostile stick: refused at once, never waited for."""

import os
from pathlib import Path

import pytest

from fwsign.gateway.config import device as config
from fwsign.gateway.rehearse import rehearse
from fwsign.gateway.target.directory import Target
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from support import NOW, refused

KINDS = ["pipe", "link to a pipe", "device", "terminal"]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway on which release 1 is installed."""
    made = make_gateway(tmp_path)
    made.install(made.release(1, {"app.tar": b"old"}))
    return made


def replace(path: Path, kind: str) -> None:
    """Put something that is no file in a path's place."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/dev/tty")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["update.suit", "app.tar"])
def test_no_file_on_a_stick_holds_the_lock(gateway: Gateway, what: str, kind: str) -> None:
    envelope = gateway.release(2, {"app.tar": b"new"})
    place = envelope.parent / what
    replace(place, kind)
    noun = "a pipe" if "pipe" in kind else "a device"
    with refused("io.format", f"{place} is not a regular file: it is {noun}"):
        gateway.install(envelope)
    if what == "app.tar":
        with refused("io.format", f"{place} is not a regular file: it is {noun}"):
            gateway.install(envelope, str(place))
    assert (gateway.installed, gateway.floor) == ({"app.tar": b"old"}, 1)
    with Target(gateway.target):  # nobody has the lock
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_device_toml_and_its_anchors_are_files(gateway: Gateway, kind: str) -> None:
    anchor = gateway.base / "etc/ca.crt"
    text = gateway.config.read_text()
    begin, end = text.index("[[anchor]]"), text.index("-----END")
    rest = text[text.index('"""', end) + 3 :]
    gateway.config.write_text(f'{text[:begin]}[[anchor]]\nfile = "{anchor}"\n{rest}')
    replace(anchor, kind)
    with refused("io.format", f"{anchor} is not a regular file"):
        config.load(gateway.config)
    replace(gateway.config, "pipe")
    with refused("io.format", f"{gateway.config} is not a regular file: it is a pipe"):
        config.load(gateway.config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["state.db", "state.db-journal"])
def test_a_memory_and_its_journal_are_files(gateway: Gateway, name: str, kind: str) -> None:
    path = gateway.base / name
    replace(path, kind)
    with refused("io.format", f"{path} is not a regular file"):
        State.open(gateway.base / "state.db")
    if name != "state.db":  # what is no file is no memory
        (verdict,) = rehearse(gateway.base, [b""], gateway.device.policy, NOW)
        assert verdict.refusal is not None
        assert verdict.refusal.code == "io.format"


@pytest.mark.parametrize("name", ["lock", "stage/envelope", "stage/files/app.tar"])
def test_a_pipe_among_staged_files_is_not_waited_for(gateway: Gateway, name: str) -> None:
    envelope = gateway.release(2, {"app.tar": b"new"})
    place = gateway.target / ".fwsign" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    replace(place, "pipe")
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": b"new"}
