# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki renew`."""

import contextlib
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import (
    CA_PASSES,
    KDF,
    NO_PASSPHRASE,
    PASS,
    PKI,
    named,
    refuse_kdf,
)
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.pki import keys as pki_keys
from fwsign.cli.pki.extras import CA_ISSUERS_URL, CRL_URL, read_extras
from fwsign.cli.pki.options import COMPAT, KIND_OF_TLS_KEY, LIFETIME, span, warn_of_rsa2048
from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from fwsign.keys import PublicKey
    from fwsign.pki.directory import Pki
    from fwsign.pki.extras import Extras
    from fwsign.pki.issuance import NewKey
    from fwsign.pki.log import Origin


class _Options(NamedTuple):
    name: str | None
    new_key: bool
    csr: Path | None
    from_key: str | None
    alg: str | None
    pass_: str | None
    no_passphrase: bool
    kdf: str | None
    compat: bool


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "renew",
        cls=Command,
        epilog=examples(
            "fwsign pki renew release",
            "fwsign pki renew broker.acme.example --new-key --no-passphrase",
            "fwsign pki renew TESTING --compat",
            "fwsign pki renew sensor-7 --csr sensor-7.csr",
            "fwsign pki renew issuing --for 10y --ca-pass env:ROOT_PASS",
            "fwsign pki renew issuing --permit plant.acme.test",
            "fwsign pki renew issuing-tls --pass env:TLS_PASS --ca-pass env:ROOT_PASS",
            "fwsign pki renew --all --ca-pass env:CA_PASS",
        ),
    )(renew)


def renew(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help='What to renew; "issuing" or "issuing-tls" for a CA.'
        ),
    ] = None,
    *,
    every: Annotated[
        bool,
        typer.Option("--all", help="Renew all signers, tsas, servers and clients not revoked."),
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key, too. Default: the same key.")
    ] = False,
    csr: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            readable=False,
            metavar="FILE",
            help="Certify the key of this request, a new one or the same; its names do not count.",
        ),
    ] = None,
    from_key: Annotated[
        str | None,
        typer.Option(
            "--from-key",
            metavar="URI",
            help="Certify this key, a path or file: URI; --pass opens it, and it stays where it "
            "is.",
        ),
    ] = None,
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
    crl_url: CRL_URL = None,
    ca_issuers_url: CA_ISSUERS_URL = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    kdf: KDF = None,
    ca_pass: CA_PASSES = None,
) -> None:
    """Issue a certificate anew, with the same names, also one that was imported.

    It keeps its key, or gets a new one, also of another kind. The old certificate goes to
    certs_by_serial, an old key to NAME.key.unused-1. What the old one
    vouches for stays good until it ends: revoke it, by its serial number, only if its key leaked,
    for devices then refuse all of that. "issuing" needs the root's key; with --new-key there is
    another issuing CA from then on. "issuing-tls", the CA of servers and clients, is made if there
    is none; with the root elsewhere, that is a request for it. After --permit, whoever sends the
    issuing CA's certificate needs the new one: fwsign pki export chain. --all brings everything
    below the CAs that issue now, as is needed after another CA was revoked.
    """
    from fwsign.pki.directory import ISSUING_TLS, Pki
    from fwsign.pki.issuance import NewKey

    if every == (name is not None):
        ui.usage("expected NAME or --all" if name is None else "NAME and --all exclude each other")
    more = read_extras(crl_url, ca_issuers_url)
    now = inputs.now()
    validity = span(lifetime, now)
    directory = find_pki(pki)
    found = Pki(directory)
    issues = name in found.issuers_in_line()
    first = name == ISSUING_TLS and name not in found.names()
    new_key |= first
    options = _Options(name, new_key, csr, from_key, alg, pass_, no_passphrase, kdf, compat)
    _check(options, issues=issues or first)
    if permit and (new_key or not issues):
        ui.usage("--permit is for an issuing CA that keeps its key")
    if name is None:
        _refuse_unable(found, now)
    elif not first:
        found.certificate(name)
    asked_for = Passphrases()
    secrets = CaPassphrases(asked_for, ca_pass, found)
    new, origin = _key(options, asked_for)
    if isinstance(new, NewKey) and name is not None and (issues or first):
        if lifetime:
            ui.usage("--for and --new-key exclude each other for an issuing CA")
        if crl_url or ca_issuers_url:
            ui.usage(
                "addresses and --new-key exclude each other for an issuing CA",
                f"renew it once more to name them: fwsign pki renew {name}",
            )
        (_add_tls if first else _replace_issuing)(directory, name, new, secrets, pki)
        return
    again = partial(
        _renew,
        directory,
        new=new,
        lifetime=validity,
        permit=permit or (),
        more=more,
        compat=compat,
        origin=origin,
        secrets=secrets,
        now=now,
    )
    if name is not None:
        again(name)
        _next(found, (name,), name, pki)
        return
    leaves = _leaves(found)
    worst = ui.worst([0, *(_tried(again, one) for one in leaves)])
    _next(found, leaves, "NAME", pki, after=", for each server and client")
    raise typer.Exit(worst)


