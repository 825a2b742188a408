# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki renew`."""

import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import CA_PASS, NO_PASSPHRASE, PASS, PKI, named
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.pki_options import COMPAT, KIND_OF_TLS_KEY, LIFETIME, span, warn_of_rsa2048
from fwsign.errors import Failed

if TYPE_CHECKING:
    from cryptography import x509

    from fwsign.keys import Passphrase
    from fwsign.pki.directory import Pki
    from fwsign.pki.issue import NewKey


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "renew",
        cls=Command,
        epilog=examples(
            "fwsign pki renew release",
            "fwsign pki renew broker.acme.example --new-key --no-passphrase",
            "fwsign pki renew TESTING --compat",
            "fwsign pki renew issuing --for 10y --ca-pass env:ROOT_PASS",
            "fwsign pki renew issuing --permit localhost",
        ),
    )(renew)


def renew(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help='What to renew, or "issuing" for the issuing CA.')
    ],
    *,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key, too. Default: the same key.")
    ] = False,
    pki: PKI = None,
    lifetime: LIFETIME = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    permit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("host_name"),
            help="Of the issuing CA: one more domain, or single label such as localhost, that it "
            "may issue for; repeat for several.",
        ),
    ] = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    ca_pass: CA_PASS = None,
) -> None:
    """Issue a certificate anew, with the same names.

    The old certificate goes to certs_by_serial, an old key to NAME.key.unused-1. What the old one
    vouches for stays good until it ends: revoke it, by its serial number, only if its key leaked,
    for devices then refuse all of that. "issuing" needs the root's key; with --new-key there is
    another issuing CA from then on. After --permit, whoever sends the issuing CA's certificate
    needs the new one: fwsign pki export chain.
    """
    from fwsign.pki.directory import Pki, is_issuing
    from fwsign.pki.issue import NewKey
    from fwsign.pki.renewal import renew as renew_it

    if not new_key and (pass_ or no_passphrase or alg):
        ui.usage("--pass, --no-passphrase and --alg are for --new-key")
    if new_key and compat:
        ui.usage("--compat and --new-key exclude each other", "a new key: --alg rsa2048")
    if permit and (new_key or not is_issuing(name)):
        ui.usage("--permit is for an issuing CA that keeps its key")
    now = inputs.now()
    validity = span(lifetime, now)
    directory = find_pki(pki)
    old = Pki(directory).certificate(name)
    asked_for = Passphrases()
    source = asked_for.existing(ca_pass, "the key of its issuer", "--ca-pass")
    new = None
    if new_key:
        what = f'the new key of "{name}"'
        new = NewKey(alg or "", asked_for.new(pass_, none=no_passphrase, what=what))
    if new is not None and is_issuing(name):
        if lifetime:
            ui.usage("--for and --new-key exclude each other for an issuing CA")
        _replace_issuing(directory, new, source)
        ui.next_command("pki", "renew", "NAME", *pki_words(pki), after=", for each signer")
        return
    path = renew_it(
        directory,
        name,
        new_key=new,
        lifetime=validity,
        permit=permit or (),
        compat=compat,
        ca_passphrase=source,
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    for line in _about_the_old(Pki(directory), name, old, now):
        ui.note(line)


def _about_the_old(
    pki: "Pki", name: str, old: "x509.Certificate", now: datetime
) -> tuple[str, ...]:
    """Return notes about the renewed certificate and the things that it vouches for."""
    from fwsign.pki.leaves import leaf_of

    if gone := _why_bad(pki, old, now):
        return (f"the old one {gone}: devices refuse it, whatever it vouches for",)
    end, serial = f"{old.not_valid_after_utc:%Y-%m-%d}", f"{old.serial_number:X}"
    leaf = leaf_of(old, name)
    if leaf is not None and leaf.kind in ("server", "client"):
        return (f"the old one is good until {end}: revoke {serial} when the new one is in use",)
    return (
        f"what the old one vouches for stays good until {end}: sign anew what must last longer",
        f"revoke {serial} only if its key leaked: devices then refuse all that it vouches for",
    )


def _why_bad(pki: "Pki", certificate: "x509.Certificate", now: datetime) -> str:
    """Return why a certificate no longer counts; empty if it counts, as far as known here."""
    with contextlib.suppress(Failed):  # its issuer's CRL may be elsewhere
        if (entry := pki.revocation_of(certificate)) is not None:
            return f"was revoked {entry.revocation_date_utc:%Y-%m-%d}"
    end = certificate.not_valid_after_utc
    return f"ended {end:%Y-%m-%d}" if end <= now else ""


def _replace_issuing(directory: Path, new: "NewKey", source: "Passphrase") -> None:
    from fwsign.pki.directory import Pki
    from fwsign.pki.rotation import replace_issuing

    pki = Pki(directory)
    now = inputs.now()
    old = pki.certificate(pki.issuing())
    name = replace_issuing(
        directory,
        new_key=new,
        passphrase=lambda _: source(),
        now=now,
    )
    ui.out(str(pki.certificate_path(name)))
    good = f"what the old one issued stays good until {old.not_valid_after_utc:%Y-%m-%d} at most"
    gone = _why_bad(pki, old, now)
    fate = f"the old one {gone}, and nothing that it issued counts" if gone else good
    ui.note(f'the CA "{name}" issues from now on; {fate}')
