# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki import`: take over a PKI of easy-rsa or openssl ca."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.held_keys import HeldOptions, new_key_source, opened
from fwsign.cli.options import CA_PASS, NO_PASSPHRASE, PASS, named
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.pki.options import KIND_OF_CA_KEY
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki
    from fwsign.pki.easyrsa.read import ForeignEntry, ForeignPki
    from fwsign.pki.easyrsa.takeover import NewIssuing


def register(command: typer.Typer) -> None:
    """Add `import` to the commands of `fwsign pki`."""
    command.command(
        "import",
        cls=Command,
        epilog=examples(
            "fwsign pki import ~/easy-rsa --vendor acme.example",
            "fwsign pki import demoCA --to pki --vendor acme.example --ca-pass env:CA_PASS \\",
            "    --pass env:KEY_PASS",
            "fwsign pki import old --vendor acme.example --ca-pass env:PIN --no-passphrase \\",
            "    --root-key 'pkcs11:token=acme;object=ca'",
        ),
    )(grouped(import_))


_SOURCE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="DIR",
        help="A PKI of easy-rsa 3 or openssl ca; it is read, never changed.",
    ),
]
_TO: TypeAlias = Annotated[
    Path,
    typer.Option(
        readable=False,
        metavar="DIR",
        show_default=False,
        help="The new PKI; must not exist, or be empty. Default: fwsign-pki.",
    ),
]
_VENDORS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="What the new issuing CA of signers is limited to; repeat for several. Default: "
        "that of fwsign.toml.",
    ),
]
_ROOT: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        readable=False,
        metavar="FILE",
        help="For a CA that is below a root: the root's certificate, its CRL, or both; repeat "
        "for several. What lies beside the CA's certificate is found without it.",
    ),
]


def import_(
    directory: _SOURCE,
    *,
    to: _TO = Path("fwsign-pki"),
    vendor: _VENDORS = None,
    root: _ROOT = None,
    alg: KIND_OF_CA_KEY = None,
    held: HeldOptions,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    ca_pass: CA_PASS = None,
) -> None:
    """Take over a PKI of easy-rsa or openssl.

    Its CA becomes the root of a new PKI, its certificates, keys and revocations come along, keys
    encrypted as they are. Keys are found by their content, in any form and under any name; if one
    is encrypted, its name or --ca-pass tells whose it is. New issuing CAs below the root issue from
    now on; --pass protects their keys, --ca-pass opens the root's. What the root has issued stays
    good.

    A CA that is below a root becomes the issuing CA of the new PKI and keeps its key; the root's
    key stays where it is. --root-key says where the key of the CA that is taken over lives, if it
    is not in a file there; --ca-pass opens it. --key is for the keys of the new issuing CAs.
    """
    from fwsign.pki.easyrsa.read import read
    from fwsign.pki.easyrsa.takeover import NewIssuing, take_over, why_no_issuing
    from fwsign.pki.files import refuse_used
    from fwsign.pki.leaves import default_algorithm

    refuse_used(to)
    asked_for = Passphrases()
    secret = asked_for.existing(ca_pass, "the CA's key", "--ca-pass")
    source = read(directory, root or (), secret if ca_pass else None)
    uris = held.uris(("ca", ISSUING, ISSUING_TLS))
    own = opened({"ca": uris.pop("ca")}, asked_for, None, ca_pass) if "ca" in uris else {}
    fault = why_no_issuing(source, own.get("ca"))
    issuing = None
    if fault is None and source.above is None:
        domains = vendor or ([known] if (known := config.load().vendor) else None)
        if not domains:
            ui.usage("no vendor for the new issuing CA", "name it with --vendor DOMAIN")
        keys = opened(uris, asked_for, pass_)
        what = "the new issuing CAs' keys"
        new_source = new_key_source(pass_, none=no_passphrase, held=bool(keys))
        passphrase = asked_for.new(new_source, none=no_passphrase, what=what)
        issuing = NewIssuing(domains, alg or default_algorithm(source.ca), passphrase, keys)
    elif uris:
        ui.usage("--key is for new issuing CAs, and none is made", fault)
    now = inputs.now()
    pki = take_over(
        source, to, issuing=issuing, ca_passphrase=secret, now=now, ca_key=own.get("ca")
    )
    ui.out(str(to))
    _say(source, pki, issuing, fault, now)


def _say(
    source: "ForeignPki", pki: "Pki", issuing: "NewIssuing | None", fault: str | None, now: datetime
) -> None:
    from fwsign.pki.certificates import common_name
    from fwsign.pki.validity import has_ended

    role = "root" if source.above is None else "issuing CA"
    ui.note(f'"{common_name(source.ca)}" of {source.tool} is the {role} now')
    if source.above is not None:
        ui.note(f'its root is "{common_name(source.above.root)}", whose key is elsewhere')
    if has_ended(source.ca, now):
        words = f"it expired {source.ca.not_valid_after_utc:%Y-%m-%d}, it is {now:%Y-%m-%d}"
        ui.note(f"warning: {words}{': the root can renew it' if source.above else ''}")
    ui.note(f"{source.directory} is as it was")
    for entry in source.entries:
        ui.note(f'"{entry.name}" from {entry.file.name}, {_key(entry)}')
    for path, reason in source.left_out:
        ui.note(f"warning: {path} was left out: {reason}")
    only = len(source.unlisted)
    ui.note(f"revoked: {len(source.revoked)}, of which {only} were in index.txt only")
    if source.above is not None:
        ui.note(f"a new CRL of the root comes in with: fwsign pki accept {pki.directory} FILE")
    elif issuing:
        ui.note(f"new issuing CA, for {', '.join(issuing.vendors)}: it issues from now on")
        ui.note("new issuing CA for TLS: servers and clients come from it from now on")
        made = [one for one in (ISSUING, ISSUING_TLS) if one not in issuing.keys]
        if made and issuing.key.secret() is None:
            words = " and ".join(f"{one}.key" for one in made)
            have = "have" if len(made) > 1 else "has"
            ui.note(f"warning: {pki.directory / 'private'}/{words} {have} no passphrase")
    else:
        ui.note(f"warning: no issuing CA, so fwsign pki issue does not work: {fault}")
    ui.note("issue and revoke here from now on, not in the old PKI")
    if _needs_compat(source):
        ui.note("devices need --profile compat, because of how its CAs were made")
    ui.next_command("pki", "lint", pki.directory)


def _key(entry: "ForeignEntry") -> str:
    """Return where a key was found, if not at its usual place."""
    if entry.key is None:
        return "without a key"
    if entry.key.name == f"{entry.file.stem}.key":
        return "with its key"
    why = ", by its name, because it is encrypted" if entry.by_name else ""
    return f"with its key {entry.key.name}{why}"


def _needs_compat(source: "ForeignPki") -> bool:
    from cryptography import x509

    for ca in (source.ca, *([source.above.root] if source.above else [])):
        try:
            basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
            _ = ca.extensions.get_extension_for_class(x509.KeyUsage)
        except x509.ExtensionNotFound:
            return True
        if not basic.critical:
            return True
    return False
