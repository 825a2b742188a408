# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki renew`."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias, cast

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import PKI, named, refuse_kdf
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.pki import existing_keys, new_issuing
from fwsign.cli.pki.extensions import AddressOptions, read_extras
from fwsign.cli.pki.options import (
    COMPAT,
    FROM_KEY,
    KIND_OF_TLS_KEY,
    LIFETIME,
    PassphraseOptions,
    span,
    warn_of_rsa2048,
)
from fwsign.cli.pki.renewed import about_the_old, lost_names, revoked
from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fwsign.keys.held import HeldKey
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.extras import Extras
    from fwsign.pki.issuance import Existing
    from fwsign.pki.log import Origin


class _What(NamedTuple):
    """Options: what to renew, and with which key."""

    every: Annotated[
        bool,
        typer.Option("--all", help="Renew all signers, tsas, servers and clients not revoked."),
    ] = False
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key, too. Default: the same key.")
    ] = False
    csr: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            readable=False,
            metavar="FILE",
            help="Certify the key of this request, a new one or the same; its names do not count.",
        ),
    ] = None
    from_key: FROM_KEY = None


class _How(NamedTuple):
    """Options: the terms of the new certificates."""

    lifetime: LIFETIME = None
    alg: KIND_OF_TLS_KEY = None
    compat: COMPAT = False
    permit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("host_name"),
            help="Of the issuing CA: one more domain, or single label such as localhost, that it "
            "may issue for; repeat for several.",
        ),
    ] = None


class _Options(NamedTuple):
    name: str | None
    what: _What
    how: _How
    addresses: AddressOptions
    protection: PassphraseOptions


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
            "fwsign pki renew issuing --key openbao:issuing-2 --ca-pass env:ROOT_PIN",
            "fwsign pki renew issuing-tls --pass env:TLS_PASS --ca-pass env:ROOT_PASS",
            "fwsign pki renew --all --ca-pass env:CA_PASS",
        ),
    )(grouped(renew))


_NAME: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help='What to renew; "issuing" or "issuing-tls" for a CA.'),
]


