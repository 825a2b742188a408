# SPDX-License-Identifier: Apache-2.0
"""`fwsign staple`: newer CRLs into an envelope."""

from pathlib import Path
from typing import Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.options import CRLS, PKI

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command()
def staple(
    envelope: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A .suit file.")],
    *,
    crl: CRLS = None,
    pki: PKI = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: replace ENVELOPE.")
    ] = None,
) -> None:
    """Put newer CRLs into an envelope; no key is needed. Default: those of the PKI."""
    from fwsign.atomic import read_bytes, write_atomic  # noqa: PLC0415
    from fwsign.sign import staple as staple_it  # noqa: PLC0415
    from fwsign.suit import MAX_ENVELOPE_SIZE  # noqa: PLC0415

    given = list(crl or sorted((config.find_pki(pki) / "crl").glob("*.pem")))
    if not given:
        ui.usage("no CRLs found", "name them with --crl PEM")
    data = read_bytes(envelope, MAX_ENVELOPE_SIZE)
    stapled = staple_it(data, inputs.load_pem(given, "X509 CRL", "CRL"))
    target = output or envelope
    write_atomic(target, stapled, overwrite=output is None)
    ui.out(str(target))
    ui.note(f"next: fwsign verify {target}")
