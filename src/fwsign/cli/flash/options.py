# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign flash`, each with its help."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import KEY_PASS
from fwsign.flash.boards import waivers
from fwsign.flash.esp.chips import AFTER, BEFORE
from fwsign.flash.smp.encodings import ENCODINGS

ENVELOPE: TypeAlias = Annotated[
    Path, typer.Argument(readable=False, metavar="ENVELOPE", help="A .suit file.")
]
PORTS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--port",
        metavar="PORT",
        help="A board: /dev/ttyUSB0, COM5, socket://HOST:PORT, rfc2217://HOST:PORT, the drive "
        "of a Pico, or sim:esp32c3; repeat for several at once.",
    ),
]
EVERY: TypeAlias = Annotated[
    bool, typer.Option("--all", help="Every board here whose USB identity fits; see fwsign ports.")
]
LABEL: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="PORT=NAME",
        help="Call the board at a port by a name, such as that of its slot; repeat for several. "
        "Default: [labels] of fwsign.toml.",
    ),
]
WAIT: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--wait", help="Take the next board after one is pulled, until Ctrl-C; then count them."
    ),
]
BELL: TypeAlias = Annotated[
    bool, typer.Option("--bell", help="Ring the terminal's bell when a board has ended.")
]
STATE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state",
        readable=False,
        metavar="FILE",
        help="Where the sequence number that each board accepted is remembered. Default: a "
        "file of the user, made on first use.",
    ),
]
REVOCATION: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--revocation",
        metavar="require|off|allow-stale:TIME",
        help="require refuses where there are no CRLs, off ignores them, allow-stale:30d is "
        "require, but takes old CRLs so long past their next update. Default: require.",
    ),
]
PERMIT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--permit",
        readable=False,
        metavar="FILE",
        help="A permit for one board to have this release although it is below its floor; it works "
        "once. See fwsign permit make.",
    ),
]
NO_ROLLBACK_CHECK: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-rollback-check", help="Accept older releases, and remember none; receipts are kept."
    ),
]
ANY_PRODUCT: TypeAlias = Annotated[
    bool, typer.Option("--any-product", help="Accept releases for any product of the vendor.")
]
ACCEPT_UNVERIFIABLE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--accept-unverifiable",
        help="Write to boards that cannot show what they hold, such as in secure download mode.",
    ),
]
ACCEPT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CHECK",
        help="Write although a check of the images against the board fails: "
        f"{', '.join(waivers.ACCEPTABLE)}; repeat for several.",
    ),
]
RAW: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--raw", help="Write bytes that are no known image also to places that the board executes."
    ),
]
ERASE_DATA: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--erase-data",
        help="Write a merged image over the board's own data too: settings, calibration, files.",
    ),
]
LEAVE_OUT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--leave-out",
        metavar="NAME",
        help="Flash without a component that is not for flash; repeat for several.",
    ),
]
DEVICE_DATA: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--device-data",
        readable=False,
        metavar="CSV",
        help="Rows of data, one for each board, as the release's policy allows; - is standard "
        "input. No two boards get the same row.",
    ),
]
SERIALS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--serial",
        metavar="[PORT=]SERIAL",
        help="The board's row, by its serial number; with several boards the port or its label "
        "before it. Default: the row that the board had before, or that names its MAC.",
    ),
]
SCAN: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--scan",
        help="Ask for each board's serial number, as bar code scanners type it, before the run.",
    ),
]
NEXT: TypeAlias = Annotated[
    bool,
    typer.Option("--next", help="Boards without a row of their own take the next free one."),
]
BOARD: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--board",
        metavar="esp|pico-uart|pico-uf2|smp",
        help="The kind of board. Default: by the port, and the chip of a release.",
    ),
]
BAUD: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--baud", metavar="N", min=300, help="Bit/s. Default: fast, and slower where that fails."
    ),
]
SMP_ENCODING: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--smp-encoding",
        metavar="|".join(ENCODINGS),
        help="How MCUboot's serial recovery was built to carry packets. Default: console.",
    ),
]
READBACK: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--readback",
        metavar="full|digest",
        help="How to verify: read all back, or let the board compute digests. Default: what "
        "is enough for the result verified.",
    ),
]
FORCE_REWRITE: TypeAlias = Annotated[
    bool, typer.Option("--force-rewrite", help="Write also what is in the flash already.")
]
BEFORE_MODE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="MODE",
        help=f"How an ESP gets into its boot loader: {', '.join(BEFORE)}.",
    ),
]
AFTER_MODE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="MODE", help=f"What an ESP does in the end: {', '.join(AFTER)}."
    ),
]
NO_STUB: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-stub", help="Use only an ESP's ROM, if its stub does not run; this is slower."
    ),
]
RECEIPT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        readable=False,
        metavar="FILE",
        help="Add a line of JSON for each board to this file. Default: to the state file.",
    ),
]
RECEIPT_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--receipt-key",
        metavar="URI",
        help="Sign receipts with this key: a path, or pkcs11:, openbao:, vault:, awskms: and "
        "others.",
    ),
]
RECEIPT_CERTIFICATE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--receipt-certificate",
        readable=False,
        metavar="PEM",
        help="The certificate of the key, for a TLS client, and those of its issuers: receipts "
        "carry them, and fwsign receipts verify --anchor follows them.",
    ),
]
JSON_LINES: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON for each board.")
]
DRY_RUN: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", help="Ask the boards, say what would change, but write nothing."),
]


