# SPDX-License-Identifier: Apache-2.0
"""The drives that RP2040 and RP2350 show in BOOTSEL mode, and copying to them."""

import errno
import os
import re
import string
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Code, Failed
from fwsign.files import open_plain

DRIVE: Final = "drive:"
"""A port with this prefix is the path of a drive, which is used instead of PICOBOOT."""
INFO: Final = "INFO_UF2.TXT"
NAME: Final = "FWSIGN.UF2"

_ROOT: Final = Path("/")
_INFO_LIMIT: Final = 4096  # bytes; the ROMs' has about 60
_PIECE: Final = 64 * 1024
_LAST: Final = 512  # bytes: the UF2 block on which the boot ROM restarts
_LEAVES: Final = 10.0  # seconds within which the drive vanishes after that block
_POLL: Final = 0.1
_LOCATION: Final = re.compile(r"/(\d+-\d+(?:\.\d+)*):\d+\.\d+(?:/|$)")
_GONE: Final = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ENOTCONN, errno.EROFS)


def is_drive(port: str) -> bool:
    """Tell whether a port is the path of a drive, with or without the prefix."""
    return port.startswith(DRIVE) or Path(port).is_dir()


class Drive(NamedTuple):
    """A mounted drive of a boot ROM.

    Args:
        path: where it is mounted.
        chip: "rp2040" or "rp2350".
        location: the USB port, as in "1-2.3"; None if the system does not tell.
    """

    path: Path
    chip: str
    location: str | None = None


def find(root: Path = _ROOT) -> list[Drive]:
    """Return all drives of boot ROMs that are mounted."""
    found = []
    for path, location in _mounted(root):
        if (chip := _chip(path)) is not None:
            found.append(Drive(path, chip, location))
    return found


def at(path: Path, root: Path = _ROOT) -> Drive:
    """Return the drive at `path`.

    Raises:
        Failed: `device.port`: it is not there; `device.absent`: it is not the drive of an RP2040
            or RP2350.
    """
    if not path.exists():
        reason = "no such file or directory"
        raise Failed(
            "device.port", f"cannot open {path}: {reason}", expected="a drive", found=reason
        )
    chip = _chip(path)
    if chip is None:
        from fwsign.images.rp_chips import BOARDS

        raise Failed(
            "device.absent",
            f"{path} is not the drive of an RP2040 or RP2350: "
            f"{INFO} does not name {' or '.join(BOARDS)}",
            expected=" or ".join(BOARDS),
            found="no such Board-ID",
        )
    location = next((where for one, where in _mounted(root) if one == path.absolute()), None)
    return Drive(path, chip, location)


def serial_location(port: str, root: Path = _ROOT) -> str | None:
    """Return the USB port of a serial port such as /dev/ttyACM0; None if unknown."""
    name = Path(os.path.realpath(port)).name  # by-id and by-path are links
    return _location(root / "sys/class/tty" / name / "device")


def copy(drive: Drive, data: bytes, progress: Callable[[int], None]) -> None:
    """Write a UF2 file to a drive, and see the board restart.

    Each piece is on the board before the next is sent, so the failing piece is known. Only with the
    last block may the drive vanish: the boot ROM then has everything and restarts.

    Args:
        drive: the drive to write to.
        data: a whole UF2 file.
        progress: told of the bytes of the file that are on the board.

    Raises:
        Failed: `device.lost`: it vanished before; `device.refused`: full, or it does not restart.
    """
    body = len(data) - _LAST
    pieces = [data[start : min(start + _PIECE, body)] for start in range(0, body, _PIECE)]
    sent = 0
    try:
        # Unbuffered, so that closing a file on a drive that is gone writes nothing.
        with (drive.path / NAME).open("wb", buffering=0) as file:
            for piece in [*pieces, data[body:]]:
                _all(file.fileno(), piece)
                os.fsync(file.fileno())
                sent += len(piece)
                progress(len(piece))
    except OSError as error:
        if sent < body or error.errno not in _GONE:
            raise _broken(drive, error, sent, len(data)) from error
        progress(len(data) - sent)
    _wait_until_gone(drive)


def _all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _broken(drive: Drive, error: OSError, sent: int, size: int) -> Failed:
    reason = (error.strerror or str(error)).lower()
    code: Code = "device.lost" if error.errno in _GONE else "device.refused"
    return Failed(
        code,
        f"{drive.path} took {sent} of {size} bytes: {reason}",
        expected=f"{size} bytes",
        found=f"{sent} bytes, {reason}",
    )


def _wait_until_gone(drive: Drive) -> None:
    deadline = time.monotonic() + _LEAVES
    while _chip(drive.path) is not None:
        if time.monotonic() > deadline:
            raise Failed(
                "device.refused",
                f"{drive.path} has the whole file, but the board does not restart: "
                "its boot ROM did not take it for an image of its own",
                expected="the drive vanishes",
                found=f"it is still there after {_LEAVES:.0f} s",
            )
        time.sleep(_POLL)


def _chip(path: Path) -> str | None:
    try:
        with open_plain(path / INFO, "files") as file:
            text = file.read(_INFO_LIMIT).decode("ascii", "replace")
    except (Failed, OSError):
        return None
    from fwsign.images.rp_chips import BOARDS  # where there is such a drive

    match = re.search(r"^Board-ID: *(\S+)", text, re.MULTILINE)
    return BOARDS.get(match[1]) if match else None


def _mounted(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the mount points of drives, and their USB ports."""
    if sys.platform == "win32":
        for letter in string.ascii_uppercase:
            yield Path(f"{letter}:\\"), None
    elif sys.platform == "darwin":
        for path in sorted((root / "Volumes").glob("*")):
            yield path, None
    else:
        yield from _linux(root)


def _linux(root: Path) -> Iterator[tuple[Path, str | None]]:
    try:
        table = (root / "proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in table.splitlines():
        device, path, kind, *_ = [*line.split(), "", "", ""]
        if kind in ("vfat", "msdos", "fuseblk"):
            location = _location(root / "sys/class/block" / Path(device).name)
            yield Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)), location


def _location(entry: Path) -> str | None:
    """Return the USB port of a device in /sys, the last one in its path."""
    found = _LOCATION.findall(os.path.realpath(entry))
    return found[-1] if found else None