def renew(
    name: _NAME = None,
    *,
    what: _What,
    pki: PKI = None,
    how: _How,
    addresses: AddressOptions,
    protection: PassphraseOptions,
) -> None:
    """Issue a certificate anew, with the same names, also one that was imported.

    It keeps its key, or gets a new one, also of another kind. The old certificate goes to
    certs_by_serial, an old key to NAME.key.unused-1. What the old one vouches for stays good until
    it ends: revoke it, by its serial number, only if its key leaked. "issuing" needs the root's
    key; with --new-key or --key there is another issuing CA from then on. "issuing-tls", the CA of
    servers and clients, is made if there is none; with the root elsewhere, that is a request for
    it. After --permit, whoever sends the issuing CA's certificate needs the new one. --all brings
    everything below the CAs that issue now, as is needed after another CA was revoked.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.entry_names import ISSUING_TLS

    if what.every == (name is not None):
        ui.usage("expected NAME or --all" if name is None else "NAME and --all exclude each other")
    more = read_extras(addresses)
    now = inputs.now()
    lifetime = span(how.lifetime, now)
    found = Pki(find_pki(pki))
    issues = name in found.issuers_in_line()
    first = name == ISSUING_TLS and name not in found.names()
    what = what._replace(new_key=what.new_key or (first and not what.from_key))
    options = _Options(name, what, how, addresses, protection)
    _check(options, issues=issues, first=first)
    if not first:
        _refuse_unable(found, name, now)
    asked_for = Passphrases()
    secrets = CaPassphrases(asked_for, protection.ca_pass, found)
    new, origin = _key(options, asked_for)
    if name is not None and (first or (issues and new is not None)):
        _check_new_issuing(options)
        make = new_issuing.add_tls if first else new_issuing.replace
        own = new if isinstance(new, NewKey) else cast("Callable[[], HeldKey]", new)()
        make(found.directory, name, own, secrets, pki)
        return
    again = partial(
        _renew,
        found.directory,
        new=new,
        lifetime=lifetime,
        how=how,
        more=more,
        origin=origin,
        secrets=secrets,
        now=now,
    )
    if name is None:
        raise typer.Exit(_renew_all(found, again, pki))
    again(name)
    _next(found, (name,), name, pki)


def _check(options: _Options, *, issues: bool, first: bool) -> None:
    """Refuse options that have no meaning together.

    Args:
        options: the options.
        issues: whether it is an issuing CA.
        first: whether it is the first CA for TLS, which is not there yet.
    """
    (_, new_key, csr, from_key), protection = options.what, options.protection
    refuse_kdf(protection.kdf, none=protection.no_passphrase)
    existing_keys.refuse_clash(csr, from_key, alg=options.how.alg, protection=protection)
    given = "--csr" if csr else "--key" if from_key else None
    if not new_key and given is None and (options.how.alg or any(protection[:3])):
        ui.usage("--pass, --no-passphrase, --kdf and --alg are for --new-key", "add --new-key")
    if new_key and given:
        ui.usage(f"--new-key and {given} exclude each other")
    if given and options.name is None:
        ui.usage(f"{given} is for one signer, tsa, server or client")
    if csr and (issues or first):
        way = "a CA's request: fwsign pki sign-ca"
        ui.usage("--csr is for one signer, tsa, server or client", way)
    if (new_key or (from_key and issues)) and options.how.compat:
        ui.usage("--compat and --new-key exclude each other", "a new key: --alg rsa2048")
    if options.how.permit and (new_key or from_key or not issues):
        ui.usage("--permit is for an issuing CA that keeps its key")


def _check_new_issuing(options: _Options) -> None:
    """Refuse options that another issuing CA cannot have."""
    if options.how.lifetime:
        ui.usage("--for and --new-key exclude each other for an issuing CA")
    if any(options.addresses):
        ui.usage(
            "addresses and --new-key exclude each other for an issuing CA",
            f"renew it once more to name them: fwsign pki renew {options.name}",
        )


def _key(
    options: _Options, asked_for: Passphrases
) -> "tuple[NewKey | Callable[[], Existing] | None, Origin]":
    """Return the key to make, or a function that returns one, or None; and its origin."""
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.log import OWN, Origin

    (_, new_key, csr, from_key), protection = options.what, options.protection
    if csr:
        request = existing_keys.read_request(csr, compat=options.how.compat)
        return (lambda: request.public_key), Origin(request=request.digest)
    if from_key:
        uri = from_key
        opened = asked_for.existing(protection.pass_, f"the key {uri}", uri=lambda: uri)
        return existing_keys.opens(uri, opened), OWN
    if not new_key:
        return None, OWN
    what = "all new keys" if options.name is None else f'the new key of "{options.name}"'
    secret = asked_for.new(protection.pass_, none=protection.no_passphrase, what=what)
    return NewKey(options.how.alg or "", secret, protection.kdf or ""), OWN


def _renew(
    directory: Path,
    name: str,
    *,
    new: "NewKey | Callable[[], Existing] | None",
    lifetime: timedelta | None,
    how: _How,
    more: "Extras",
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
        permit=how.permit or (),
        more=more,
        compat=how.compat,
        origin=origin,
        ca_passphrase=lambda: secrets.get(issuer_name(found, name)),
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    pki = Pki(directory)
    if lost := lost_names(old, pki.certificate(name)):
        ui.note(
            f"warning: it no longer has the names {lost}: fwsign takes hosts and addresses only"
        )
    for line in about_the_old(pki, old, now):
        ui.note(line)


def _next(
    pki: "Pki", names: "Sequence[str]", word: str, words: Path | None, *, after: str = ""
) -> None:
    """Name the next command if servers or clients among the renewed ones send a new path."""
    from fwsign.pki.entry_names import TLS
    from fwsign.pki.leaves import leaf_of

    leaves = (leaf_of(pki.certificate(name)) for name in names)
    if any(leaf is not None and leaf.kind in TLS for leaf in leaves):
        ui.next_command("pki", "export", "chain", word, "FILE", *pki_words(words), after=after)


def _leaves(pki: "Pki") -> tuple[str, ...]:
    """Return the names of all leaves that can be renewed; tell of those that cannot."""
    from fwsign.pki.leaves import leaf_of
    from fwsign.pki.view.entry import facts

    found = []
    for name in pki.names():
        certificate = pki.certificate(name)
        if facts(certificate).ca:
            continue
        if gone := revoked(pki, certificate):
            ui.note(f'"{name}" {gone}: left as it is')
        elif leaf_of(certificate) is None:
            ui.note(f'warning: "{name}" is of no kind that can be renewed: left as it is')
        else:
            found.append(name)
    return tuple(found)


def _renew_all(pki: "Pki", again: "Callable[[str], None]", words: Path | None) -> int:
    """Renew all leaves that can be; return the worst exit status."""
    leaves = _leaves(pki)
    worst = answer.worst([0, *(_tried(again, one) for one in leaves)])
    _next(pki, leaves, "NAME", words, after=", for each server and client")
    return worst


def _tried(again: "Callable[[str], None]", name: str) -> int:
    """Renew one of several; the others do not depend on it. Return the exit status."""
    try:
        again(name)
    except Failed as error:
        if error.code.startswith("key.passphrase"):
            raise
        ui.complain(f'"{name}" was not renewed: {error.message}', answer.hint_for(error))
        return answer.exit_status(error)
    return 0


def _refuse_unable(pki: "Pki", name: str | None, now: datetime) -> None:
    """Refuse an unknown name, or CAs that may not issue, before a passphrase is asked for."""
    from fwsign.pki.issuance import refuse_unable
    from fwsign.pki.leaves import leaf_of

    if name is not None:
        pki.certificate(name)
        return
    leaves = filter(None, (leaf_of(pki.certificate(name)) for name in pki.names()))
    for ca in dict.fromkeys(pki.issuing(leaf.kind) for leaf in leaves):
        refuse_unable(pki, ca, now)
