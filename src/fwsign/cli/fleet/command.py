# SPDX-License-Identifier: Apache-2.0
"""`fwsign fleet`: which devices run what, who refused and why, who is silent."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.fleet import answer, page
from fwsign.cli.fleet.store import (
    AFTER,
    CSV,
    FORCE,
    PRODUCT,
    RELEASE,
    SILENT,
    STORE,
    VERSION,
    asked,
    named_release,
    nobody,
    print_table,
)
from fwsign.cli.options import JSON

if TYPE_CHECKING:
    from fwsign.fleet.model import FleetDevice, FleetEvent, FleetRelease, FleetTotals
    from fwsign.fleet.questions import Questions

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Ask what a fleet runs, who refused, and who is silent.",
)
command.command("answer", cls=Command, epilog=answer.EXAMPLES)(answer.answer)
command.command("page", cls=Command, epilog=page.EXAMPLES)(page.page)

ANY: Final = "any"
"""The word for every code."""
_MOST: Final = 100_000
"""Receipts of one device that are shown at most."""

_DEVICE: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A device's id, a station's, or a board's identity.")
]
_SILENT: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only those without a word for that time: 7d.")
]
_REFUSED: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="Only those whose last action ended with it; any: each."),
]
_LAST: TypeAlias = Annotated[
    int, typer.Option("--last", metavar="N", min=1, max=_MOST, help="Show the newest N receipts.")
]


@command.command(
    "status",
    cls=Command,
    epilog=examples(
        "fwsign fleet status --store sqlite:///fleet.db",
        "fwsign fleet status --store postgresql://db.acme.example/fleet --csv releases.csv",
    ),
)
def status(
    *,
    store: STORE,
    silent: AFTER = SILENT,
    csv: CSV = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """Show what the fleet runs, who refused, who is silent, and what is wrong in its records.

    A device speaks for itself. "signed" says that its certificate signed the receipt, "only said"
    that the line is of an unsigned log. --csv has a row for each release.
    """
    silence = inputs.parse_span(silent)
    with asked(store, silence) as (questions, place):
        totals, releases = questions.totals(), questions.releases()
        refusals, problems = questions.refusals(), questions.problems()
        full = questions.at_limit()
    if csv is not None:
        _write_csv(csv, [one.as_json() for one in releases], RELEASE_COLUMNS, force=force)
    if as_json:
        ui.print_json(
            {
                "at": _at(questions),
                "store": place,
                "silent_after": silent,
                "totals": totals.as_json(),
                "at_several_stations": totals.moved,
                "releases": [one.as_json() for one in releases],
                "refusals": [one.as_json() for one in refusals],
                "problems": [one.as_json() for one in problems],
            }
        )
    elif csv is None:
        _print_totals(totals, silent)
        _print_releases(releases)
        _print_table(
            ("certificate", "problem", "last"),
            [(one.device, one.detail, _minute(one.as_json()["noticed"])) for one in full],
        )
        _print_table(
            ("refused with", "devices", "last"),
            [(one.code, one.devices, _minute(one.as_json()["last"])) for one in refusals],
        )


RELEASE_COLUMNS: Final = (
    *("vendor", "product", "version", "sequence_number", "manifest_digest", "class", "advisories"),
    *("devices", "signed", "only_said", "named_otherwise", "first", "last"),
)
DEVICE_COLUMNS: Final = (
    *("device", "station", "vendor", "product", "version", "sequence_number", "manifest_digest"),
    *("state", "since", "heard", "result", "code", "said_by", "silent"),
)
EVENT_COLUMNS: Final = (
    *("time", "received", "kind", "result", "code", "message", "vendor", "product", "version"),
    *("sequence_number", "said_by", "signer", "device", "station", "receipt"),
)


@command.command(
    "devices",
    cls=Command,
    epilog=examples(
        "fwsign fleet devices --store sqlite:///fleet.db --version 1.4.0",
        "fwsign fleet devices --store sqlite:///fleet.db --silent 7d --csv silent.csv",
        "fwsign fleet devices --store sqlite:///fleet.db --refused stale.crl --json",
    ),
)
def devices(
    *,
    store: STORE,
    version: VERSION = None,
    product: PRODUCT = None,
    release: RELEASE = None,
    silent: _SILENT = None,
    refused: _REFUSED = None,
    csv: CSV = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """List devices, and boards that stations flashed, by their ids.

    Options that are given together must all fit. Without any it lists all.
    """
    from fwsign.fleet.questions import DeviceFilter

    silence = inputs.parse_span(silent or SILENT)
    with asked(store, silence) as (questions, place):
        wanted = DeviceFilter(
            version=version,
            product=product,
            release=named_release(questions, release) if release else None,
            silent=silent is not None,
            refused=refused == ANY,
            code=None if refused == ANY else refused,
        )
        found = questions.devices(wanted)
    if csv is not None:
        _write_csv(csv, (one.as_json() for one in found), DEVICE_COLUMNS, force=force)
    if as_json:
        rest = {"count": len(found), "at": _at(questions), "store": place}
        ui.print_json_list("devices", (one.as_json() for one in found), lambda: rest)
    elif csv is None:
        _print_devices(found)
        ui.note("1 device" if len(found) == 1 else f"{len(found)} devices")


@command.command(
    "device",
    cls=Command,
    epilog=examples("fwsign fleet device gw-0007 --store sqlite:///fleet.db --last 20"),
)
def device(
    name: _DEVICE,
    *,
    store: STORE,
    silent: AFTER = SILENT,
    last: _LAST = 100,
    csv: CSV = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """Show one device, with its receipts, newest first."""
    with asked(store, inputs.parse_span(silent)) as (questions, place):
        found, events = questions.device(name), questions.events(name, most=last)
    if not found:
        raise nobody(name, place)
    if csv is not None:
        _write_csv(csv, [one.as_json() for one in events], EVENT_COLUMNS, force=force)
    if as_json:
        ui.print_json(
            {
                "devices": [one.as_json() for one in found],
                "receipts": [one.as_json() for one in events],
                "at": _at(questions),
                "store": place,
            }
        )
    elif csv is None:
        _print_devices(found)
        ui.out()
        _print_events(name, events)


def _print_events(name: str, events: "list[FleetEvent]") -> None:
    """Print a history; that of a board says at which station, that of a station which board."""
    of_board = any(one.board == name for one in events)
    boards = any(one.board for one in events)
    place = ("station" if of_board else "board",) if boards else ()
    rows = []
    for event in events:
        one, where = event.as_json(), event.device if of_board else event.board
        rows.append(
            (
                *(_minute(one["time"] or one["received"]), one["result"] or one["kind"]),
                _release(one["product"], one["version"], one["sequence_number"]),
                *((where or "-",) if boards else ()),
                one["said_by"],
                f"{one['code']}: {one['message'] or '-'}" if one["code"] else "",
            )
        )
    print_table(("time", "result", "release", *place, "said by", "reason"), rows)


def _print_totals(totals: "FleetTotals", silent: str) -> None:
    said = totals.devices - totals.unknown - totals.signed
    ui.out(
        f"devices   {totals.devices}: {totals.signed} signed what they run, {said} only said "
        f"it, {totals.unknown} said nothing"
    )
    ui.out(f"silent    {totals.silent} for {silent}")
    ui.out(f"refused   {totals.refused} at last")
    if totals.moved:
        ui.out(f"moved     {totals.moved} boards that several stations flashed, counted once")
    told = ", ".join(f"{kind} {count}" for kind, count in totals.problems.items())
    ui.out(f"problems  {told or 'none'}")


def _print_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print rows in columns, after a line; nothing without rows."""
    if rows:
        ui.out()
        print_table(head, rows)


