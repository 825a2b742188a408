# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki revoke` and `fwsign pki crl`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import CA_PASS, PKI, ROOT_PASS
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.quoting import quoted
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki


def register(command: typer.Typer) -> None:
    """Add the commands to an application."""
    command.command(
        "revoke",
        cls=Command,
        epilog=examples(
            "fwsign pki revoke sensor-8 --reason cessationOfOperation",
            "fwsign pki revoke ci --reason keyCompromise",
            "fwsign pki revoke 5E0C91 --reason keyCompromise \\",
            "    --invalidity-date 2026-11-01T00:00:00Z",
        ),
    )(revoke)
    command.command("crl", cls=Command, epilog=examples("fwsign pki crl --ca-pass env:CA_PASS"))(
        crl
    )


def _reason(value: str) -> str:
    from fwsign.pki.revocation import REASONS

    if value not in REASONS:
        ui.usage(f'"{value}" is not a reason to revoke', f"choose from {', '.join(REASONS)}")
    return value


def revoke(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help='What to revoke, "issuing" for the issuing CA; or a serial number in hexadecimal, '
            "for a certificate that was renewed.",
        ),
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
    invalidity_date: Annotated[
        str | None,
        typer.Option(
            "--invalidity-date",
            metavar="TIME",
            help="Since when the key may have been misused, if that was earlier: RFC 3339.",
        ),
    ] = None,
    pki: PKI = None,
    ca_pass: CA_PASS = None,
) -> None:
    """Revoke a certificate, for good.

    Its issuer's CRL is written anew, and crl/bundle.pem; devices learn of it from envelopes that
    carry that CRL. They then refuse all that it signed. Only where the reason is superseded,
    cessationOfOperation or affiliationChanged, what a time stamp shows to be older stays good.
    """
    from fwsign.pki.directory import BUNDLE
    from fwsign.pki.revocation import revoke as revoke_it

    now = inputs.now()
    since = inputs.parse_time(invalidity_date, now) if invalidity_date else None
    if since and since > now:
        ui.usage(f"--invalidity-date {invalidity_date} is in the future: it is {now.isoformat()}")
    directory = find_pki(pki)
    path = revoke_it(
        directory,
        name,
        reason=reason,
        ca_passphrase=inputs.passphrase_source(ca_pass, "the CA's key", "--ca-pass"),
        now=now,
        invalid_since=since,
    )
    ui.out(str(path))
    if words := _what_is_lost(directory, name, reason):
        ui.note(words)
        staple = " ".join(map(quoted, ("fwsign", "staple", "ENVELOPE", *pki_words(pki))))
        ui.note(f"bring the CRL to devices: {staple}, or sign a new release")
    else:
        bundle = directory / BUNDLE
        ui.note(f"bring the CRL to the other side of TLS: {bundle if bundle.exists() else path}")


def _what_is_lost(directory: Path, name: str, reason: str) -> str:
    """Return what devices refuse after a certificate was revoked; empty for TLS."""
    from cryptography.x509 import ReasonFlags

    from fwsign.crl import HARMLESS
    from fwsign.pki.directory import Pki
    from fwsign.pki.leaves import leaf_of

    pki = Pki(directory)
    certificate = pki.certificate(name) if name in pki.names() else pki.by_serial(name)
    leaf = leaf_of(certificate) if certificate else None
    kind = leaf.kind if leaf else "CA"
    if kind in ("server", "client"):
        return ""
    if kind == "tsa":  # a thief of its key can choose the time
        return "devices refuse its time stamps, however old"
    but = "unless a time stamp shows that it is older" if ReasonFlags(reason) in HARMLESS else ""
    return f"devices refuse what it signed, {but or 'however old'}"


def crl(*, pki: PKI = None, ca_pass: CA_PASS = None, root_pass: ROOT_PASS = None) -> None:
    """Make new CRLs, before the old ones go stale.

    Each CA whose key is here gets one with all its revocations so far, and crl/bundle.pem has
    them all. --ca-pass opens all keys, unless --root-pass gives the root's own. Envelopes take
    them with fwsign staple.
    """
    from fwsign.pki.directory import BUNDLE, Pki, is_root
    from fwsign.pki.expiry import stale_crls
    from fwsign.pki.revocation import renew_crls

    directory = find_pki(pki)
    found = Pki(directory)
    authorities = found.authorities()
    keys = {name: found.key_path(name) for name in authorities}
    here = [name for name, key in keys.items() if os.path.lexists(key)]
    if not here:
        places = " or ".join(map(str, keys.values()))
        raise Failed("state.pki", f"no CA's key is here to sign a CRL: expected {places}")
    now = inputs.now()
    for name in authorities:
        if name not in here:
            ui.note(f'the key of CA "{name}" is not here: its CRL stays as it is')
    ended = [one for one in stale_crls(directory, now=now) if one[0] not in here]
    # One source for all its keys: a descriptor can be read only once.
    asked_for = Passphrases()
    common = inputs.passphrase_source(ca_pass, "the CA's keys", "--ca-pass") if ca_pass else None
    roots = inputs.passphrase_source(root_pass, "the root's key") if root_pass else common

    def passphrase(name: str) -> bytes | None:
        source = roots if is_root(name) else common
        what, path = f'the key of CA "{name}"', keys[name]
        prompt = asked_for.existing(None, what, "--ca-pass", path=lambda: path)
        return (source or prompt)()

    for path in renew_crls(directory, passphrase=passphrase, now=now, names=here):
        ui.out(str(path))
    if ended:
        for name, end in ended:
            ui.complain(
                f'the CRL of CA "{name}" is stale since {end:%Y-%m-%d}, and its key is not here: '
                "devices refuse what is below that CA",
                _how_to_renew(found, name),
            )
        raise typer.Exit(ui.STALE)
    if not found.flat:
        ui.note(f"all CRLs in one file, to ship: {directory / BUNDLE}")
    ui.next_command("staple", "ENVELOPE", *pki_words(pki), after=", for what is signed already")


def _how_to_renew(pki: "Pki", name: str) -> str:
    from fwsign.pki.offline import REQUESTS

    if (pki.directory / REQUESTS).exists():
        accept = " ".join(map(quoted, ("fwsign", "pki", "accept", pki.directory, "FILE")))
        return f"fwsign pki crl where that key is, then here: {accept}"
    return f"bring {pki.key_path(name)} here, run fwsign pki crl again, and take it away afterwards"