class BoardOptions(NamedTuple):
    """Options: the boards of a run."""

    port: PORTS = None
    every: EVERY = False
    label: LABEL = None
    wait: WAIT = False
    bell: BELL = False
    permit: PERMIT = None


class WaiverOptions(NamedTuple):
    """Options: the checks that do not count, and the components that are left out."""

    no_rollback_check: NO_ROLLBACK_CHECK = False
    any_product: ANY_PRODUCT = False
    accept_unverifiable: ACCEPT_UNVERIFIABLE = False
    accept: ACCEPT = None
    raw: RAW = False
    erase_data: ERASE_DATA = False
    leave_out: LEAVE_OUT = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the components that are left out, each once."""
        return tuple(dict.fromkeys(self.leave_out or ()))

    @property
    def image_checks(self) -> tuple[str, ...]:
        """The names of the checks of images against the board that are waived, each once."""
        switches = ((waivers.RAW, self.raw), (waivers.ERASE_DATA, self.erase_data))
        return (*dict.fromkeys(self.accept or ()), *(name for name, on in switches if on))


class RowOptions(NamedTuple):
    """Options: the data of each board."""

    device_data: DEVICE_DATA = None
    serial: SERIALS = None
    scan: SCAN = False
    next_row: NEXT = False


class LinkOptions(NamedTuple):
    """Options: the link to a board."""

    board: BOARD = None
    baud: BAUD = None
    smp_encoding: SMP_ENCODING = None


class WritingOptions(NamedTuple):
    """Options: what is written and how it is verified."""

    readback: READBACK = None
    force_rewrite: FORCE_REWRITE = False


class EspOptions(NamedTuple):
    """Options: how an ESP starts and ends."""

    before: BEFORE_MODE = None
    after: AFTER_MODE = None
    no_stub: NO_STUB = False


class ReceiptOptions(NamedTuple):
    """Options: where receipts go, and who signs them."""

    receipt: RECEIPT = None
    receipt_key: RECEIPT_KEY = None
    receipt_certificate: RECEIPT_CERTIFICATE = None
    pass_: KEY_PASS = None


def check_permit(boards: BoardOptions, waivers: WaiverOptions) -> None:
    """Refuse options that have no meaning with a permit."""
    if boards.permit is None:
        return
    if waivers.no_rollback_check:
        hint = "a permit is for a board whose floor counts"
        ui.usage("--permit and --no-rollback-check exclude each other", hint)
    if boards.wait:  # such a run may last longer than a permit
        ui.usage("--permit and --wait exclude each other", "a permit is for one board")


def check_choices(*choices: tuple[str, str | None, Sequence[str]]) -> None:
    """Refuse a value that is not one of a few: each choice is an option, its value, the values."""
    for name, value, known in choices:
        if value is not None and value not in known:
            ui.usage(f'{name} "{value}"', f"choose from {', '.join(known)}")
