# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki csr`, `sign-ca` and `accept`: the root on another machine than the issuing CAs."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fwsign.cli import inputs, quoting, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.held_keys import (
    ALG_OF_PKI,
    KEYS,
    HeldOptions,
    algorithm_of_new,
    new_key_source,
    opened,
)
from fwsign.cli.options import CA_PASS, NO_PASSPHRASE, ORG, PASS, PKI, VENDOR_OF_PKI, named
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.pki.options import COMPAT, LIFETIME, NEW_PKI, PERMIT, span, warn_of_rsa2048


def register(command: typer.Typer) -> None:
    """Add the commands to an application."""
    command.command(
        "csr",
        cls=Command,
        epilog=examples(
            "fwsign pki csr pki --org Acme --vendor acme.example",
            "fwsign pki csr pki --org Acme --vendor acme.example --no-passphrase \\",
            "    --key 'issuing=pkcs11:token=acme;object=issuing' --pass env:PIN",
        ),
    )(csr)
    command.command(
        "sign-ca",
        cls=Command,
        epilog=examples(
            "fwsign pki sign-ca issuing.csr --pki root --permit acme.example",
            "fwsign pki sign-ca issuing.csr --pki root --permit acme.example --for 5y",
            "fwsign pki sign-ca issuing-tls.csr --pki root --tls",
        ),
    )(sign_ca)
    command.command(
        "accept",
        cls=Command,
        epilog=examples(
            "fwsign pki accept pki ca.crt issuing.crt issuing-tls.crt ca.pem",
            "fwsign pki accept pki ca.pem",
        ),
    )(accept)


def csr(
    directory: NEW_PKI,
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    permit: PERMIT = None,
    alg: ALG_OF_PKI = None,
    key: KEYS = None,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
) -> None:
    """Ask an offline root for issuing CAs: keys and requests.

    One CA is for signers, the other for TLS servers and clients. The keys never leave this machine,
    or the token or service that --key names.
    Take the requests to the root (fwsign pki sign-ca) and what it answers back (fwsign pki accept).
    To renew a CA, take the same request again.
    """
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.entry_names import ISSUING, ISSUING_TLS
    from fwsign.pki.files import refuse_used
    from fwsign.pki.offline import create_requests

    refuse_used(directory)
    asked_for, names = Passphrases(), (ISSUING, ISSUING_TLS)
    keys = opened(HeldOptions(None, key).uris(names), asked_for, pass_)
    alg = algorithm_of_new(alg, keys, names)
    passphrase = None
    if made := len(keys) < len(names):
        source = new_key_source(pass_, none=no_passphrase, held=bool(keys))
        what = "the issuing CAs' keys"
        passphrase = asked_for.new(source, none=no_passphrase, what=what)()
    paths = create_requests(
        directory,
        org=org,
        vendor=vendor,
        permit=permit or (),
        new_key=NewKey(alg, passphrase),
        keys=keys,
    )
    for path in paths:
        ui.out(str(path))
    if passphrase is None and made:
        ui.note(f"warning: keys in {directory / 'private'} have no passphrase")
    asked = " ".join(f"--permit {domain}" for domain in (vendor, *(permit or ())))
    for path, options in zip(paths, (asked, "--tls"), strict=True):
        ui.note(f"next, where the root is: fwsign pki sign-ca {path.name} --pki DIR {options}")


_REQUEST: TypeAlias = Annotated[
    Path,
    typer.Argument(readable=False, metavar="CSR", help="The request, in PEM or DER."),
]
_PERMIT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("host_name"),
        help="What the CA may issue for, its vendor first; repeat for several. It is you who "
        "says so, not the request.",
    ),
]
_TLS: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--tls",
        help="The CA may issue for TLS servers and clients, of any name, and for nothing else.",
    ),
]
_ROOT_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--root-pass",
        metavar="SRC",
        help="Passphrase of the root's key: env:NAME, file:PATH or fd:N; asked for if there "
        "is a terminal.",
    ),
]


def sign_ca(
    request: _REQUEST,
    *,
    permit: _PERMIT = None,
    tls: _TLS = False,
    pki: PKI = None,
    lifetime: LIFETIME = None,
    compat: COMPAT = False,
    root_pass: _ROOT_PASS = None,
) -> None:
    """Certify an issuing CA that asked for it, where the root is.

    Only the key and the organisation are taken from the request. A key that was certified before
    is renewed.
    """
    from fwsign.files import read_bytes
    from fwsign.pki.directory import Pki
    from fwsign.pki.offline import sign_request
    from fwsign.pki.profiles import TLS_ONLY
    from fwsign.pki.request import REQUEST_LIMIT, parse_request

    now = inputs.now()
    validity = span(lifetime, now)
    directory = find_pki(pki)
    parsed = parse_request(read_bytes(request, REQUEST_LIMIT), str(request), compat=compat)
    if permit and tls:
        ui.usage("--permit and --tls exclude each other", "a CA of signers has --permit")
    if not permit and not tls:
        asked = " ".join(f"--permit {domain}" for domain in parsed.permitted)
        asked = asked or ("--tls" if parsed.usages == TLS_ONLY.usages else "")
        hint = f"the request asks for {asked}" if asked else "name it with --permit DOMAIN"
        ui.usage("no domain is given that the CA may issue for", hint)
    path = sign_request(
        directory,
        parsed,
        permitted=permit or (),
        tls=tls,
        lifetime=validity,
        root_passphrase=inputs.passphrase_source(root_pass, "the root's key", "--root-pass"),
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    parts = (directory / "ca.crt", path, Pki(directory).crl_path("ca"))
    files = " ".join(map(quoting.quoted, parts))
    ui.note(f"next: take {files} to the issuing CA, and there: fwsign pki accept DIR FILE...")


def accept(
    directory: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="DIR", help="The issuing CAs' directory, from fwsign pki csr."
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            readable=False,
            metavar="FILE...",
            help="What the root gave: ca.crt, issuing.crt, issuing-tls.crt, ca.pem; in any order.",
        ),
    ],
    *,
    ca_pass: CA_PASS = None,
) -> None:
    """Take what the root has signed into the issuing CAs' directory.

    It is checked that all belongs together: the root signed the certificate and the CRL, the
    certificate is for the key here, nothing is older than what is here. Later, a new CRL of the
    root or a renewed certificate comes the same way, alone.
    """
    from fwsign.pki.acceptance import accept as accept_it

    blobs = []
    for file in files:
        data = inputs.read_pem(file)
        blocks = inputs.pem_blocks(file, data)
        known = [content for label, content in blocks if label in {"CERTIFICATE", "X509 CRL"}]
        if not known and data[:1] != b"\x30":
            inputs.select(file, data, "CERTIFICATE", "certificate or CRL")
        blobs += known or [data]
    first = not (directory / "ca.crt").exists()
    source = inputs.passphrase_source(ca_pass, "the issuing CAs' keys", "--ca-pass")
    for path in accept_it(directory, blobs, passphrase=source, now=inputs.now()):
        ui.out(str(path))
    if first:
        ui.next_command("pki", "issue", "signer", "release", "--pki", directory)
