# SPDX-License-Identifier: Apache-2.0
"""The store that the commands of `fwsign fleet` read, and options that they share."""

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fwsign.fleet.questions import Questions

STORE: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="The database of fwsign collect: sqlite:///FILE, or postgresql://HOST/DATABASE. A "
        "password is in a file that libpq reads (~/.pgpass), never in the address.",
    ),
]
AFTER: TypeAlias = Annotated[
    str,
    typer.Option("--silent", metavar="TIME", help="A device is silent after that time: 7d, 12h."),
]
CSV: TypeAlias = Annotated[
    Path | None,
    typer.Option("--csv", readable=False, metavar="OUT", help="Write rows as CSV; - prints them."),
]
FORCE: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
PRODUCT: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this product, without its vendor.")
]
VERSION: TypeAlias = Annotated[
    str | None, typer.Option(metavar="VERSION", help="The version that devices run.")
]
RELEASE: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="DIGEST", help="The release that they run: its manifest digest, in hex."),
]
SILENT: Final = "7d"
_SHORTEST: Final = 8
"""Digits of a digest's beginning."""


@contextlib.contextmanager
def asked(store: str, silence: timedelta) -> "Iterator[tuple[Questions, str]]":
    """Open a store, and yield the questions to it and its name without secrets.

    Raises:
        Failed: `io.*`, `state.*`.
    """
    from fwsign.collect.store import open_store
    from fwsign.fleet.questions import Questions

    try:
        opened = open_store(store, make=False)
    except ValueError as error:
        ui.usage(str(error), "as in: --store sqlite:///fleet.db")
    with opened, Questions.asked(opened, inputs.now(), silence) as questions:
        yield questions, opened.place


def named_release(questions: "Questions", text: str) -> bytes:
    """Return the manifest digest that a text is, or is the beginning of.

    Raises:
        Failed: `io.missing`: no device has reported such a release, or several ones fit.
    """
    wanted = text.lower()
    if len(wanted) < _SHORTEST or not set(wanted) <= set("0123456789abcdef"):
        ui.usage(
            f'"{text}" is no manifest digest', f"it has hex digits, at least its first {_SHORTEST}"
        )
    found = [one.manifest for one in questions.releases() if one.manifest.hex().startswith(wanted)]
    if len(found) != 1:
        many = f"{len(found)} releases whose digest begins" if found else "no release whose digest"
        raise Failed(
            "io.missing",
            f"devices have reported {many} {'with' if found else 'is'} {text}",
            expected=text,
            found=", ".join(one.hex() for one in found) or "none",
            hint="fwsign fleet status --json has the digests of all",
        )
    return found[0]


def nobody(name: str, place: str) -> Failed:
    """Return the refusal of a device that has reported nothing."""
    return Failed(
        "io.missing",
        f'no device "{name:.80}" has reported to {place}',
        expected=name,
        found="none",
        hint="fwsign fleet devices lists those that have",
    )


def print_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print rows in columns."""
    cells = [tuple(ui.clean("-" if one is None else one) for one in row) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = (one.ljust(width) for one, width in zip(row, widths, strict=True))
        ui.out("  ".join(line).rstrip())
