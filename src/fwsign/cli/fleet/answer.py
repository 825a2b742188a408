# SPDX-License-Identifier: Apache-2.0
"""`fwsign fleet answer`: the answer that a manufacturer owes within 24 hours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import examples, grouped
from fwsign.cli.fleet.store import (
    AFTER,
    FORCE,
    PRODUCT,
    RELEASE,
    SILENT,
    STORE,
    VERSION,
    asked,
    named_release,
)
from fwsign.cli.options import JSON

if TYPE_CHECKING:
    from fwsign.fleet.answer import FleetAnswer

EXAMPLES: Final = examples(
    "fwsign fleet answer --store sqlite:///fleet.db --advisory CVE-2026-41000 \\",
    "    --aware 2026-11-27T08:00:00Z --output answer.md",
    "fwsign fleet answer --store sqlite:///fleet.db --version 1.4.0 --output answer.json",
)


class _About(NamedTuple):
    """Options: what the answer is about."""

    advisory: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The advisory, as releases name it: CVE-2026-41000."),
    ] = None
    version: VERSION = None
    release: RELEASE = None
    product: PRODUCT = None


class _Known(NamedTuple):
    """Options: what is known beside the store."""

    aware: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When you became aware: RFC 3339 with a zone, or 3h."),
    ] = None
    country: Annotated[
        list[str] | None,
        typer.Option(metavar="CC", help="A country where it is available: DE; repeat for several."),
    ] = None


_OUTPUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="Where the answer goes: .md for people, .json for programs. Default: Markdown on "
        "standard output.",
    ),
]


@grouped
def answer(
    *,
    store: STORE,
    about: _About,
    known: _Known,
    silent: AFTER = SILENT,
    output: _OUTPUT = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """Say which devices are affected by a vulnerability, and how far it is mended.

    With --version or --release these are affected. With --advisory alone each release is affected
    that comes before one that names it. Article 14 of the Cyber Resilience Act wants an early
    warning within 24 hours of becoming aware: the answer has what the receipts tell of that, leaves
    the rest to fill in, and says what it does not know.
    """
    from fwsign import spans
    from fwsign.fleet.answer import FleetAsked, find_answer
    from fwsign.fleet.answer import as_json as to_json
    from fwsign.fleet.answer_page import as_markdown

    if not (about.advisory or about.version or about.release):
        ui.usage("nothing is asked about", "--advisory CVE-2026-41000, --version or --release")
    if output is not None and output.suffix not in (".md", ".json"):
        ui.usage(f"{output} ends neither with .md nor with .json", "name it answer.md")
    countries = tuple(map(_country, known.country or ()))
    aware = inputs.past_time(known.aware, "--aware")
    silence = inputs.parse_span(silent)
    with asked(store, silence) as (questions, place):
        digest = named_release(questions, about.release) if about.release else None
        wanted = FleetAsked(about.advisory, about.version, digest, about.product, aware, countries)
        found = find_answer(questions, wanted, place, spans.plain_span(silence))
    if output is not None:
        _write(output, found, force=force)
    if as_json:
        ui.print_json(to_json(found))
    elif output is None:
        for line in as_markdown(found).splitlines():
            ui.out(line)
    else:
        ui.out(f"affected  {found.devices}")
        ui.out(f"mended    {found.mended} of {found.everyone}")
        ui.note(f"the answer is in {output}; fill in what it leaves open")


def _write(output: Path, found: "FleetAnswer", *, force: bool) -> None:
    import json

    from fwsign.files import write_atomic
    from fwsign.fleet.answer import as_json as to_json
    from fwsign.fleet.answer_page import as_markdown

    is_json = output.suffix == ".json"
    text = f"{json.dumps(to_json(found), indent=2)}\n" if is_json else as_markdown(found)
    write_atomic(output, text.encode(), overwrite=force)


def _country(text: str) -> str:
    code = text.upper()
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        ui.usage(f'"{text}" is not a country', "write its two letters of ISO 3166, as in DE")
    return code
