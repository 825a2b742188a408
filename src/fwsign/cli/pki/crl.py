# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki crl`: the CRLs anew, also those that were lost."""

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import CA_PASSES, PKI, ROOT_PASS
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.quoting import quoted
from fwsign.errors import Failed

if TYPE_CHECKING:
    from cryptography import x509

    from fwsign.pki.directory import Pki


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "crl",
        cls=Command,
        epilog=examples(
            "fwsign pki crl --ca-pass env:CA_PASS",
            "fwsign pki crl issuing --ca-pass issuing=env:CA_PASS",
            "fwsign pki crl --from build.bin.suit",
        ),
    )(grouped(crl))


class _Lost(NamedTuple):
    """Options: what to do about CRLs that are lost."""

    copies: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            readable=False,
            metavar="FILE",
            help="Copies of earlier CRLs, in PEM or DER, or envelopes that carry them: what "
            "they revoke stays revoked; repeat for several.",
        ),
    ] = None
    forget: Annotated[
        list[str] | None,
        typer.Option(
            "--forget",
            metavar="CA",
            help="Begin the CRL of a CA anew where it is lost and no copy is left: its revocations "
            "are gone until you revoke again.",
        ),
    ] = None
    number: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --forget: the lowest number of the new CRL, above all that devices have "
            "seen.",
        ),
    ] = None


_NAMES: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CA]...", help="The CAs. Default: all whose key is here."),
]


