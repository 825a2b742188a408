# SPDX-License-Identifier: Apache-2.0
"""Whether what the memory calls installed is in place: the link, the files, and their bytes."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.files import io_error
from fwsign.format.payload import measure
from fwsign.gateway.target.directory import CURRENT, VERSIONS
from fwsign.gateway.target.release_record import ReleaseRecord

Verdict: TypeAlias = Literal[
    "in place", "nothing", "no files", "missing", "other version", "changed", "unknown"
]
"""What `current` is, compared with the memory; "no files": only commands or boards got it."""

_AGAIN: Final = "install that release again: fwsign install ENVELOPE"
_RESUME: Final = "an install was interrupted: fwsign install --resume"


class InPlace(NamedTuple):
    """The comparison of the target directory with the memory.

    Args:
        verdict: the verdict.
        current: the name of the version that `current` names; None for none.
        faults: what differs, in words.
        advice: the next action; None if nothing needs one.
        checked: whether all bytes were read.
    """

    verdict: Verdict
    current: str | None = None
    faults: tuple[str, ...] = ()
    advice: str | None = None
    checked: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {**self._asdict(), "faults": list(self.faults)}


def compare(
    target: Path,
    installed: ReleaseRecord | None,
    others: tuple[ReleaseRecord | None, ...] = (),
    *,
    check: bool = False,
) -> InPlace:
    """Compare the target directory with the memory; nothing is changed, and no lock is needed.

    Args:
        target: the directory.
        installed: the installed release.
        others: those that may be in place instead for now: begun, or on trial.
        check: read all bytes; else names and sizes are compared.
    """
    try:
        name = _current(target)
    except Failed as error:
        return InPlace("unknown", None, (error.message,), "look at the target directory")
    expected = next((one for one in others if one and name and one.directory == name), installed)
    begun = any(others)
    if expected is None:
        if name is None:
            return InPlace("nothing", advice=_RESUME if begun else None)
        words = "the memory knows no installed release"
        return InPlace("unknown", name, (words,), "fwsign install ENVELOPE puts one in place")
    if expected.directory is None:
        return InPlace("no files", name)
    advice = _RESUME if begun else _AGAIN
    if name is None:
        return InPlace("missing", None, (f"{target / CURRENT} is not there",), advice)
    if name != expected.directory:
        words = f"{CURRENT} names version {name:.16}, installed is {expected.directory:.16}"
        return InPlace("other version", name, (words,), advice)
    faults = tuple(_faults(target / VERSIONS / name, expected, check=check))
    verdict: Verdict = "changed" if faults else "in place"
    return InPlace(verdict, name, faults, advice if faults else None, check)


def is_kept(target: Path, release: ReleaseRecord) -> bool:
    """Tell whether the files of a release are still there, in use or not."""
    return release.directory is None or (target / VERSIONS / release.directory).is_dir()


def _current(target: Path) -> str | None:
    """Return the name of the version in use; None if there is no link."""
    link = target / CURRENT
    try:
        target.stat()
        found = str(link.readlink())
    except FileNotFoundError as error:
        if error.filename == str(target):
            raise io_error(error, target) from error
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise io_error(error, link) from error
        found = ""
    parent, _, name = found.partition("/")
    if parent != VERSIONS or not name or "/" in name:
        raise Failed("io.exists", f"{link} is not a link that fwsign made", found=found)
    return name


def _faults(version: Path, record: ReleaseRecord, *, check: bool) -> Iterator[str]:
    """Yield what differs in the files of a version."""
    try:
        names = {one.name for one in version.iterdir()}
    except OSError as error:
        yield io_error(error, version).message
        return
    yield from (f"{name} is gone" for name in record.files if name not in names)
    yield from (f"{name} is not of this release" for name in sorted(names - set(record.files)))
    known = dict(zip(record.files, record.contents, strict=False))
    for name in record.files:
        if name in names and (fault := _fault(version / name, known.get(name), check=check)):
            yield f"{name} {fault}"


def _fault(path: Path, content: str | None, *, check: bool) -> str | None:
    """Return what differs in a file; None if nothing does.

    Args:
        path: the file.
        content: as in `ReleaseRecord`; None in records of an older fwsign.
        check: read its bytes.
    """
    size, algorithm, digest = (content or "- - -").split(" ")
    try:
        with _opened(path) as handle:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                return "is no file"
            if content is None:
                return "cannot be checked: it was installed by an older fwsign" if check else None
            if found.st_size != int(size):
                return f"has {found.st_size} bytes, not {size}"
            if check:
                with os.fdopen(os.dup(handle), "rb", buffering=0) as source:
                    is_same = measure(source, int(algorithm))[0].value.hex() == digest
                return None if is_same else "has other bytes"
    except OSError as error:
        return f"cannot be read: {io_error(error, path).message}"
    return None


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
