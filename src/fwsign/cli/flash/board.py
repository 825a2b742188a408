# SPDX-License-Identifier: Apache-2.0
"""`fwsign board`: ask one board what it is, and what it holds and runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples
from fwsign.cli.flash import options as option
from fwsign.cli.options import JSON
from fwsign.errors import Failed
from fwsign.flash.esp.chips import AFTER, BEFORE
from fwsign.flash.smp.encodings import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.flash.boards.content import BoardEntry
    from fwsign.flash.survey import Survey

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_MEGABYTE: Final = 1 << 20
_SHOWN: Final = (
    "partitions",
    "built",
    "idf version",
    "framework",
    "sdk",
    "states",
)  # details of a program


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign board /dev/ttyUSB0",
        "fwsign board COM5 --board esp --json",
        "fwsign board sim:esp32c3",
    ),
)
def board(
    port: Annotated[
        str, typer.Argument(metavar="PORT", help="A port, as for fwsign flash --port.")
    ],
    *,
    kind: option.BOARD = None,
    baud: option.BAUD = None,
    smp_encoding: option.SMP_ENCODING = None,
    before: option.BEFORE_MODE = None,
    after: option.AFTER_MODE = None,
    no_stub: option.NO_STUB = False,
    as_json: JSON = False,
) -> None:
    """Show what a board is, holds and runs, without a release.

    The board is restarted into its boot loader, and goes on with its program afterwards. Names and
    versions are what programs say of themselves: nothing is verified, and nothing is written.
    """
    from fwsign.flash.backends import KINDS, ConnectOptions, check_port, kinds_at
    from fwsign.flash.ports import find
    from fwsign.flash.survey import ask

    option.check_choices(
        ("--board", kind, KINDS),
        ("--smp-encoding", smp_encoding, tuple(ENCODINGS)),
        ("--before", before, BEFORE),
        ("--after", after, AFTER),
    )
    try:
        check_port(port)
    except Failed as error:
        ui.usage(error.message, "see fwsign ports; docs/flash.md has sim:")
    kinds = (kind,) if kind else kinds_at(port, [] if ":" in port else find())
    found = ask(port, ConnectOptions(None, baud, before, after, not no_stub, smp_encoding), kinds)
    if as_json:
        ui.print_json({"port": port, **facts(found)})
    else:
        ui.out(port)
        tell(found)


def facts(found: "Survey") -> dict[str, Any]:
    """Return the answer of a board for --json."""
    from fwsign.flash.receipt import board_facts

    content = [{**one._asdict(), "details": dict(one.details)} for one in found.content.entries]
    return {
        "board": {**board_facts(found.info), "revision": found.info.revision},
        "content": content,
        "notes": list(found.content.notes),
    }


def _through(kind: str, details: Mapping[str, str]) -> str | None:
    name = details.get("boot loader") or details.get("through")
    return f"UART boot loader, {name}" if kind == "pico-uart" else name


def tell(found: "Survey") -> None:
    """Print the answer of a board, each line indented."""
    info = found.info
    details = dict(info.details)
    revision = f", revision {details['revision']}" if "revision" in details else ""
    size = info.flash_size
    rows = (
        ("chip", f"{info.chip}{revision}" if info.chip else None),
        ("identity", info.identity),
        ("flash", None if size is None else size_words(size)),
        ("locks", ", ".join(info.locks) or "none"),
        *(("boot key", one) for name, one in details.items() if name.startswith("secure boot key")),
        ("security", details.get("security version") and f"version {details['security version']}"),
        ("through", _through(info.kind, details)),
    )
    for name, value in rows:
        if value:
            ui.out(f"  {name:9} {value}")
    _table(found.content.entries)
    for note in found.content.notes:
        ui.painted("  note", "yellow", note)


def _table(entries: "Sequence[BoardEntry]") -> None:
    places = ["" if one.offset is None else f"0x{one.offset:x}" for one in entries]
    widths = [
        max(map(len, column), default=0) for column in (places, [one.name for one in entries])
    ]
    for place, one in zip(places, entries, strict=True):
        line = f"  {place:{widths[0]}}  {ui.clean(one.name):{widths[1]}}  {_words(one)}"
        ui.out(line if place else f"  {line.lstrip()}")


def _words(entry: "BoardEntry") -> str:
    program = " ".join(filter(None, (entry.project, entry.version)))
    details = dict(entry.details)
    more = [f"{name} {details[name]}" for name in _SHOWN if name in details]
    size = "" if entry.size is None or entry.holds != "data" else size_words(entry.size)
    holds = "" if entry.holds == entry.name else entry.holds
    what = " ".join(filter(None, (holds, program)))
    words = ", ".join(filter(None, (what, size, *more)))
    return f"{words}, starts" if entry.starts else words


def size_words(size: int) -> str:
    """Return a size of flash in words."""
    return f"{size // _MEGABYTE} MB" if size and size % _MEGABYTE == 0 else f"{size // 1024} KB"