def _print_releases(releases: "list[FleetRelease]") -> None:
    if not releases:
        return
    ui.out()
    totals: dict[str, int] = {}
    for one in releases:
        totals[one.of] = totals.get(one.of, 0) + one.devices
    rows = [
        (
            *(one.of, one.name, "" if one.sequence is None else f"#{one.sequence}", one.devices),
            *(f"{100 * one.devices / totals[one.of]:.1f} %", one.signed),
            ", ".join(filter(None, (one.release_class, *one.advisories))),
        )
        for one in releases
    ]
    print_table(("product", "runs", "sequence", "devices", "share", "signed", "class"), rows)


def _print_devices(found: "list[FleetDevice]") -> None:
    rows = []
    for one in found:
        told = one.as_json()
        runs = _release(one.product, one.version, one.sequence)
        state = one.state if one.state != "installed" else ""
        end = " ".join(filter(None, (one.result, one.code)))
        silent = " (silent)" if one.silent else ""
        rows.append(
            (
                *(
                    f"{one.id} at {one.name}" if one.board else one.id,
                    f"{runs} {state}".strip(),
                ),
                *(_minute(told["heard"]) + silent, end or "-", told["said_by"]),
            )
        )
    print_table(("device", "runs", "last heard", "last result", "said by"), rows)


def _release(product: str | None, version: str | None, sequence: int | None) -> str:
    number = None if sequence is None else f"#{sequence}"
    return " ".join(filter(None, (product, version, number))) or "-"


def _minute(time: str | None) -> str:
    return time[:16].replace("T", " ") if time else "-"


def _at(questions: "Questions") -> str | None:
    from fwsign.fleet.model import rfc3339

    return rfc3339(questions.at)


def _write_csv(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...], *, force: bool
) -> None:
    from fwsign.cli.rows import as_csv, cell, write_csv

    cells = [{name: cell(row[name]) for name in columns} for row in rows]
    write_csv(path, as_csv(columns, cells), len(cells), force=force)
