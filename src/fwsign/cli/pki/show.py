# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki show`: a PKI as a tree, as JSON, or as a page for the browser."""

import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import JSON, P12_PASS, PKI
from fwsign.errors import Failed

_WIDEST: Final = 100
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "strong": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red", "bold": True},
}


def register(command: typer.Typer) -> None:
    """Add `show` to `fwsign pki`."""
    command.command(
        "show",
        cls=Command,
        epilog=examples(
            "fwsign pki show",
            "fwsign pki show --all",
            "fwsign pki show easy-rsa/pki --html pki.html",
            "fwsign pki show release.p12 --json",
        ),
    )(show)


_PLACE: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[FILE|DIR]",
        help="A PKI of any make, or one file: PEM, DER, PKCS#7, PKCS#12. Default: that of "
        "fwsign.toml.",
    ),
]
_EVERY: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Show serial numbers and fingerprints in full, SHA-1 and MD5 too, and key "
        "identifiers. The page and --json always do.",
    ),
]
_HTML: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--html",
        readable=False,
        metavar="FILE",
        help="Write a page for the browser: one file, which loads nothing.",
    ),
]
_FORCE: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace a page that an earlier run has written.")
]


def show(
    place: _PLACE = None,
    *,
    pki: PKI = None,
    pass_: P12_PASS = None,
    every: _EVERY = False,
    as_json: JSON = False,
    html: _HTML = None,
    force: _FORCE = False,
) -> None:
    """Show a PKI as a tree, or as a page for the browser.

    Each entry says who issued it, what for, how long it lasts, and where its key is. It reads
    PKIs of fwsign, easy-rsa, or any directory with certificates in it. Nothing is verified but
    who issued what. A passphrase is asked for where FILE is PKCS#12, never for a key.
    """
    if place is not None and pki is not None:
        ui.usage("DIR and --pki exclude each other")
    if force and html is None:
        ui.usage("--force goes with --html")
    source = place if place is not None else find_pki(pki)

    from fwsign.cli.keyfiles import opener
    from fwsign.pki.report.inventory import read

    found, at = read(source, opener(pass_, source)), inputs.now()
    if not (found.entries or found.crls or found.problems):
        raise Failed(
            "state.pki",
            f"{source} has no certificate and no CRL in it",
            expected="files with certificates",
            found="none",
            hint="fwsign init makes a PKI; fwsign show FILE tells what a file is",
        )
    if html is not None:
        _write_page(html, found, at, force=force)
    if as_json:
        from fwsign.pki.report.inventory_json import as_json as to_json

        ui.print_json(to_json(found, at))
    elif html is not None:
        ui.out(str(html))
        ui.note("open it in a browser; it loads nothing from elsewhere")
    else:
        _print_tree(found, at, every=every)


def _write_page(file: Path, found: Any, at: datetime, *, force: bool) -> None:
    from fwsign.files import write_atomic
    from fwsign.pki.report import page

    data = page.render(found, at).encode()
    if force and file.is_file() and not _is_page(file):
        raise Failed(
            "io.exists",
            f"cannot write {file}: exists already, and is no page of fwsign pki show",
            expected="such a page",
            found="another file",
            hint="name another file, or remove this one",
        )
    write_atomic(file, data, overwrite=force)


def _is_page(file: Path) -> bool:
    from fwsign.files import io_error, open_plain
    from fwsign.pki.report import page

    try:
        with open_plain(file, "files") as opened:
            head = opened.read(len(page.FIRST_LINE))
    except OSError as error:
        raise io_error(error, file) from error
    return head in (b"", page.FIRST_LINE)


def _print_tree(found: Any, at: datetime, *, every: bool) -> None:
    from fwsign.pki.report import tree

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    def clean(text: str) -> str:
        return ui.clean(text).encode(encoding, "backslashreplace").decode(encoding)

    drawn = "".join(tree.BOX) + "·"
    marks = tree.BOX if clean(drawn) == drawn else tree.ASCII
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    for line in tree.lines(found, at, width, marks, clean, every=every):
        ui.pieces((piece.text, _STYLES.get(piece.tone, {})) for piece in line)
