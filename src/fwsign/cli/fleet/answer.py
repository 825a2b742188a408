# SPDX-License-Identifier: Apache-2.0
"""`fwsign fleet answer`: the answer that a manufacturer owes within 24 hours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import typer

from fwsign.cli import config, inputs, ui
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
from fwsign.cli.verify.demands import ANCHORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.fleet.answer import FleetAnswer
    from fwsign.fleet.own import OwnRelease

EXAMPLES: Final = examples(
    "fwsign fleet answer --store sqlite:///fleet.db --advisory CVE-2026-41000 \\",
    "    --envelope old.suit --envelope new.suit --aware 2026-11-27T08:00:00Z --output answer.md",
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
    envelope: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="A release of yours, affected or not; repeat for all. What it says counts, not "
            "what devices report.",
        ),
    ] = None
    anchor: ANCHORS = None

    def check(self) -> None:
        """Refuse a question that only devices would answer."""
        if not (self.advisory or self.version or self.release):
            ui.usage("nothing is asked about", "--advisory CVE-2026-41000, --version or --release")
        if not (self.version or self.release or self.envelope):
            ui.usage(
                "--advisory without --envelope: only devices would say which release names it",
                "--envelope FILE for each of your releases; --version or --release names one",
            )
        if self.anchor and not self.envelope:
            ui.usage("--anchor without --envelope")


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

    With --version or --release these are affected. With --advisory alone each of your releases
    (--envelope) is affected that comes before one that names it. Article 14 of the Cyber Resilience
    Act wants an early warning within 24 hours of becoming aware: the answer has what the receipts
    tell of that, leaves the rest to fill in, and says what it does not know.
    """
    from fwsign import spans
    from fwsign.fleet.answer import FleetAsked, find_answer
    from fwsign.fleet.answer import as_json as to_json
    from fwsign.fleet.answer_page import as_markdown

    about.check()
    if output is not None and output.suffix not in (".md", ".json"):
        ui.usage(f"{output} ends neither with .md nor with .json", "name it answer.md")
    countries = tuple(map(_country, known.country or ()))
    aware = inputs.past_time(known.aware, "--aware")
    silence = inputs.parse_span(silent)
    own = _own(about.envelope or (), about.anchor)
    with asked(store, silence) as (questions, place):
        digest = named_release(questions, about.release) if about.release else None
        wanted = FleetAsked(
            about.advisory, about.version, digest, about.product, aware, countries, own
        )
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
        if found.claimed:
            ui.out(f"claimed   {found.only_claimed}")
        ui.out(f"mended    {found.mended} of {found.everyone}")
        ui.note(f"the answer is in {output}; fill in what it leaves open")


def _own(files: "Sequence[Path]", anchors: "Sequence[Path] | None") -> "tuple[OwnRelease, ...]":
    """Read and verify the envelopes of one's own releases."""
    if not files:
        return ()
    from fwsign.errors import FwsignError
    from fwsign.fleet.own import read_own
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    pinned = inputs.load_anchors(anchors or config.roots(config.find_pki(None)))
    found = []
    for file in files:
        with inputs.expecting_envelope(file):
            try:
                data = inputs.read(file, MAX_ENVELOPE_SIZE)
                found.append(read_own(data, pinned, inputs.now()))
            except FwsignError as error:
                raise error.about(str(file)) from error
    return tuple(found)


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
