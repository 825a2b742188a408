# SPDX-License-Identifier: Apache-2.0
"""`fwsign staple`: newer CRLs into an envelope."""

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import CRLS, OUTPUT_OF_ENVELOPE, PKI

command = typer.Typer(rich_markup_mode=None, add_completion=False)


_ENVELOPE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="ENVELOPE",
        help="A .suit file, whoever signed it; - is standard input.",
    ),
]
_FORCE: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Take CRLs that go stale within a day, too.")
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign staple build.bin.suit",
        "fwsign staple old.suit --crl issuing.pem --crl root.pem --output new.suit",
    ),
)
def staple(
    envelope: _ENVELOPE,
    *,
    crl: CRLS = None,
    pki: PKI = None,
    output: OUTPUT_OF_ENVELOPE = None,
    force: _FORCE = False,
) -> None:
    """Put newer CRLs into an envelope; no key is needed.

    Without --crl, those of the PKI. Of each issuer the envelope keeps the newest one. CRLs are
    signed by their issuers and no part of what the signer signed.
    """
    from fwsign.cli.sign.written import crl_warnings
    from fwsign.files import write_atomic
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.signing.envelope import check_margin, known_time
    from fwsign.signing.stapling import carried_crls
    from fwsign.signing.stapling import staple as staple_it

    if crl and pki:
        ui.usage("--crl and --pki exclude each other")
    given = list(crl or ())
    if not given:
        directory = config.find_pki(pki)
        found = sorted([*directory.glob("crl/*.pem"), *directory.glob("crl.pem")])  # easy-rsa's
        given = [path for path in found if path.name != "bundle.pem"]
        if not given:
            ui.usage(f"no CRLs in {directory / 'crl'}", "name them with --crl PEM")
    data = inputs.read(envelope, MAX_ENVELOPE_SIZE)
    crls = inputs.load_pem(given, "X509 CRL", "CRL")
    # A PKI also has CRLs of other CAs: earlier ones and later ones.
    with inputs.expecting_envelope(envelope):
        stapled = staple_it(data, crls, skip_unused=not crl)
    carried = carried_crls(stapled)
    at = known_time(carried, inputs.now())
    if not force:
        check_margin([one for one in carried if one.data in crls], at)
    if stapled == data:
        ui.note("the envelope has these CRLs or newer ones already")
    if (output or envelope) == inputs.STREAM:
        inputs.write_stream(stapled)
        return
    # The target of a link is replaced, not the link.
    place = Path(os.path.realpath(envelope)) if envelope.is_symlink() else envelope
    write_atomic(output or place, stapled, overwrite=output is None)
    ui.out(str(output or envelope))
    for line in crl_warnings(carried, at):
        ui.note(f"warning: {line}")
    ui.next_command("verify", output or envelope)