def crl(
    names: _NAMES = None,
    *,
    lost: _Lost,
    pki: PKI = None,
    ca_pass: CA_PASSES = None,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make new CRLs, before the old ones go stale.

    Each CA whose key is here gets one with all its revocations so far, and crl/bundle.pem has
    them all. --ca-pass opens all keys, unless NAME=SRC or --root-pass gives another one. A CA whose
    key cannot be opened keeps its CRL, and the others get theirs. A lost CRL comes back from
    crl/bundle.pem. Envelopes take CRLs with fwsign staple.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_names import is_root
    from fwsign.pki.expiry import stale_crls
    from fwsign.pki.places import BUNDLE
    from fwsign.pki.revocation import renew_crls

    copies, forget, number = lost
    if number is not None and not forget:
        ui.usage("--number is for --forget")
    found = Pki(find_pki(pki))
    asked = tuple(names or found.authorities())
    here = _with_keys(found, asked)
    roots = tuple(filter(is_root, found.authorities()))
    secrets = CaPassphrases(Passphrases(), ca_pass, found, [("--root-pass", root_pass, roots)])
    now = inputs.now()
    for name in (one for one in asked if one not in here):
        ui.note(f'the key of CA "{name}" is not here: its CRL stays as it is')
    missing = _without_crl(found)
    ended = stale_crls(found.directory, now=now)
    failures: dict[str, Failed] = {}
    unasked: list[ui.UsageFailure] = []
    made = renew_crls(
        found.directory,
        partial(_passphrase, secrets, unasked),
        now=now,
        names=here,
        copies=_read(copies or (), found),
        forget=dict.fromkeys(forget or (), number or 0),
        failed=failures.__setitem__,
    )
    if not made and len(unasked) == len(failures) and unasked:
        raise unasked[0]
    for path in made:
        ui.out(str(path))
    _tell_returned(found, missing, forget or (), now)
    statuses = [_tell_failed(found, name, error, now) for name, error in failures.items()]
    still = [one for one in ended if found.crl_path(one[0]) not in made]
    statuses += [_tell_stale(found, name, end) for name, end in still if name not in failures]
    gone = [name for name in _without_crl(found) if is_root(name) and name not in here]
    statuses += [_tell_lost(found, name) for name in gone]
    if statuses:
        raise typer.Exit(answer.worst(statuses))
    if not found.flat:
        ui.note(f"all CRLs in one file, to ship: {found.directory / BUNDLE}")
    ui.next_command("staple", "ENVELOPE", *pki_words(pki), after=", for what is signed already")


def _passphrase(secrets: CaPassphrases, unasked: list[ui.UsageFailure], name: str) -> bytes | None:
    """Return the passphrase of a CA; if nobody can be asked, that CA alone fails."""
    try:
        return secrets.get(name)
    except ui.UsageFailure as error:
        if secrets.given(name):
            raise
        unasked.append(error)
        raise Failed("key.passphrase-missing", str(error)) from None


def _without_crl(pki: "Pki") -> list[str]:
    return [name for name in pki.authorities() if not os.path.lexists(pki.crl_path(name))]


def _with_keys(pki: "Pki", asked: Sequence[str]) -> list[str]:
    """Return the CAs whose keys are here, and names that are no CA's."""
    keys = {name: pki.key_path(name) for name in pki.authorities()}
    here = [name for name in asked if name not in keys or pki.has_key(name)]
    if not here:
        places = " or ".join(str(keys[name]) for name in asked)
        raise Failed("state.pki", f"no CA's key is here to sign a CRL: expected {places}")
    return here


def _read(paths: Sequence[Path], pki: "Pki") -> "list[x509.CertificateRevocationList]":
    """Return the CRLs in files and envelopes that a CA of a PKI has signed."""
    from cryptography import x509

    from fwsign.format.library import PARSE_ERRORS
    from fwsign.format.suit_labels import ENVELOPE_HEAD
    from fwsign.pki.crls import signed_by
    from fwsign.signing.stapling import carried_crls

    issuers = [pki.certificate(name) for name in pki.authorities()]
    found = []
    for path in paths:
        data = inputs.read_pem(path)
        if data.startswith(ENVELOPE_HEAD):
            blobs = [one.data for one in carried_crls(data)]
        else:
            blobs = inputs.select(path, data, "X509 CRL", "CRL")
        try:
            parsed = [x509.load_der_x509_crl(blob) for blob in blobs]
        except PARSE_ERRORS as error:
            raise Failed("io.format", f"{path} has a CRL that cannot be read: {error}") from None
        own = [one for one in parsed if any(signed_by(issuer, [one]) for issuer in issuers)]
        if not own:
            names = ", ".join(sorted({one.issuer.rfc4514_string() for one in parsed})) or "none"
            raise Failed(
                "state.pki",
                f"{path} has no CRL of a CA of {pki.directory}",
                expected=f"a CRL of {' or '.join(pki.authorities())}",
                found=names,
            )
        found += own
    return found


def _tell_returned(
    pki: "Pki", lost: Sequence[str], forgotten: Sequence[str], now: datetime
) -> None:
    for name in lost:
        if not os.path.lexists(path := pki.crl_path(name)):
            continue
        if name in forgotten:
            ui.note(f"warning: {path} has no revocations: fwsign pki revoke again what was revoked")
            continue
        crl = pki.crl(name)
        count = len(crl)
        made = "" if crl.last_update_utc == now else f", of {crl.last_update_utc:%Y-%m-%d}"
        ui.note(f"{path} was lost, and is back from a copy{made}: revocations: {count}")


def _tell_failed(pki: "Pki", name: str, error: Failed, now: datetime) -> int:
    """Say which CRL was not made, and how long the one here lasts; return the exit status."""
    path = pki.crl_path(name)
    until = "there is none here"
    if os.path.lexists(path):
        end = pki.crl(name).next_update_utc
        word = "is good until" if end is None or end > now else "is stale since"
        until = f"the one here {word} {end:%Y-%m-%d}" if end else "the one here names no end"
    hint = answer.hint_for(error)
    if error.code.startswith("key.passphrase") and error.hint is None:
        hint = f"give the passphrase of that key with --ca-pass {name}=SRC"
    ui.complain(f'no new CRL of CA "{name}", {until}: {error.message}', hint)
    return answer.exit_status(error)


def _tell_stale(pki: "Pki", name: str, end: datetime) -> int:
    elsewhere = not pki.has_key(name)
    why = ", and its key is not here" if elsewhere else ""
    ui.complain(
        f'the CRL of CA "{name}" is stale since {end:%Y-%m-%d}{why}: devices refuse what is '
        "below that CA",
        _how_to_renew(pki, name) if elsewhere else f"fwsign pki crl {name}",
    )
    return answer.STALE


def _tell_lost(pki: "Pki", name: str) -> int:
    ui.complain(
        f'the CRL of CA "{name}" is lost, no copy of it is here, and its key is not here either',
        _how_to_renew(pki, name),
    )
    return answer.FAILED


def _how_to_renew(pki: "Pki", name: str) -> str:
    from fwsign.pki.entry_names import ISSUING, request_path

    if request_path(pki.directory, ISSUING).exists():
        accept = " ".join(map(quoted, ("fwsign", "pki", "accept", pki.directory, "FILE")))
        return f"fwsign pki crl where that key is, then here: {accept}"
    return f"bring {pki.key_path(name)} here, run fwsign pki crl again, and take it away afterwards"
