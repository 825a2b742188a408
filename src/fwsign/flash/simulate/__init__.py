# SPDX-License-Identifier: Apache-2.0
"""Simulated boards, for tests and demonstrations: `--port sim:esp32c3`.

A simulated board speaks the protocol of a real boot loader over a TCP port of this machine, so
that all of fwsign is used as with a cable. It proves no more than that about real boards.

    sim:BOARD[?NAME=VALUE[&NAME=VALUE]...]

BOARD is a chip of `fwsign.flash.esp.chips`, pico-uart, pico-bootsel or smp. `flash=FILE` keeps the
flash's content from run to run; `baud=N` makes the line as slow as one of N bit/s, `baud=line` as
slow as the host sets it; `id=HEX` gives the board another identity, of 12 digits for an ESP, 16 for
a Pico; `chip=rp2350` makes a pico-bootsel one of that chip; it is a drive, which has no line;
`noise=RATE` damages bytes on the line to a pico-uart or smp with that probability, as in
`noise=1e-4`; `encoding=raw` or `cobs` is how an smp carries packets.

For an ESP there are also: `lock=NAME`, which switches a protection on, as in
`lock=secure-download-mode`; `revision=MAJOR.MINOR`, the chip's; `size=2MB`, the flash's, from 1MB
to 32MB; `table=OFFSET`, where its boot loader looks for the partition table; `lines=octal`, for the
flash of an ESP32-S3; `key=HEX`, the digest of a key of secure boot v2 in its eFuses, up to three
times, each perhaps `:revoked`; `security-version=N`, burnt likewise; and `content=blank`, which
leaves an empty flash empty. Else it gets a boot loader, a table and an application.

`fault=NAME[@N]` lets something go wrong once:

    cable@N      the cable is pulled after byte N from the host
    gone@N       the port is gone for 0.3 s after byte N from the host
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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.flash.simulate.line import LINE_FAULTS, Fault, Line

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS: Final = (*LINE_FAULTS, "nak", "power", "lie", "stuck", "noise")
SCHEME: Final = "sim:"
_LIMIT: Final = 128 * 1024 * 1024  # bytes of a file with a flash's content

_REVISION: Final = re.compile(r"(\d)\.(\d{1,2})", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TABLE: Final = re.compile(r"0x[0-9a-fA-F]{1,4}000", re.ASCII)
_SIZES: Final = {f"{size}MB": size << 20 for size in (1, 2, 4, 8, 16, 32)}


class _Value(NamedTuple):
    """A setting with one value: its field, how it is read, and what is expected."""

    field: str
    read: Callable[[str], Any]
    expected: str


def _revision(text: str) -> int | None:
    match = _REVISION.fullmatch(text)
    return 100 * int(match[1]) + int(match[2]) if match else None


def _baud(text: str) -> int | None:
    return 0 if text == "line" else int(text) if text.isdecimal() else None


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if 0 <= rate < 1 else None


_VALUES: Final = {
    "baud": _Value("baud", _baud, "N or line"),
    "id": _Value("identity", lambda text: text.lower() if text.isalnum() else None, "hex digits"),
    "revision": _Value("revision", _revision, "MAJOR.MINOR"),
    "size": _Value("size", _SIZES.get, f"one of {', '.join(_SIZES)}"),
    "table": _Value(
        "table",
        lambda text: int(text, 16) if _TABLE.fullmatch(text) else None,
        "an offset in hex, at the start of a sector",
    ),
    "lines": _Value("octal", {"octal": True, "quad": False}.get, "quad or octal"),
    "security-version": _Value(
        "security_version", lambda text: int(text) if text.isdecimal() else None, "a number"
    ),
    "content": _Value("stock", {"stock": True, "blank": False}.get, "stock or blank"),
    "chip": _Value("chip", lambda text: text or None, "a name"),
    "noise": _Value("noise", _rate, "a number from 0 to below 1"),
    "encoding": _Value(
        "encoding",
        lambda text: text if text in ("console", "raw", "cobs") else None,
        "console, raw or cobs",
    ),
}
"""The settings that have one value; reading it gives None if it is wrong."""


class Settings(NamedTuple):
    """The settings in a `sim:` port.

    Args:
        board: "esp32c3", "pico-uart", "smp" and so on.
        flash: the content to begin with; empty for an erased one.
        baud: bit/s; None for the computer's speed; 0 for the rate that the host sets.
        identity: hex digits of the board's identity; None for the simulator's own.
        locks: as in `fwsign.flash.boards.board`.
        faults: the faults to inject.
        revision: the chip's, major * 100 + minor; None for the simulator's own.
        size: of the flash, in bytes; None for 4 MiB, or as much more as its content needs.
        table: the offset at which the boot loader looks for the partition table.
        octal: whether the eFuses of an ESP32-S3 say that its flash has eight data lines.
        stock: whether an empty flash is filled with a boot loader, a table and an application.
        chip: the chip of a Pico in BOOTSEL mode; None for an RP2040.
        noise: the probability that a byte is damaged on the line.
        encoding: how a board with MCUboot carries packets: "console", "raw" or "cobs".
        keys: of secure boot v2, in an ESP's eFuses.
        security_version: an ESP's number against rollback.
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
    octal: bool = False
    stock: bool = False
    chip: str | None = None
    noise: float = 0.0
    encoding: str = "console"
    keys: tuple[tuple[bytes, bool], ...] = ()
    security_version: int = 0

    @property
    def boot(self) -> tuple[tuple[tuple[bytes, bool], ...], int]:
        """What an ESP's eFuses say about its start."""
        return self.keys, self.security_version


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
            size = settings.size or len(settings.flash)
            if size < len(settings.flash):
                found = f"{self._file} has {len(settings.flash)} bytes"
                raise _wrong(uri, found, f"at most {size} for this size")
        self.machine = _machine(settings)
        self._line = _line(self.machine, settings)

    @property
    def port(self) -> str:
        """The port for pyserial, `socket://127.0.0.1:N`, or a drive."""
        port: str = self._line.port
        return port

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
    settings = Settings(board, stock=_is_esp(board))
    file: Path | None = None
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name == "flash":
            file = Path(text or _expected(uri, name, text, "a file"))
        elif name == "lock":
            settings = settings._replace(locks=(*settings.locks, text.replace("-", " ")))
        elif name == "key":
            settings = settings._replace(keys=(*settings.keys, _key(uri, text)))
        elif name == "fault":
            settings = settings._replace(faults=(*settings.faults, _fault(uri, text)))
        elif name in _VALUES:
            field, read, expected = _VALUES[name]
            value = read(text)
            if value is None:
                _expected(uri, name, text, expected)
            settings = settings._replace(**{field: value})
        else:
            raise _wrong(uri, f"{name}={text}", f"flash, {', '.join(_VALUES)}, lock, key or fault")
    return settings, file


