# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki revoke`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import CA_PASSES, PKI
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.quoting import quoted

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


_OF_A_GROUP: Final = (
    "fwsign sign and rewrap encrypt nothing to it any more; its key opens what was encrypted before"
)


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
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


def _reason(value: str) -> str:
    from fwsign.pki.revocation import REASONS

    if value not in REASONS:
        ui.usage(f'"{value}" is not a reason to revoke', f"choose from {', '.join(REASONS)}")
    return value


_NAME: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help='What to revoke, "issuing" for the issuing CA; or a serial number in hexadecimal, '
        "for a certificate that was renewed.",
    ),
]
_REASON: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="REASON",
        callback=_reason,
        help="unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, "
        "cessationOfOperation or privilegeWithdrawn.",
    ),
]
_INVALIDITY_DATE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--invalidity-date",
        metavar="TIME",
        help="Since when the key may have been misused, if that was earlier: RFC 3339.",
    ),
]


def revoke(
    name: _NAME,
    *,
    reason: _REASON,
    invalidity_date: _INVALIDITY_DATE = None,
    pki: PKI = None,
    ca_pass: CA_PASSES = None,
) -> None:
    """Revoke a certificate, for good.

    With a NAME, its older certificates of the same key are revoked, too; with a serial number, that
    one alone.

    Its issuer's CRL is written anew, and crl/bundle.pem; devices learn of it from envelopes that
    carry that CRL. They then refuse all that it signed. Only where the reason is superseded,
    cessationOfOperation or affiliationChanged, what a time stamp shows to be older stays good.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.places import BUNDLE
    from fwsign.pki.revocation import issuer_name
    from fwsign.pki.revocation import revoke as revoke_it

    now = inputs.now()
    since = inputs.parse_time(invalidity_date, now) if invalidity_date else None
    if since and since > now:
        ui.usage(f"--invalidity-date {invalidity_date} is in the future: it is {now.isoformat()}")
    directory = find_pki(pki)
    secrets = CaPassphrases(Passphrases(), ca_pass, Pki(directory))
    path = revoke_it(
        directory,
        name,
        reason=reason,
        ca_passphrase=lambda: secrets.get(issuer_name(directory, name)),
        now=now,
        invalid_since=since,
    )
    ui.out(str(path))
    _warn_of_key(directory, name, reason)
    if words := _what_is_lost(directory, name, reason):
        ui.note(words)
        if words == _OF_A_GROUP:
            return
        staple = " ".join(map(quoted, ("fwsign", "staple", "ENVELOPE", *pki_words(pki))))
        ui.note(f"bring the CRL to devices: {staple}, or sign a new release")
    else:
        bundle = directory / BUNDLE
        ui.note(f"bring the CRL to the other side of TLS: {bundle if bundle.exists() else path}")


def _warn_of_key(directory: Path, name: str, reason: str) -> None:
    """Name the certificates of the same key that stay good."""
    from cryptography.x509 import ReasonFlags

    from fwsign.pki.directory import Pki
    from fwsign.pki.leaked import unrevoked
    from fwsign.x509.crl import HARMLESS

    if ReasonFlags(reason) in HARMLESS:  # the key may go on
        return
    pki = Pki(directory)
    certificate = pki.certificate(name) if name in pki.names() else pki.by_serial(name)
    for one, issuer in unrevoked(pki, certificate) if certificate else ():
        if one.not_valid_after_utc < inputs.now():
            continue
        serial = f"{one.serial_number:X}"
        ui.note(
            f'warning: {serial}, by "{issuer}", has the same key and stays good: revoke it, too, '
            "if the key leaked"
        )


def _what_is_lost(directory: Path, name: str, reason: str) -> str:
    """Return what devices refuse after a certificate was revoked; empty for TLS."""
    from cryptography.x509 import ReasonFlags

    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_names import TLS
    from fwsign.pki.leaves import leaf_of
    from fwsign.x509.crl import HARMLESS

    pki = Pki(directory)
    certificate = pki.certificate(name) if name in pki.names() else pki.by_serial(name)
    leaf = leaf_of(certificate) if certificate else None
    kind = leaf.kind if leaf else "CA"
    if kind in TLS or _is_for_tls(certificate):
        return ""
    if kind == "encryption":
        return _OF_A_GROUP
    if kind == "tsa":  # a thief of its key can choose the time
        return "devices refuse its time stamps, however old"
    but = "unless a time stamp shows that it is older" if ReasonFlags(reason) in HARMLESS else ""
    return f"devices refuse what it signed, {but or 'however old'}"


def _is_for_tls(certificate: "Certificate | None") -> bool:
    """Tell whether a CA certifies nothing that signs."""
    from fwsign.pki.profiles import TLS_ONLY, usages_of

    usages = set(usages_of(certificate)) if certificate else set()
    return bool(usages) and usages <= set(TLS_ONLY.usages)
