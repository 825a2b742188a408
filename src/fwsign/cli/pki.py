# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki`: make a PKI, issue and revoke signers, renew CRLs."""

from pathlib import Path
from typing import Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.config import find_pki
from fwsign.cli.init import create_pki, new_passphrases
from fwsign.cli.options import (
    ALG,
    CA_PASS,
    NO_PASSPHRASE,
    ORG,
    PASS,
    PKI,
    ROOT_PASS,
    VENDOR_OF_PKI,
)

command = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    help="Make and keep a PKI: root CA, issuing CA, signers, CRLs.",
)
_issue = typer.Typer(rich_markup_mode=None)
command.add_typer(_issue, name="issue", help="Issue a certificate with a new key.")


@command.command("init")
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    alg: ALG = "p256",
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make a PKI in DIR: root, issuing CA, signer "release", CRLs."""
    passphrases = new_passphrases(pass_, root_pass, none=no_passphrase)
    create_pki(directory, org, vendor, alg, passphrases)
    ui.note(f"next: fwsign sign FILE --pki {directory} --product NAME")


@_issue.callback()
def issue() -> None:
    """Issue a certificate with a new key."""


@_issue.command("signer")
def issue_signer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Names the key and certificate.")],
    *,
    pki: PKI = None,
    vendor: Annotated[
        list[str] | None,
        typer.Option(metavar="DOMAIN", help="May sign for it; repeat for several. Default: all."),
    ] = None,
    lifetime: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Valid for 90d, 2y. Default: 2y.")
    ] = None,
    alg: ALG = "p256",
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    ca_pass: CA_PASS = None,
) -> None:
    """Issue a signer: its key in private/NAME.key, its certificate in issued/NAME.crt."""
    from fwsign.pki.authority import issue_signer as issue_it  # noqa: PLC0415

    now = inputs.now()
    span = inputs.parse_time(lifetime, now) - now if lifetime else None
    directory = find_pki(pki)
    passphrase = inputs.new_passphrase(pass_, none=no_passphrase, what=f'the key "{name}"')
    path = issue_it(
        directory,
        name,
        vendors=vendor or (),
        lifetime=span,
        alg=alg,
        passphrase=passphrase,
        ca_passphrase=inputs.passphrase_source(ca_pass, "the issuing CA's key"),
        now=now,
    )
    ui.out(str(path))
    ui.note(f"next: fwsign sign FILE --signer {name}")


@command.command("crl")
def crl(*, pki: PKI = None, ca_pass: CA_PASS = None, root_pass: ROOT_PASS = None) -> None:
    """Make new CRLs of every CA whose key is here, with all revocations so far.

    --ca-pass opens all keys, unless --root-pass gives the root's own.
    """
    from fwsign.pki.directory import AUTHORITIES, ROOT, Pki  # noqa: PLC0415
    from fwsign.pki.revocation import renew_crls  # noqa: PLC0415

    directory = find_pki(pki)
    here = [name for name in AUTHORITIES if Pki(directory).key_path(name).exists()]
    for name in AUTHORITIES:
        if name not in here:
            ui.note(f'the key of CA "{name}" is not here: its CRL stays as it is')

    def passphrase(name: str) -> bytes | None:
        source = root_pass if name == ROOT and root_pass else ca_pass
        return inputs.passphrase_source(source, f'the key of CA "{name}"')()

    for path in renew_crls(directory, passphrase=passphrase, now=inputs.now(), names=here):
        ui.out(str(path))
    ui.note("next: fwsign staple ENVELOPE, for what is signed already")


@command.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signer, or issuing.")],
    *,
    reason: Annotated[
        str,
        typer.Option(metavar="REASON", help="keyCompromise, superseded, cessationOfOperation ..."),
    ],
    pki: PKI = None,
    ca_pass: CA_PASS = None,
) -> None:
    """Revoke a certificate and write the new CRL of its issuer."""
    from fwsign.pki.revocation import revoke as revoke_it  # noqa: PLC0415

    path = revoke_it(
        find_pki(pki),
        name,
        reason=reason,
        ca_passphrase=inputs.passphrase_source(ca_pass, "the CA's key"),
        now=inputs.now(),
    )
    ui.out(str(path))
    ui.note("bring the CRL to devices: fwsign staple ENVELOPE, or sign a new release")
