"""Files appear whole or not at all, on every kind of file system."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.files import atomic_writer, io_error, read_bytes, write_atomic
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
