# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki log`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import HEAD, JSON, PKI


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "log",
        cls=Command,
        epilog=examples(
            "fwsign pki log", "fwsign pki log release --json", "fwsign pki log --head 4f5e..."
        ),
    )(log)


def log(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|SERIAL]", help="Only what concerns this entry, or this serial number."
        ),
    ] = None,
    *,
    pki: PKI = None,
    head: HEAD = None,
    as_json: JSON = False,
) -> None:
    """Show who issued, renewed and revoked what, and when.

    A line also names the request (CSR) if there was one. Each line of log.jsonl has the digest of
    the line before, so a changed or missing line is refused, with exit status 1. Nobody has signed
    the lines: whoever can write the file can write all of it anew. So keep the head, the digest
    of the last line, elsewhere: with --head, nothing up to it may be missing or changed.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.log import FILE, judged_log

    directory = Pki(find_pki(pki)).directory
    whole, contents = judged_log(directory, head)
    found = [one for one in contents if name is None or _concerns(one, name)]
    if as_json:
        ui.print_json({"log": found, "head": whole.head})
        return
    for content in found:
        ui.out(_line(content))
    if not whole.receipts:
        ui.note(f"{directory / FILE} begins with the next certificate or CRL")
    elif not found:
        ui.note(f'nothing in {directory / FILE} concerns "{name}"')
    else:
        ui.note(f"head: {whole.head}")


def _concerns(content: Mapping[str, Any], name: str) -> bool:
    from fwsign.pki.index import serial_of

    serial = serial_of(name)
    return content.get("name") == name or (
        serial is not None and serial_of(str(content.get("serial", ""))) == serial
    )


def _line(content: Mapping[str, Any]) -> str:
    facts = [
        ("serial", content.get("serial")),
        ("until", str(content.get("ends") or "")[:10]),
        ("reason", content.get("reason")),
        ("number", content.get("number")),
        ("revoked", content.get("revoked")),
        ("request", str(content.get("request") or "")[:16]),
    ]
    more = ", ".join(f"{word} {value}" for word, value in facts if value not in (None, ""))
    when, kind, name, who = (content.get(key, "-") for key in ("clock", "kind", "name", "who"))
    return f"{when}  {kind:<7}  {name}  {more}  by {who}"
