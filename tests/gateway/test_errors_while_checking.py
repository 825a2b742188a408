"""The disk or a limit fails while files are checked: that is `io.*`, and says nothing of them."""

import errno
import io
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.run.session import INTENT
from fwsign.gateway.target.directory import Target
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from pki_kit import needs_fork
from support import refused

FILES = {"app.tar": b"new", "b.bin": b"b"}
ERRORS = [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway."""
    return make_gateway(tmp_path)


@contextmanager
def io_error(number: int) -> Iterator[None]:
    """Expect an error of input or output, in the system's words."""
    with pytest.raises(Failed) as caught:
        yield
    assert caught.value.code in ("io.read", "io.write")
    assert os.strerror(number).lower() in caught.value.message


def failing(name: str, number: int) -> Callable[..., int]:
    """Return an `os.open` that fails for a file."""
    opened = os.open

    def fail(path: Any, *more: Any, **words: Any) -> int:
        if path == name and not more[0] & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return opened(path, *more, **words)

    return fail


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("name", ["app.tar", "b.bin", "versions"])
def test_an_installed_release_is_not_called_damaged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    envelope = gateway.release(1, FILES)
    gateway.install(envelope)
    before = gateway.results
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(name, number))
        with io_error(number):
            gateway.install(envelope)
    assert gateway.results == before
    assert gateway.install(envelope).notes == ("it was installed before",)


def test_an_installed_file_that_cannot_be_read_is_not_called_damaged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = gateway.release(1, FILES)
    gateway.install(envelope)

    class Broken(io.RawIOBase):
        def seek(self, *_: int) -> int:
            return 0

        def read(self, *_: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda *_, **__: Broken())
        with refused("io.read", 'the payload of "app.tar" failed: input/output error'):
            gateway.install(envelope)
    assert gateway.install(envelope).verdict == "already installed"


@pytest.mark.parametrize("how", ["gone", "link", "directory", "pipe", "version gone"])
def test_what_really_is_damaged_is_installed_again(gateway: Gateway, how: str) -> None:
    envelope = gateway.release(1, FILES)
    gateway.install(envelope)
    place = (gateway.target / "current").resolve() / "app.tar"
    if how == "version gone":
        place.parent.rename(gateway.base / "elsewhere")
    else:
        place.unlink()
    if how == "link":
        place.symlink_to("b.bin")
    elif how == "directory":
        place.mkdir()
    elif how == "pipe":
        os.mkfifo(place)
    done = gateway.install(envelope)
    assert done.notes == ("the installed files were damaged, and are installed again",)
    assert gateway.installed == FILES


@pytest.mark.parametrize("number", ERRORS)
def test_a_staged_file_that_cannot_be_opened_is_kept(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    envelope = gateway.release(1, {"app.tar": b"new" * 1000})
    payload = envelope.parent / "app.tar"
    payload.write_bytes(b"new" * 500)
    with refused("tampered.payload-size"):
        gateway.install(envelope)
    staged = gateway.target / ".fwsign/stage/files/app.tar"
    staged.write_bytes(b"new" * 500)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing("app.tar", number))
        with io_error(number):
            gateway.install(envelope)
    assert staged.read_bytes() == b"new" * 500


@pytest.mark.parametrize("number", ERRORS)
def test_a_file_that_cannot_be_checked_before_it_counts_is_not_called_tampered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    envelope = gateway.release(1, FILES)
    check = Target.check_version

    def fail(one: Target, name: str, files: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", failing("app.tar", number))
            check(one, name, files)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "check_version", fail)
        with io_error(number):
            gateway.install(envelope)
    gateway.install(envelope)
    assert gateway.installed == FILES


def test_an_accepted_release_is_not_undone_for_an_error_of_the_disk(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hold up a newer one, if the error lasts."""
    envelope = gateway.release(1, FILES)
    with monkeypatch.context() as patch:
        patch.setattr(Target, "flip", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            gateway.install(envelope)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing("app.tar", errno.EIO))
        done = gateway.install(gateway.release(2, {"c.bin": b"c"}))
    words = "a release that was begun before cannot be checked: "
    assert done.notes[0].startswith(words)
    assert ("rolled back", "io.write") not in gateway.results
    assert gateway.installed == {"c.bin": b"c"}
    with State.open(gateway.base / "state.db") as state:
        assert state.remembered(INTENT) is None


@needs_fork
def test_no_number_of_open_files_makes_a_refusal(gateway: Gateway) -> None:
    """With few descriptors a run ends as `io.*` or `state.*`, and changes nothing."""
    envelope = gateway.release(1, FILES)
    gateway.install(envelope)
    before = gateway.results
    gateway.install(envelope)  # imports are done
    used = max(int(one.name) for one in Path("/dev/fd").iterdir())
    codes = set()
    for more in range(14):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            limit = used + more
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
                said = gateway.install(envelope).notes[-1]
            except FwsignError as error:
                said = error.code
            except BaseException as error:  # noqa: BLE001 - nothing may leave this process
                said = repr(error)
            os.write(writer, json.dumps(said).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            codes.add(json.loads(file.read()))
    assert "it was installed before" in codes
    assert all(one.startswith(("io.", "state.", "it was")) for one in codes), codes
    assert gateway.results == before
