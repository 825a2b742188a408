# SPDX-License-Identifier: Apache-2.0
"""Ask a board for its chip, content and programs, without a release and without a change to it.

Programs are known by their own words at their beginning. Nothing here is verified.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.flash.attempts import Attempts, left_running
from fwsign.flash.backends import ConnectOptions, attached
from fwsign.flash.boards.board import FLASH_ENCRYPTION, Board, BoardInfo, Connect
from fwsign.flash.boards.content import BoardContent, BoardEntry
from fwsign.flash.pico.drives import is_drive

_BY_KIND: Final = {"esp": "esp.survey", "pico-uart": "pico.survey", "pico-uf2": "pico.survey"}
_NO_ANSWER: Final = ("device.absent", "device.lost", "device.protocol")
_LISTED: Final = ("bootable", "pending", "confirmed", "active")  # states in MCUboot's list


class Survey(NamedTuple):
    """The answer of a board: its facts, and its content."""

    info: BoardInfo
    content: BoardContent


def survey(connect: Connect) -> Survey:
    """Ask a board, and let it go on with the program that it has.

    Raises:
        Failed: `device.*`.
    """
    attempts = Attempts(connect, lambda: None)
    seen = False
    while True:
        board = attempts.open()
        try:
            info = board.probe()
            seen = True
            content = look(board, info)
            return Survey(info, content._replace(notes=(*content.notes, *left_running(board))))
        except BaseException as error:  # Ctrl-C too: the board shall go on
            if not attempts.may_help(error, seen=seen):
                left_running(board)
                raise
        finally:
            board.close()


def ask(port: str, how: ConnectOptions, kinds: Sequence[str]) -> Survey:
    """Ask the board at a port, by one kind of boot loader after another until one answers.

    Args:
        port: as typed.
        how: the way to reach it.
        kinds: of `backends.KINDS`, at least one.

    Raises:
        Failed: `device.*`, `io.*`.
    """
    for kind in kinds:
        _refuse_stranding(port, kind)
        try:
            with attached(port, how._replace(kind=kind)) as connect:
                return survey(connect)
        except Failed as error:
            if error.code not in _NO_ANSWER or len(kinds) == 1:
                raise
    tried = ", ".join(kinds)
    raise Failed(
        "device.absent",
        f"no boot loader answers at {port}: tried {tried}",
        expected=tried,
        found="no answer",
    )


def _refuse_stranding(port: str, kind: str) -> None:
    """Refuse to bring a Pico into a mode that nothing here can end."""
    if kind == "pico-uf2" and not is_drive(port) and importlib.util.find_spec("usb") is None:
        raise Failed(
            "device.support",
            f"the Pico at {port} would stay in BOOTSEL mode: restarting it needs pyusb",
            expected="pyusb",
            found="nothing",
            hint='pipx install --force "fwsign[flash,usb]"; '
            'in an environment: pip install "fwsign[flash,usb]"',
        )


def look(board: Board, info: BoardInfo) -> BoardContent:
    """Read what a board holds, as far as it shows it.

    Raises:
        Failed: `device.*`.
    """
    if info.kind == "smp":
        return _listed(board)
    if FLASH_ENCRYPTION in info.locks:
        return BoardContent(notes=("the flash is encrypted: its content cannot be told from here",))
    if not info.readable:
        reason = ", ".join(info.locks) or "a drive shows nothing"
        return BoardContent(notes=(f"the flash cannot be read: {reason}",))
    module = importlib.import_module(f"fwsign.flash.{_BY_KIND[info.kind]}")
    content: BoardContent = module.look(board.read, info)
    return content


def _listed(board: Board) -> BoardContent:
    from fwsign.flash.smp.board import SerialRecovery  # only for MCUboot

    inner = getattr(board, "inner", board)
    if not isinstance(inner, SerialRecovery):
        return BoardContent()
    entries = []
    for slot in inner.images():
        name = f"image {slot.get('image', 0)}, slot {slot.get('slot', 0)}"
        code = slot.get("hash")
        states = ", ".join(state for state in _LISTED if slot.get(state))
        details = [("hash", code.hex())] if isinstance(code, bytes) else []
        details += [("states", states)] if states else []
        version = slot.get("version")
        entries.append(
            BoardEntry(
                name,
                None,
                None,
                "application",
                version=None if version is None else str(version),
                details=tuple(details),
            )
        )
    return BoardContent(tuple(entries), () if entries else ("the boot loader lists no image",))
