# SPDX-License-Identifier: Apache-2.0
"""`fwsign fleet page`: the fleet as one web page in a file."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import examples
from fwsign.cli.fleet.store import AFTER, SILENT, STORE, asked, nobody
from fwsign.errors import Failed

EXAMPLES: Final = examples(
    "fwsign fleet page --store sqlite:///fleet.db --output fleet.html",
    "fwsign fleet page --store sqlite:///fleet.db --output fleet.html --device gw-0007 --force",
)

_OUTPUT: TypeAlias = Annotated[
    Path, typer.Option(readable=False, metavar="FILE", help="Where the page goes.")
]
_DEVICE: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="A device whose history must be in it; repeat for several."),
]
_FORCE: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace a page that an earlier run has written.")
]


def page(
    *,
    store: STORE,
    output: _OUTPUT,
    silent: AFTER = SILENT,
    device: _DEVICE = None,
    force: _FORCE = False,
) -> None:
    """Write the fleet as a page for the browser: one file, which loads nothing.

    It has the numbers of the whole fleet, and some devices of each kind with their histories. With
    --viewer fwsign collect serves the same page, which asks for every device.
    """
    from fwsign import spans
    from fwsign.files import write_atomic
    from fwsign.fleet import page as fleet_page

    silence = inputs.parse_span(silent)
    if output.exists():
        _check(output, force=force)
    with asked(store, silence) as (questions, place):
        for name in device or ():
            if not questions.device(name):
                raise nobody(name, place)
        data = fleet_page.whole(questions, place, spans.plain_span(silence), device or ())
    write_atomic(output, fleet_page.render(data).encode(), overwrite=force)
    ui.out(str(output))
    ui.note("open it in a browser; it loads nothing from elsewhere")


def _check(file: Path, *, force: bool) -> None:
    """Refuse to replace anything but a page, before the fleet is asked."""
    from fwsign.files import io_error, open_plain
    from fwsign.fleet.page import FIRST_LINE

    if not force:
        raise Failed("io.exists", f"{file} exists already", hint="--force replaces a page")
    try:
        with open_plain(file, "files") as opened:
            head = opened.read(len(FIRST_LINE))
    except OSError as error:
        raise io_error(error, file) from error
    if head not in (b"", FIRST_LINE):
        raise Failed(
            "io.exists",
            f"cannot write {file}: exists already, and is no page of fwsign fleet page",
            expected="such a page",
            found="another file",
            hint="name another file, or remove this one",
        )
