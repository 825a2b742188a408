# SPDX-License-Identifier: Apache-2.0
"""Choose the boot loader behind a port, and open it."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from fwsign.errors import Failed, Unsuitable
from fwsign.flash.pico.drives import is_drive
from fwsign.flash.simulate import SCHEME, Simulated, check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from fwsign.flash.boards.board import Board, BoardInfo, Connect
    from fwsign.flash.ports import PortInfo

KINDS: Final = ("esp", "pico-uart", "pico-uf2", "smp")
SERIAL_KINDS: Final = ("esp", "pico-uart", "smp")
"""The kinds that may be at any serial port."""
_MODULES: Final = {
    "esp": "esp.board",
    "pico-uart": "pico.uart",
    "pico-uf2": "pico.uf2",
    "smp": "smp.board",
}
_RASPBERRY_PI: Final = 0x2E8A
_WITH_HOST: Final = ("socket", "rfc2217")
_URLS: Final = (*_WITH_HOST, "hwgrep", "spy", "alt", "loop", "cp2110")
"""The URL schemes that pyserial opens, in addition to devices."""


class ConnectOptions(NamedTuple):
    """The way to reach a board, as typed; None stands for the default.

    Args:
        kind: one of `KINDS`.
        baud: bit/s for the transfer.
        before: the way into the boot loader: a name that esptool knows.
        after: the board's action at the end: also a name that esptool knows.
        stub: whether to start esptool's stub on an ESP.
        encoding: how serial recovery carries its packets: a name in `smp_encodings`.
    """

    kind: str | None = None
    baud: int | None = None
    before: str | None = None
    after: str | None = None
    stub: bool = True
    encoding: str | None = None


def kind_for(port: str, chips: Collection[str], vendor_id: int | None = None) -> str:
    """Return the kind of boot loader to expect at a port, for the release's chips.

    Args:
        port: the port, as typed.
        chips: the chips of the release.
        vendor_id: the USB vendor of the device behind the port, if known.

    Raises:
        Unsuitable: `unsuitable.chip`: the kind cannot be decided.
    """
    simulated = port.removeprefix(SCHEME).partition("?")[0] if port.startswith(SCHEME) else None
    if simulated == "pico-bootsel":
        return "pico-uf2"
    if simulated is not None:
        return simulated if simulated in KINDS else "esp"
    from fwsign.images.chips import is_esp, is_rp  # where the release decides

    if any(map(is_esp, chips)):
        return "esp"
    if any(map(is_rp, chips)):
        over_usb = vendor_id == _RASPBERRY_PI or is_drive(port)
        return "pico-uf2" if over_usb else "pico-uart"
    found = ", ".join(chips)
    raise Unsuitable(
        "unsuitable.chip",
        f"nothing tells how boards with {found} are flashed",
        expected="an esp or rp chip, or --board",
        found=found,
        hint="boards with MCUboot's serial recovery: --board smp",
    )


def kinds_at(port: str, here: Iterable[PortInfo]) -> tuple[str, ...]:
    """Return the kinds of boot loaders that may be at a port, the likeliest first.

    Args:
        port: the port, as typed.
        here: the ports that are here.
    """
    if port.startswith(SCHEME):
        return (kind_for(port, ("esp",)),)
    if is_drive(port):
        return ("pico-uf2",)
    real = os.path.realpath(port)
    found = next((one for one in here if os.path.realpath(one.device) == real), None)
    return found.kinds if found is not None and found.kinds else SERIAL_KINDS


def check_port(port: str) -> None:
    """Refuse an impossible name of a port, before anything is opened.

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
def attached(port: str, how: ConnectOptions) -> Iterator[Connect]:
    """Yield a function that opens the board at a port; a simulated board lives for this context.

    Args:
        port: a device, `COM5`, `socket://...`, `rfc2217://...`, a drive, or `sim:...`.
        how: the way to reach it, with a kind.

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
    """A simulated board that is marked as one, so that its receipts and floors are not real."""

    def __init__(self, board: Board) -> None:
        self.inner = board

    def probe(self) -> BoardInfo:
        """Return the facts about this board."""
        return self.inner.probe()._replace(simulated=True)

    def __getattr__(self, name: str) -> object:
        """Leave everything else to the board."""
        return getattr(self.inner, name)


def _connect(port: str, how: ConnectOptions) -> Connect:
    if how.kind not in _MODULES:
        raise Failed("device.support", f'no board is of kind "{how.kind}"')
    module = importlib.import_module(f"fwsign.flash.{_MODULES[how.kind]}")
    own: dict[str, object] = {}
    if how.kind == "esp":
        own = {"before": how.before, "after": how.after, "stub": how.stub}
    elif how.kind == "smp":
        own = {"encoding": how.encoding}
    connect: Connect = module.connect(port, baud=how.baud, **own)
    return connect