def _check(options: _Options, *, issues: bool) -> None:
    """Refuse options that have no meaning together.

    Args:
        options: the options.
        issues: whether it is an issuing CA.
    """
    name, csr, from_key, alg, pass_ = (
        options.name,
        options.csr,
        options.from_key,
        options.alg,
        options.pass_,
    )
    none, kdf = options.no_passphrase, options.kdf
    refuse_kdf(kdf, none=none)
    pki_keys.refuse_clash(csr, from_key, alg=alg, kdf=kdf, pass_=pass_, no_passphrase=none)
    given = "--csr" if csr else "--from-key" if from_key else None
    if not options.new_key and given is None and (pass_ or none or alg or kdf):
        ui.usage("--pass, --no-passphrase, --kdf and --alg are for --new-key", "add --new-key")
    if options.new_key and given:
        ui.usage(f"--new-key and {given} exclude each other")
    if given and (name is None or issues):
        way = "a CA's request: fwsign pki sign-ca" if csr and name else None
        ui.usage(f"{given} is for one signer, tsa, server or client", way)
    if options.new_key and options.compat:
        ui.usage("--compat and --new-key exclude each other", "a new key: --alg rsa2048")


def _key(
    options: _Options, asked_for: Passphrases
) -> "tuple[NewKey | Callable[[], PublicKey] | None, Origin]":
    """Return the key to make, or a function that returns one, or None; and its origin."""
    from fwsign.pki.issuance import NewKey
    from fwsign.pki.log import OWN, Origin

    if options.csr:
        request = pki_keys.read_request(options.csr, compat=options.compat)
        return (lambda: request.public_key), Origin(request=request.digest)
    if options.from_key:
        opened = asked_for.existing(options.pass_, f"the key {options.from_key}")
        return pki_keys.opens(options.from_key, opened, compat=options.compat), OWN
    if not options.new_key:
        return None, OWN
    what = "all new keys" if options.name is None else f'the new key of "{options.name}"'
    secret = asked_for.new(options.pass_, none=options.no_passphrase, what=what)
    return NewKey(options.alg or "", secret, options.kdf or ""), OWN