def _expected(uri: str, name: str, text: str, expected: str) -> NoReturn:
    raise _wrong(uri, f"{name}={text}", f"{name} with {expected}")


def _fault(uri: str, text: str) -> Fault:
    name, _, at = text.partition("@")
    if name not in FAULTS or not (at.isdecimal() or not at):
        raise _wrong(uri, text, f"NAME or NAME@N, of {', '.join(FAULTS)}")
    return Fault(name, int(at or 0))


def _key(uri: str, text: str) -> tuple[bytes, bool]:
    digest, colon, revoked = text.partition(":")
    if not _DIGEST.fullmatch(digest) or (colon and revoked != "revoked"):
        _expected(uri, "key", text, "64 hex digits, perhaps :revoked")
    return bytes.fromhex(digest), bool(colon)


def _is_esp(board: str) -> bool:
    from fwsign.flash.esp.chips import CHIPS

    return board in CHIPS


def _machine(settings: Settings) -> Any:
    from fwsign.flash.esp.chips import CHIPS

    kind = "esp" if _is_esp(settings.board) else settings.board
    modules = {
        "esp": "esp",
        "pico-uart": "pico_uart",
        "pico-bootsel": "pico_bootsel",
        "smp": "smp",
    }
    if kind not in modules:
        known = ", ".join([*CHIPS, "pico-uart", "pico-bootsel", "smp"])
        raise _wrong(settings.board, settings.board, known)
    if kind != "esp" and settings.locks:
        raise _wrong(settings.board, "a lock", "an ESP for it")
    own = Settings(settings.board)
    for name in (
        *("revision", "size", "table", "octal", "stock"),
        *("keys", "security_version"),
    ):
        if kind != "esp" and getattr(settings, name) != getattr(own, name):
            raise _wrong(settings.board, "content" if name == "stock" else name, "an ESP for it")
    if kind != "smp" and settings.encoding != "console":
        raise _wrong(settings.board, "encoding", "smp for it")
    if kind != "pico-bootsel" and settings.chip is not None:
        raise _wrong(settings.board, "chip", "pico-bootsel for it")
    if kind == "pico-bootsel" and (settings.faults or settings.baud is not None or settings.noise):
        raise _wrong(settings.board, "a fault, baud or noise", "a board with a line")
    if kind == "esp" and settings.noise:
        raise _wrong(settings.board, "noise", "fault=noise@N for an ESP")
    if kind in ("smp", "pico-bootsel") and settings.identity is not None:
        raise _wrong(settings.board, "id", "a board that has one")
    module = importlib.import_module(f"fwsign.flash.simulate.{modules[kind]}")
    return module.Simulator(settings)


def _line(machine: Any, settings: Settings) -> Any:
    """Return the line to a machine, or the drive that it is."""
    if settings.board == "pico-bootsel":
        from fwsign.flash.simulate.pico_bootsel import SimulatedDrive

        return SimulatedDrive(machine)
    if settings.noise:
        from fwsign.flash.simulate.noise import Noisy

        machine = Noisy(machine, settings.noise)
    return Line(machine, settings.faults)


def _wrong(uri: str, found: str, expected: str) -> Failed:
    return Failed(
        "device.port",
        f'no simulated board can be "{uri}": {found}, expected {expected}',
        expected=expected,
        found=found,
    )
