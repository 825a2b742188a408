# SPDX-License-Identifier: Apache-2.0
"""Write the files of a PKI directory; all writers use these functions.

Each file is written whole or not at all, a new directory appears whole or not at all.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import io_error, sync_directory, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

PRIVATE: Final = "private"
"""The directory of the keys."""


def make_directories(directory: Path, *, crl: bool = True) -> None:
    """Make the directories of a new PKI, with one for CRLs if there are several.

    `git add` ignores the content of `private`.
    """
    parts = [("", 0o777), (PRIVATE, 0o700), ("issued", 0o777)]
    for part, mode in [*parts, ("crl", 0o777)] if crl else parts:
        (directory / part).mkdir(mode)
    keep_from_git(directory / PRIVATE)


def keep_from_git(directory: Path) -> None:
    """Make git ignore everything in a directory, this file itself included."""
    write_atomic(directory / ".gitignore", b"*\n", mode=0o600)


def build_beside(directory: str | os.PathLike[str], build: Callable[[Path], None]) -> None:
    """Let `build` make a directory beside `directory`, then rename it to that name.

    Raises:
        Failed: `state.pki-exists`: there is something in `directory` already; `io.*`; and the
            errors of `build`. Nothing is left then.
    """
    try:
        target = Path(os.path.realpath(directory))  # resolve() raises RuntimeError for a loop
        _refuse_used(target)
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:64]}.", dir=target.parent) as name:
            scratch = Path(name) / "pki"
            build(scratch)
            _put_in_place(scratch, target)
    except OSError as error:
        raise io_error(error, directory, "write") from error


def refuse_used(directory: str | os.PathLike[str]) -> None:
    """Refuse a place for a new directory that `build_beside` would refuse.

    Raises:
        Failed: `state.pki-exists`, `io.*`.
    """
    try:
        _refuse_used(Path(os.path.realpath(directory)))
    except OSError as error:
        raise io_error(error, directory, "write") from error


def _refuse_used(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Failed(
            "state.pki-exists",
            f"{target} exists already and is not an empty directory",
            expected="no such directory, or an empty one",
            found="files in it",
            hint="name another directory",
        )


def _put_in_place(scratch: Path, target: Path) -> None:
    if target.exists():  # Windows cannot rename onto an existing name, not even an empty directory
        scratch.chmod(stat.S_IMODE(target.stat().st_mode))
        target.rmdir()
    scratch.rename(target)
    sync_directory(target.parent)


def set_aside(key_path: Path, current: Path | None = None) -> None:
    """Rename a key that a killed run left without a certificate, to make room for a new one.

    It is not removed, because it may still be needed.

    Args:
        key_path: the usual place of the key.
        current: the place where it is, if that is another.
    """
    source = current or key_path
    try:
        if source.exists():
            number = 1
            while (aside := key_path.with_name(f"{key_path.name}.unused-{number}")).exists():
                number += 1
            source.rename(aside)
    except OSError as error:
        raise io_error(error, key_path, "write") from error


def write_certificate(
    path: Path, certificate: x509.Certificate, *, overwrite: bool = False
) -> None:
    """Write a certificate in PEM."""
    write_atomic(path, certificate.public_bytes(Encoding.PEM), overwrite=overwrite)
