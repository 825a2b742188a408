# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki`: make a PKI, issue and revoke signers, renew CRLs."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.init import create_pki, new_passphrases, say_what_now
from fwsign.cli.options import (
    ALG,
    CA_PASS,
    NO_PASSPHRASE,
    ORG,
    PASS,
    PKI,
    ROOT_PASS,
    VENDOR_OF_PKI,
    named,
)
from fwsign.errors import Failed


class _Group(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return ["init", "issue", "revoke", "crl"]  # as they are needed, not groups last


def _reason(value: str) -> str:
    from fwsign.pki.revocation import REASONS  # noqa: PLC0415

    if value not in REASONS:
        ui.usage(f'"{value}" is not a reason to revoke', f"choose from {', '.join(REASONS)}")
    return value


command = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Make and keep a PKI: CAs, signers, CRLs.",
)
_issue = typer.Typer(rich_markup_mode=None)
command.add_typer(_issue, name="issue", help="Issue a certificate with a new key.")


@command.command(
    "init",
    cls=Command,
    epilog=examples("fwsign pki init pki --org Acme --vendor acme.example --alg p384"),
)
def init(
    directory: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="DIR", help="The new PKI; must not exist, or be empty."
        ),
    ],
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    alg: ALG = "p256",
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make a PKI alone: root, issuing CA, signer "release", CRLs.

    fwsign init makes one together with fwsign.toml. --pass protects all keys, unless --root-pass
    gives the root a passphrase of its own.
    """
    passphrases = new_passphrases(pass_, root_pass, none=no_passphrase)
    create_pki(directory, org, vendor, alg, passphrases)
    ui.out(str(directory))
    say_what_now(directory, org, passphrases)
    ui.note(f"next: fwsign sign FILE --pki {directory} --product NAME")


@_issue.callback()
def issue() -> None:
    """Issue a certificate with a new key."""


@_issue.command(
    "signer",
    cls=Command,
    epilog=examples(
        "fwsign pki issue signer release-2027 --for 1y",
        "fwsign pki issue signer ci --pass env:CI_PASS --ca-pass file:/run/secrets/ca",
    ),
)
def issue_signer(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            callback=named("signer_name"),
            help="Names the signer, its key and its certificate.",
        ),
    ],
    *,
    pki: PKI = None,
    vendor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("vendor_domain"),
            help="A vendor that it may sign for; repeat for several. Default: the issuing CA's.",
        ),
    ] = None,
    lifetime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long it is valid: 90d, 1y, or RFC 3339 with a zone. Default: 2y.",
        ),
    ] = None,
    alg: ALG = "p256",
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    ca_pass: CA_PASS = None,
) -> None:
    """Issue a signer: a new key and its certificate.

    The key goes to private/NAME.key, the certificate to issued/NAME.crt. --pass protects the new
    key, --ca-pass opens that of the issuing CA.
    """
    from fwsign.pki.authority import issue_signer as issue_it  # noqa: PLC0415

    now = inputs.now()
    span = inputs.parse_time(lifetime, now) - now if lifetime else None
    directory = find_pki(pki)
    source = inputs.passphrase_source(ca_pass, "the issuing CA's key", "--ca-pass")
    passphrase = inputs.new_passphrase(pass_, none=no_passphrase, what=f'the key "{name}"')
    path = issue_it(
        directory,
        name,
        vendors=vendor or (),
        lifetime=span,
        alg=alg,
        passphrase=passphrase,
        ca_passphrase=source,
        now=now,
    )
    ui.out(str(path))
    ui.note(f"next: fwsign sign FILE --signer {name}")


@command.command("crl", cls=Command, epilog=examples("fwsign pki crl --ca-pass env:CA_PASS"))
def crl(*, pki: PKI = None, ca_pass: CA_PASS = None, root_pass: ROOT_PASS = None) -> None:
    """Make new CRLs, before the old ones go stale.

    Each CA whose key is here gets one with all its revocations so far. --ca-pass opens all keys,
    unless --root-pass gives the root's own. Envelopes take them with fwsign staple.
    """
    from fwsign.pki.directory import AUTHORITIES, ROOT, Pki  # noqa: PLC0415
    from fwsign.pki.revocation import renew_crls  # noqa: PLC0415

    directory = find_pki(pki)
    keys = {name: Pki(directory).key_path(name) for name in AUTHORITIES}
    here = [name for name, key in keys.items() if os.path.lexists(key)]
    if not here:
        places = " or ".join(map(str, keys.values()))
        raise Failed("state.pki", f"no CA's key is here to sign a CRL: expected {places}")
    for name in AUTHORITIES:
        if name not in here:
            ui.note(f'the key of CA "{name}" is not here: its CRL stays as it is')
    # One source for all keys that it opens: a descriptor can be read only once.
    common = inputs.passphrase_source(ca_pass, "the CA's keys", "--ca-pass") if ca_pass else None
    roots = inputs.passphrase_source(root_pass, "the root's key") if root_pass else common

    def passphrase(name: str) -> bytes | None:
        source = roots if name == ROOT else common
        prompt = inputs.passphrase_source(None, f'the key of CA "{name}"', "--ca-pass")
        return (source or prompt)()

    for path in renew_crls(directory, passphrase=passphrase, now=inputs.now(), names=here):
        ui.out(str(path))
    ui.note("next: fwsign staple ENVELOPE, for what is signed already")


@command.command(
    "revoke",
    cls=Command,
    epilog=examples(
        "fwsign pki revoke release --reason keyCompromise",
        "fwsign pki revoke release-2026 --reason superseded",
    ),
)
def revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help='A signer, or "issuing" for the issuing CA.')
    ],
    *,
    reason: Annotated[
        str,
        typer.Option(
            metavar="REASON",
            callback=_reason,
            help="unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, "
            "cessationOfOperation or privilegeWithdrawn.",
        ),
    ],
    pki: PKI = None,
    ca_pass: CA_PASS = None,
) -> None:
    """Revoke a certificate, for good.

    Its issuer's CRL is written anew; devices learn of it from envelopes that carry that CRL.
    """
    from fwsign.pki.revocation import revoke as revoke_it  # noqa: PLC0415

    path = revoke_it(
        find_pki(pki),
        name,
        reason=reason,
        ca_passphrase=inputs.passphrase_source(ca_pass, "the CA's key", "--ca-pass"),
        now=inputs.now(),
    )
    ui.out(str(path))
    ui.note("bring the CRL to devices: fwsign staple ENVELOPE, or sign a new release")
