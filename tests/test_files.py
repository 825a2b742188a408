"""Files appear whole or not at all, on every kind of file system."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.files import (
    Accept,
    atomic_writer,
    io_error,
    open_plain,
    read_bytes,
    read_owned,
    refuse_special,
    write_atomic,
)
from support import refused


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_atomic(path, b"secret", mode=0o600)
    assert path.read_bytes() == b"secret"
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a.key"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with refused("io.exists", f"cannot write {path}: exists already"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with refused("io.exists", "exists already"), atomic_writer(path) as file:
        file.write(b"new")
        path.write_bytes(b"from another process")
    assert path.read_bytes() == b"from another process"
    assert names(tmp_path) == ["a"]


def no_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_files_are_still_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    path = tmp_path / "a"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    with refused("io.exists", "exists already"), atomic_writer(tmp_path / "b") as file:
        file.write(b"new")
        (tmp_path / "b").write_bytes(b"old")
    assert names(tmp_path) == ["a", "b"]


def test_an_error_in_between_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with refused("io.full", "no space left"), atomic_writer(path) as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_refusal_in_between_passes_as_it_is(tmp_path: Path) -> None:
    with refused("key.failed", "own words"), atomic_writer(tmp_path / "a"):
        raise Failed("key.failed", "own words")
    assert names(tmp_path) == []


def test_directories_are_not_files(tmp_path: Path) -> None:
    with refused("io.directory", "is a directory"):
        write_atomic(tmp_path, b"", overwrite=True)
    with refused("io.directory", "not a directory"):
        (tmp_path / "file").write_bytes(b"")
        write_atomic(tmp_path / "file" / "a", b"")
    with refused("io.missing", "no such file or directory"):
        write_atomic(tmp_path / "gone" / "a", b"")


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with refused("io.format", f"{path} is larger than 4 bytes"):
        read_bytes(path, 4)
    with refused("io.missing"):
        read_bytes(tmp_path / "b", 4)


def test_other_errors_keep_their_words() -> None:
    error = io_error(OSError(errno.EIO, "Input/output error"), "x", "read")
    assert (error.code, error.message) == ("io.read", "cannot read x: input/output error")
    assert io_error(OSError("odd"), "x", "write").message == "cannot write x: odd"


# --- what could make a reader wait ---------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="there are no such files on Windows")


def special(tmp_path: Path, kind: str) -> Path:
    """Make a path of a kind that is no regular file."""
    path = tmp_path / "special"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif kind == "a device":
        path = Path("/dev/zero")
    elif kind == "a terminal":
        path = Path("/dev/tty")
    return path


@posix
@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a terminal"])
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str, link: bool) -> None:
    path = special(tmp_path, kind)
    if link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    words = f"{path} is not a regular file: it is {kind.replace('terminal', 'device')}"
    for read in (read_bytes, read_owned):
        with refused("io.format", words):
            read(path, 10)
    with refused("io.format", words):
        open_plain(path, "files")
    with refused("io.format", words):
        refuse_special(path)


@posix
def test_a_file_that_is_exchanged_for_a_pipe_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    opened = os.open

    def exchange(name: Any, *more: Any, **words: Any) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(name, *more, **words)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exchange)
        with refused("io.format", "it is a pipe"):
            open_plain(path)


@posix
@pytest.mark.parametrize("accept", ["streams", "pipes"])
def test_what_a_shell_hands_over_is_read(accept: Accept) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)
    try:
        with refused("io.format", f"/dev/fd/{reader} is not a regular file: it is a pipe"):
            open_plain(Path(f"/dev/fd/{reader}"), "files")
        assert read_bytes(Path(f"/dev/fd/{reader}"), 100, accept) == b"through a pipe"
    finally:
        os.close(reader)


@posix
def test_a_link_to_standard_input_is_no_file(tmp_path: Path) -> None:
    """On a stick, that is: reading it would wait for whoever is at the terminal."""
    reader, writer = os.pipe()
    (tmp_path / "link").symlink_to(f"/dev/fd/{reader}")
    try:
        with refused("io.format", "it is a pipe"):
            read_bytes(tmp_path / "link", 100)
    finally:
        os.close(reader)
        os.close(writer)


@posix
def test_a_directory_is_called_that(tmp_path: Path) -> None:
    with refused("io.directory", f"cannot read {tmp_path}: is a directory"):
        read_bytes(tmp_path, 100)
    refuse_special(tmp_path)
    refuse_special(tmp_path / "absent")
