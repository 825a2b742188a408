# SPDX-License-Identifier: Apache-2.0
"""Simulated boards, for tests and demonstrations: `--port sim:esp32c3`.

A simulated board speaks the protocol of a real boot loader over a TCP port of this machine, so
that all of fwsign is used as with a cable. It proves no more than that about real boards.

    sim:BOARD[?NAME=VALUE[&NAME=VALUE]...]

BOARD is a chip of `fwsign.flash.esp_chips`, pico-uart or smp. `flash=FILE` keeps the flash's
content from run to run; `baud=N` makes the line as slow as one of N bit/s, `baud=line` as slow as
the host sets it; `id=HEX` gives the board another identity, of 12 digits for an ESP, 16 for a Pico.

For an ESP there are also: `lock=NAME`, which switches a protection on, as in
`lock=secure-download-mode`; `revision=MAJOR.MINOR`, the chip's; `size=2MB`, the flash's, from 1MB
to 32MB; `table=OFFSET`, where its boot loader looks for the partition table; and `content=stock`,
which puts a boot loader, a table and an application into an empty flash.

`fault=NAME[@N]` lets something go wrong once:

    cable@N      the cable is pulled after byte N from the host
    flip@N       a bit is flipped in byte N to the board, flip-back@N in byte N from it
    nak@N        command N is refused
    power@N      power is lost in the middle of writing or erasing sector N
    lie          digests are those of what was sent, not of what is in the flash
    stuck@N      byte N of the flash cannot be programmed
    noise@N      above N bit/s every block of data is damaged on its way (esp)
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from fwsign.atomic import read_bytes, write_atomic
from fwsign.errors import Failed
from fwsign.flash.simulate.line import LINE_FAULTS, Fault, Line

FAULTS: Final = (*LINE_FAULTS, "nak", "power", "lie", "stuck", "noise")
SCHEME: Final = "sim:"
_LIMIT: Final = 128 * 1024 * 1024  # bytes of a file with a flash's content

_REVISION: Final = re.compile(r"(\d)\.(\d{1,2})", re.ASCII)
_TABLE: Final = re.compile(r"0x[0-9a-fA-F]{1,4}000", re.ASCII)
_SIZES: Final = {f"{size}MB": size << 20 for size in (1, 2, 4, 8, 16, 32)}
_VALUES: Final = {
    "flash": "a file",
    "baud": "N or line",
    "id": "hex digits",
    "revision": "MAJOR.MINOR",
    "size": f"one of {', '.join(_SIZES)}",
    "table": "an offset in hex, at the start of a sector",
    "content": "stock or blank",
}
"""The settings that have one value, and what it is."""


class Settings(NamedTuple):
    """The settings in a `sim:` port.

    Args:
        board: "esp32c3", "pico-uart", "smp" and so on.
        flash: the content to begin with; empty for an erased one.
        baud: bit/s; None for the computer's speed; 0 for the rate that the host sets.
        identity: hex digits of the board's identity; None for the simulator's own.
        locks: as in `fwsign.flash.board`.
        faults: the faults to inject.
        revision: the chip's, major * 100 + minor; None for the simulator's own.
        size: of the flash, in bytes; None for 4 MiB, or as much more as its content needs.
        table: the offset at which the boot loader looks for the partition table.
        stock: whether an empty flash is filled with a boot loader, a table and an application.
    """

    board: str
    flash: bytes = b""
    baud: int | None = None
    identity: str | None = None
    locks: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    revision: int | None = None
    size: int | None = None
    table: int = 0x8000
    stock: bool = False


class Simulated:
    """A running simulated board; a context manager.

    Args:
        uri: as in the module's description.

    Raises:
        Failed: `device.port`: there is no such board or fault; `io.*`.
    """

    def __init__(self, uri: str) -> None:
        settings, self._file = parse(uri)
        if self._file is not None and self._file.exists():
            settings = settings._replace(flash=read_bytes(self._file, _LIMIT))
        self.machine = _machine(settings)
        self._line = Line(self.machine, settings.faults)

    @property
    def port(self) -> str:
        """The port for pyserial: `socket://127.0.0.1:N`."""
        return self._line.port

    @property
    def flash(self) -> bytes:
        """The flash's present content."""
        return bytes(self.machine.flash)

    @property
    def started(self) -> str | None:
        """What an ESP starts when it is reset now, in words; None for another board."""
        started = getattr(self.machine, "started", None)
        return str(started) if isinstance(started, tuple) else None

    def close(self) -> None:
        """Stop the board, and save the flash's content if that was requested."""
        self._line.close()
        if self._file is not None:
            write_atomic(self._file, self.flash, overwrite=True)

    def __enter__(self) -> Simulated:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def check(uri: str) -> None:
    """Refuse an impossible `sim:` port, before any file is read.

    Raises:
        Failed: `device.port`.
    """
    _machine(parse(uri)[0])


