# SPDX-License-Identifier: Apache-2.0
"""`fwsign log`: who signed what, when, with which key; and that nothing of it is gone."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import approvals, config, inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.log import lines
from fwsign.cli.options import JSON, PKI

if TYPE_CHECKING:
    from fwsign.receipts.chain import Summary

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Show and check the approval log: every signature that was made.",
)

_HEAD_LIMIT: Final = 4096
_LOG: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--log",
        readable=False,
        metavar="FILE",
        help="The log. Default: that of fwsign.toml, else log.jsonl of the PKI.",
    ),
]


def _digest(value: str | None) -> str | None:
    """Read a head: digits, or a file that begins with them, as fwsign log head prints it."""
    if value is None or re.fullmatch("[0-9a-f]{64}", value):
        return value
    path = Path(value)
    if not path.is_file():
        ui.usage(f'"{value}" is not a head', "64 hex digits, or a file that begins with them")
    first = inputs.read(path, _HEAD_LIMIT).decode(errors="replace").split()[:1]
    if not first or not re.fullmatch("[0-9a-f]{64}", first[0]):
        ui.usage(f"{path} does not begin with a head", "fwsign log head prints one")
    return first[0]


_HEAD: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HEX|FILE",
        callback=_digest,
        help="A head that was exported before: nothing up to it may be missing or changed.",
    ),
]


@command.command(
    "show",
    cls=Command,
    epilog=examples(
        "fwsign log show",
        "fwsign log show gateway-x1 --kind release --since 30d",
        "fwsign log show 5c4ec6b83f151a72 --json",
    ),
)
def show(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|SERIAL|DIGEST]",
            help="Only what concerns this entry, file or product, this serial number, or this "
            "digest or key, of which eight digits are enough.",
        ),
    ] = None,
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Only lines of this kind, such as release, cosign, attach, native, file, trust, "
            "issue, revoke, crl; repeat for several.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only from then on: 30d ago, or RFC 3339 with a zone."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only before then; written alike.")
    ] = None,
    pki: PKI = None,
    log: _LOG = None,
    head: _HEAD = None,
    as_json: JSON = False,
) -> None:
    """Show who signed what, when, with which key and from which CI run.

    Each line has the digest of the line before, so a changed or missing line is refused. Nobody has
    signed the lines: whoever can write the file can write all of it anew. So keep the head
    elsewhere.
    """
    first = inputs.past_time(since, "--since")
    last = inputs.past_time(until, "--until")

    def fits(content: Mapping[str, Any]) -> bool:
        return (
            (wanted is None or lines.concerns(content, wanted))
            and (not kind or content.get("kind") in kind)
            and _is_within(content.get("clock"), first, last)
        )

    about = wanted or ", ".join(kind or ()) or "that time"
    tell(find(log, pki), head, fits, about, as_json=as_json)


@command.command(
    "verify",
    cls=Command,
    epilog=examples(
        "fwsign log verify", "fwsign log verify --head head.txt", "fwsign log verify --log a.jsonl"
    ),
)
def verify(*, pki: PKI = None, log: _LOG = None, head: _HEAD = None, as_json: JSON = False) -> None:
    """Check that no line of the log was changed or taken out.

    With --head also that its end is there: a head that fwsign log head printed before, and that was
    kept where who writes the log cannot write.
    """
    file = find(log, pki)
    whole = _judged(file, head)
    if as_json:
        found = {"verdict": "whole", "log": str(file), "lines": whole.receipts}
        ui.print_json({**found, "head": whole.head, "lines_since_head": whole.since})
        return
    since = "" if whole.since is None else f", {whole.since} since the head given"
    ui.painted("whole", "green", f"{file}: {whole.receipts} lines{since}")
    ui.out(f"  head       {whole.head or 'none'}")
    if head is None:
        ui.note("without --head, lines at the end could be missing")


@command.command(
    "head",
    cls=Command,
    epilog=examples("fwsign log head > head.txt", "fwsign log head --log approvals.jsonl"),
)
def head_of(*, pki: PKI = None, log: _LOG = None, as_json: JSON = False) -> None:
    """Print the head, to be kept elsewhere: the digest of the last line, and how many there are.

    The log is checked first. A head in a mail, a ticket or another repository shows later that
    nothing was taken off the end.
    """
    file = find(log, pki)
    whole = _judged(file, None)
    if whole.head is None:
        from fwsign.errors import Failed

        hint = "the next signature makes the first; lines that were there before are lost"
        raise Failed("io.missing", f"{file} has no lines, and so no head", hint=hint)
    if as_json:
        ui.print_json({"head": whole.head, "lines": whole.receipts, "log": str(file)})
        return
    ui.out(f"{whole.head} {whole.receipts}")


def find(log: Path | None, pki: Path | None) -> Path:
    """Return the log that a command line names, or that of fwsign.toml or its PKI."""
    if log is not None and pki is not None:
        ui.usage("--log and --pki exclude each other")
    if log is not None:
        return log
    settings = config.load()
    directory = pki or settings.pki
    found = approvals.find_log(settings._replace(log=None) if pki else settings, directory)
    if found is None:
        ui.usage("no log given, and no fwsign.toml found", "name it with --log FILE or --pki DIR")
    return found


def _judged(file: Path, head: str | None) -> "Summary":
    """Judge a log that must be there."""
    from fwsign.errors import Failed
    from fwsign.pki.log import verify_log

    if not file.exists():
        hint = "the next signature makes it; a log that was there before is lost"
        raise Failed("io.missing", f"{file}: no such file or directory", hint=hint)
    return verify_log(file, head)


def _is_within(clock: object, first: datetime | None, last: datetime | None) -> bool:
    if first is None and last is None:
        return True
    try:
        time = datetime.fromisoformat(str(clock))
        return (first is None or first <= time) and (last is None or time < last)
    except (ValueError, TypeError):  # no time, or one without a zone
        return False


def tell(
    file: Path,
    head: str | None,
    fits: Any,
    what: str,
    *,
    as_json: bool,
) -> None:
    """Judge a log, and print the lines that fit.

    Args:
        file: the log.
        head: a head that must be in it; None for none.
        fits: tells whether a line's content is wanted.
        what: the wanted lines in words, if none fits.
        as_json: print one JSON object.
    """
    from fwsign.pki.log import judged_log

    whole, contents = judged_log(file, head)
    found = [one for one in contents if fits(one)]
    if as_json:
        ui.print_json({"log": found, "head": whole.head})
        return
    for content in found:
        ui.out(lines.line(content))
    if not whole.receipts:
        ui.note(f"{file} begins with the next signature")
    elif not found:
        ui.note(f'nothing in {file} concerns "{what}"')
    else:
        ui.note(f"head: {whole.head}")