def _renew(
    directory: Path,
    name: str,
    *,
    new: "NewKey | Callable[[], PublicKey] | None",
    lifetime: timedelta | None,
    permit: "Sequence[str]",
    more: "Extras",
    compat: bool,
    origin: "Origin",
    secrets: CaPassphrases,
    now: datetime,
) -> None:
    from fwsign.pki.directory import Pki
    from fwsign.pki.renewal import issuer_name
    from fwsign.pki.renewal import renew as renew_it

    found = Pki(directory)
    old = found.certificate(name)
    path = renew_it(
        directory,
        name,
        new_key=new,
        lifetime=lifetime,
        permit=permit,
        more=more,
        compat=compat,
        origin=origin,
        ca_passphrase=lambda: secrets.get(issuer_name(found, name)),
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    pki = Pki(directory)
    if lost := _lost_names(old, pki.certificate(name)):
        ui.note(
            f"warning: it no longer has the names {lost}: fwsign takes hosts and addresses only"
        )
    for line in _about_the_old(pki, old, now):
        ui.note(line)


def _next(
    pki: "Pki", names: "Sequence[str]", word: str, words: Path | None, *, after: str = ""
) -> None:
    """Name the next command if servers or clients among the renewed ones send a new path."""
    from fwsign.pki.directory import TLS
    from fwsign.pki.leaves import leaf_of

    leaves = (leaf_of(pki.certificate(name)) for name in names)
    if any(leaf is not None and leaf.kind in TLS for leaf in leaves):
        ui.next_command("pki", "export", "chain", word, "FILE", *pki_words(words), after=after)


def _lost_names(old: "x509.Certificate", new: "x509.Certificate") -> str:
    """Return the alternative names of an imported certificate that its renewal left out."""
    from fwsign.pki.view.entry import facts

    kept = {one.lower() for one in facts(new).names}
    return ", ".join(one for one in facts(old).names if one.lower() not in kept)


def _leaves(pki: "Pki") -> tuple[str, ...]:
    """Return the names of all leaves that can be renewed; tell of those that cannot."""
    from fwsign.pki.leaves import leaf_of
    from fwsign.pki.view.entry import facts

    found = []
    for name in pki.names():
        certificate = pki.certificate(name)
        if facts(certificate).ca:
            continue
        if gone := _revoked(pki, certificate):
            ui.note(f'"{name}" {gone}: left as it is')
        elif leaf_of(certificate) is None:
            ui.note(f'warning: "{name}" is of no kind that can be renewed: left as it is')
        else:
            found.append(name)
    return tuple(found)


def _tried(again: "Callable[[str], None]", name: str) -> int:
    """Renew one of several; the others do not depend on it. Return the exit status."""
    try:
        again(name)
    except Failed as error:
        if error.code.startswith("key.passphrase"):
            raise
        ui.complain(f'"{name}" was not renewed: {error.message}', ui.hint_for(error))
        return ui.exit_status(error)
    return 0


def _about_the_old(pki: "Pki", old: "x509.Certificate", now: datetime) -> tuple[str, ...]:
    """Return notes about the renewed certificate and the things that it vouches for."""
    from fwsign.pki.directory import TLS
    from fwsign.pki.index import serial_text
    from fwsign.pki.leaves import leaf_of

    if gone := _why_bad(pki, old, now):
        return (f"the old one {gone}: devices refuse it, whatever it vouches for",)
    end, serial = f"{old.not_valid_after_utc:%Y-%m-%d}", serial_text(old.serial_number)
    leaf = leaf_of(old)
    if leaf is not None and leaf.kind in TLS:
        return (f"the old one is good until {end}: revoke {serial} when the new one is in use",)
    return (
        f"what the old one vouches for stays good until {end}: sign anew what must last longer",
        f"revoke {serial} only if its key leaked: devices then refuse all that it vouches for",
    )


def _why_bad(pki: "Pki", certificate: "x509.Certificate", now: datetime) -> str:
    """Return why a certificate no longer counts; empty if it counts, as far as known here."""
    from fwsign.pki.expiry import dead_above

    if gone := _revoked(pki, certificate):
        return gone
    end = certificate.not_valid_after_utc
    if end <= now:
        return f"ended {end:%Y-%m-%d}"
    with contextlib.suppress(Failed):
        if above := dead_above(pki, certificate, now):
            what = "was revoked" if above.revoked else "ended"
            return f'is below "{above.name}", which {what} {above.time:%Y-%m-%d}'
    return ""


def _revoked(pki: "Pki", certificate: "x509.Certificate") -> str:
    """Say when a certificate was revoked; empty if it was not, as far as known here."""
    with contextlib.suppress(Failed):  # its issuer's CRL may be elsewhere
        if (entry := pki.revocation_of(certificate)) is not None:
            return f"was revoked {entry.revocation_date_utc:%Y-%m-%d}"
    return ""


def _replace_issuing(
    directory: Path, asked: str, new: "NewKey", secrets: CaPassphrases, words: Path | None
) -> None:
    """Make another issuing CA, and say what becomes of the one that issued."""
    from fwsign.pki.directory import ISSUING_TLS, Pki, line_of
    from fwsign.pki.rotation import replace_issuing

    pki = Pki(directory)
    now = inputs.now()
    line = line_of(asked)
    before = pki.issuing("client" if line == ISSUING_TLS else "signer")
    old = pki.certificate(before)
    who = "the old one" if before == asked else f'"{before}"'  # another one may be older
    name = replace_issuing(
        directory,
        line,
        new_key=new,
        passphrase=secrets.get,
        now=now,
    )
    ui.out(str(pki.certificate_path(name)))
    good = f"what {who} issued stays good until {old.not_valid_after_utc:%Y-%m-%d} at most"
    gone = _why_bad(pki, old, now)
    fate = f"{who} {gone}, and nothing that it issued counts" if gone else good
    what = " servers and clients" if line == ISSUING_TLS else ""
    ui.note(f'the CA "{name}" issues{what} from now on; {fate}')
    if gone:
        ui.next_command("pki", "renew", "--all", *pki_words(words))
    else:
        each = f", for each {'server and client' if what else 'signer'}"
        ui.next_command("pki", "renew", "NAME", *pki_words(words), after=each)


def _add_tls(
    directory: Path, asked: str, new: "NewKey", secrets: CaPassphrases, words: Path | None
) -> None:
    """Make the first CA for TLS, or ask the root for it if its key is elsewhere."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.offline import add_request
    from fwsign.pki.rotation import current_root, replace_issuing

    pki = Pki(directory)
    root = pki.key_path(current_root(pki))
    if not root.exists():
        path = add_request(directory, new_key=new)
        ui.out(str(path))
        ui.note(f"the root's key is not here: {root} is missing")
        ui.note(f"next, where the root is: fwsign pki sign-ca {path.name} --pki DIR --tls")
        return
    name = replace_issuing(directory, asked, new_key=new, passphrase=secrets.get, now=inputs.now())
    ui.out(str(pki.certificate_path(name)))
    ui.note(f'the CA "{name}" issues servers and clients from now on; what is there stays good')
    ui.next_command("pki", "renew", "NAME", *pki_words(words), after=", for each server and client")


def _refuse_unable(pki: "Pki", now: datetime) -> None:
    """Refuse CAs that may not issue: once, and before a passphrase is asked for."""
    from fwsign.pki.issuance import refuse_unable
    from fwsign.pki.leaves import leaf_of

    leaves = filter(None, (leaf_of(pki.certificate(name)) for name in pki.names()))
    for ca in dict.fromkeys(pki.issuing(leaf.kind) for leaf in leaves):
        refuse_unable(pki, ca, now)
