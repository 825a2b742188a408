# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki init`."""

from typing import Annotated, TypeAlias

import typer

from fwsign.cli import quoting, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.held_keys import ALG_OF_PKI, HeldOptions
from fwsign.cli.new_pki import create_pki, keys_of_pki, say_what_now
from fwsign.cli.options import NO_PASSPHRASE, ORG, PASS, ROOT_PASS, VENDOR_OF_PKI
from fwsign.cli.pki.extensions import AddressOptions, read_extras
from fwsign.cli.pki.options import NEW_PKI, PERMIT


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "init",
        cls=Command,
        epilog=examples(
            "fwsign pki init pki --org Acme --vendor acme.example --alg p384",
            "fwsign pki init pki --org Acme --vendor acme.example --permit plant.acme.test",
            "fwsign pki init root --org Acme --vendor acme.example --root-only",
            "fwsign pki init pki --org Acme --vendor acme.example --layout easyrsa",
            "fwsign pki init pki --org Acme --vendor acme.example --no-passphrase \\",
            "    --root-key 'pkcs11:token=acme;object=ca' --root-pass env:PIN \\",
            "    --key issuing=openbao:issuing --key issuing-tls=openbao:tls",
        ),
    )(grouped(init))


def _layout(value: str) -> str:
    if value not in ("fwsign", "easyrsa"):
        ui.usage(f'"{value}" is not a layout', "choose from fwsign, easyrsa")
    return value


_ROOT_ONLY: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--root-only",
        help="Make the root alone, on a machine that stays offline; issuing CAs are elsewhere.",
    ),
]
_LAYOUT: TypeAlias = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="LAYOUT",
        callback=_layout,
        help="fwsign, or easyrsa: one CA that issues signers itself, for easy-rsa, too.",
    ),
]


def init(
    directory: NEW_PKI,
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    permit: PERMIT = None,
    alg: ALG_OF_PKI = None,
    held: HeldOptions,
    root_only: _ROOT_ONLY = False,
    layout: _LAYOUT = "fwsign",
    addresses: AddressOptions,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make a PKI alone: root, issuing CAs for signers and for TLS, signer "release", CRLs.

    fwsign init makes one together with fwsign.toml. --pass protects all keys, unless --root-pass
    gives the root a passphrase of its own. With --root-only, the issuing CAs ask from their
    own machine: fwsign pki csr. Keys that exist already, in an HSM or a KMS, are given with
    --root-key and --key.

    With --layout easyrsa, easy-rsa works on DIR as well (EASYRSA_PKI=DIR): its one CA is the root,
    and the key of it is needed to issue. Each sees what the other has issued and revoked.
    """
    from fwsign.pki.entry_names import FIRST_NAMES, ROOT
    from fwsign.pki.files import refuse_used

    flat = layout == "easyrsa"
    _check(addresses, root_only=root_only, flat=flat)
    more = read_extras(addresses)
    refuse_used(directory)
    domains = (vendor, *(permit or ()))
    names: tuple[str, ...] = FIRST_NAMES
    if root_only or flat:
        names = (ROOT,) if root_only else (ROOT, FIRST_NAMES[-1])
    if root_only:
        pass_, root_pass = root_pass or pass_, None
    keys = keys_of_pki(names, held, alg, pass_, root_pass, none=no_passphrase)
    create_pki(directory, org, domains, keys, root_only=root_only, flat=flat, more=more)
    ui.out(str(directory))
    say_what_now(directory, org, keys, issues=flat)
    if not root_only:
        ui.next_command("sign", "FILE", "--pki", directory, "--product", "NAME")
        return
    asked = " ".join(f"--permit {domain}" for domain in domains[1:])
    ui.note(
        f"next, where certificates are issued: fwsign pki csr pki --org {quoting.quoted(org)} "
        f"--vendor {vendor} {asked}".rstrip()
    )


def _check(addresses: AddressOptions, *, root_only: bool, flat: bool) -> None:
    """Refuse options that have no meaning together."""
    if flat and root_only:
        ui.usage("--root-only and --layout easyrsa exclude each other")
    for option, urls in zip(("--crl-url", "--ca-issuers-url"), addresses, strict=True):
        if urls and root_only:
            ui.usage(f"{option} and --root-only exclude each other", "a root has no issuer")
        if bare := [url for url in urls or () if "{ca}" not in url and not flat]:
            words = "there are several CAs, each with its own CRL"
            ui.usage(f"{option} {bare[0]} has no {{ca}} in it", words)
