# SPDX-License-Identifier: Apache-2.0
"""Which boot loader is behind a port, and how it is opened."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from fwsign.errors import Failed, Unsuitable
from fwsign.flash.simulate import SCHEME, Simulated, check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fwsign.flash.board import Board, BoardInfo, Connect

KINDS: Final = ("esp", "pico-uart", "pico-uf2", "smp")
_MODULES: Final = {"esp": "esp", "pico-uart": "pico_uart", "pico-uf2": "pico_uf2", "smp": "smp"}
_RASPBERRY_PI: Final = 0x2E8A
_WITH_HOST: Final = ("socket", "rfc2217")
_URLS: Final = (*_WITH_HOST, "hwgrep", "spy", "alt", "loop", "cp2110")
"""What pyserial opens beside devices."""


class How(NamedTuple):
    """How to reach a board, as typed; None is for the usual.

    Args:
        kind: one of `KINDS`.
        baud: bit/s for the transfer.
        before: how the board gets into its boot loader: a name that esptool knows.
        after: what it does in the end: likewise.
    """

    kind: str | None = None
    baud: int | None = None
    before: str | None = None
    after: str | None = None


def kind_for(port: str, chips: Collection[str], vendor_id: int | None = None) -> str:
    """Say which boot loader to expect at a port, from what is to be written.

    Args:
        port: what the user calls it.
        chips: those that the release is for.
        vendor_id: of the USB device behind the port, where it is known.

    Raises:
        Unsuitable: `unsuitable.chip`: nothing tells.
    """
    simulated = port.removeprefix(SCHEME).partition("?")[0] if port.startswith(SCHEME) else None
    if simulated is not None:
        return simulated if simulated in KINDS else "esp"
    if any(chip.startswith("esp") for chip in chips):
        return "esp"
    if any(chip.startswith("rp2") for chip in chips):
        is_drive = port.startswith("drive:") or Path(port).is_dir()
        return "pico-uf2" if is_drive or vendor_id == _RASPBERRY_PI else "pico-uart"
    found = ", ".join(chips)
    raise Unsuitable(
        "unsuitable.chip",
        f"nothing tells how boards with {found} are flashed",
        expected="an esp or rp chip, or --board",
        found=found,
        hint="boards with MCUboot's serial recovery: --board smp",
    )


def check_port(port: str) -> None:
    """Refuse the name of a port that cannot be meant, before anything is opened.

    Args:
        port: as typed.

    Raises:
        Failed: `device.port`.
    """
    if port.startswith(SCHEME):
        check(port)
        return
    scheme, is_url, rest = port.partition("://")
    place = urlsplit(f"//{rest}") if scheme in _WITH_HOST else None
    if not port.strip() or (is_url and scheme not in _URLS):
        expected = f"a device, COM5, a drive, {SCHEME}BOARD, or one of {', '.join(_URLS)}://"
    elif place is not None and is_url and not (place.hostname and _port_of(place)):
        expected = f"{scheme}://HOST:PORT"
    else:
        return
    raise Failed(
        "device.port", f'"{port}" is not a port, expected {expected}', expected=expected, found=port
    )


def _port_of(place: SplitResult) -> int | None:
    try:
        return place.port
    except ValueError:
        return None


@contextlib.contextmanager
def attached(port: str, how: How) -> Iterator[Connect]:
    """Give what opens the board at a port; a simulated board lives as long as this.

    Args:
        port: a device, `COM5`, `socket://...`, `rfc2217://...`, a drive, or `sim:...`.
        how: with a kind.

    Raises:
        Failed: `device.port`, `device.support`, `io.*`.
    """
    with contextlib.ExitStack() as stack:
        if not port.startswith(SCHEME):
            yield _connect(port, how)
            return
        connect = _connect(stack.enter_context(Simulated(port)).port, how)
        yield lambda attempt: cast("Board", _Marked(connect(attempt)))


class _Marked:
    """A simulated board: it says so, for else its receipts and floor were those of a real one."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def probe(self) -> BoardInfo:
        """Say what this board is."""
        return self._board.probe()._replace(simulated=True)

    def __getattr__(self, name: str) -> object:
        """Leave everything else to the board."""
        return getattr(self._board, name)


def _connect(port: str, how: How) -> Connect:
    if how.kind not in _MODULES:
        raise Failed("device.support", f'no board is of kind "{how.kind}"')
    module = importlib.import_module(f"fwsign.flash.{_MODULES[how.kind]}")
    more = {"before": how.before, "after": how.after} if how.kind == "esp" else {}
    connect: Connect = module.connect(port, baud=how.baud, **more)
    return connect