def parse(uri: str) -> tuple[Settings, Path | None]:
    """Return the settings in a `sim:` port, and the file that keeps its flash.

    Raises:
        Failed: `device.port`.
    """
    board, _, query = uri.removeprefix(SCHEME).partition("?")
    settings = Settings(board)
    file: Path | None = None
    for name, value in parse_qsl(query, keep_blank_values=True):
        match name:
            case "flash" if value:
                file = Path(value)
            case "baud" if value == "line" or value.isdecimal():
                settings = settings._replace(baud=0 if value == "line" else int(value))
            case "id" if value.isalnum():
                settings = settings._replace(identity=value.lower())
            case "lock":
                settings = settings._replace(locks=(*settings.locks, value.replace("-", " ")))
            case "fault":
                settings = settings._replace(faults=(*settings.faults, _fault(uri, value)))
            case "revision" if match := _REVISION.fullmatch(value):
                revision = 100 * int(match[1]) + int(match[2])
                settings = settings._replace(revision=revision)
            case "size" if value in _SIZES:
                settings = settings._replace(size=_SIZES[value])
            case "table" if _TABLE.fullmatch(value):
                settings = settings._replace(table=int(value, 16))
            case "content" if value in ("stock", "blank"):
                settings = settings._replace(stock=value == "stock")
            case _ if name in _VALUES:
                raise _wrong(uri, f"{name}={value}", f"{name} with {_VALUES[name]}")
            case _:
                *names, last = (*_VALUES, "lock", "fault")
                raise _wrong(uri, f"{name}={value}", f"{', '.join(names)} or {last}")
    return settings, file


def _fault(uri: str, text: str) -> Fault:
    name, _, at = text.partition("@")
    if name not in FAULTS or not (at.isdecimal() or not at):
        raise _wrong(uri, text, f"NAME or NAME@N, of {', '.join(FAULTS)}")
    return Fault(name, int(at or 0))


def _machine(settings: Settings) -> Any:
    from fwsign.flash.esp_chips import CHIPS

    kind = "esp" if settings.board in CHIPS else settings.board
    modules = {"esp": "esp", "pico-uart": "pico_uart", "smp": "smp"}
    if kind not in modules:
        known = ", ".join([*CHIPS, "pico-uart", "smp"])
        raise _wrong(settings.board, settings.board, known)
    if kind != "esp" and settings.locks:
        raise _wrong(settings.board, "a lock", "an ESP for it")
    own = Settings(settings.board)
    for name in ("revision", "size", "table", "stock"):
        if kind != "esp" and getattr(settings, name) != getattr(own, name):
            raise _wrong(settings.board, "content" if name == "stock" else name, "an ESP for it")
    if kind == "smp" and settings.identity is not None:
        raise _wrong(settings.board, "id", "a board that has one")
    module = importlib.import_module(f"fwsign.flash.simulate.{modules[kind]}")
    return module.Simulator(settings)


def _wrong(uri: str, found: str, expected: str) -> Failed:
    return Failed(
        "device.port",
        f'no simulated board can be "{uri}": {found}, expected {expected}',
        expected=expected,
        found=found,
    )
