# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki export`: what others need of a PKI."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, quoting, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import PKI

if TYPE_CHECKING:
    from cryptography import x509

_OUT = Annotated[Path, typer.Argument(readable=False, metavar="FILE", help="The new file, in PEM.")]

_FORCE = Annotated[
    bool, typer.Option("--force", help="Replace a file that exists; never one with a private key.")
]


_PROGRAMS = ("esp-idf", "gnutls", "java", "mosquitto", "node", "wolfssl")


def _program(value: str | None) -> str | None:
    if value is not None and value not in _PROGRAMS:
        ui.usage(
            f'"{value}" is not a program that is known here', f"choose from {', '.join(_PROGRAMS)}"
        )
    return value


def register(command: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(cls=Group, rich_markup_mode=None)
    group.command("bundle", cls=Command, epilog=examples("fwsign pki export bundle anchors.pem"))(
        bundle
    )
    group.command(
        "chain",
        cls=Command,
        epilog=examples(
            "fwsign pki export chain broker broker.pem",
            "fwsign pki export chain sensor-7 sensor-7.pem --for esp-idf",
        ),
    )(chain)
    group.command(
        "easyrsa",
        cls=Command,
        epilog=examples(
            "fwsign pki export easyrsa ~/easy-rsa/pki",
            "fwsign pki export easyrsa ~/easy-rsa/pki --ca issuing-tls",
        ),
    )(easyrsa)
    command.add_typer(
        group, name="export", help="Write what devices, TLS programs or easy-rsa need."
    )


def bundle(file: _OUT, *, pki: PKI = None, force: _FORCE = False) -> None:
    """Write all roots into one file, for devices to trust.

    A standby root is in it, too. fwsign verify --anchor takes the file as it is.
    """
    from fwsign.pki.directory import Pki

    found = Pki(find_pki(pki))
    _write(file, [found.certificate(name) for name in found.roots()], force=force)
    ui.note(f"next, on devices: fwsign verify ENVELOPE --anchor {file}")


def chain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry of the PKI.")],
    file: _OUT,
    *,
    program: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="PROGRAM",
            callback=_program,
            help=f"Say how to give it to a program, which must be able to read it: "
            f"{', '.join(_PROGRAMS)}.",
        ),
    ] = None,
    pki: PKI = None,
    force: _FORCE = False,
) -> None:
    """Write a certificate and the CAs above it into one file, without the root.

    That is what a TLS server or client sends; its key stays in private/NAME.key. To have both as
    PKCS#12: fwsign key convert private/NAME.key NAME.p12 --to p12 --cert FILE.
    """
    from cryptography import x509

    from fwsign.pki.directory import Pki
    from fwsign.pki.tls_programs import advice, refuse_unreadable

    found, now = Pki(find_pki(pki)), inputs.now()
    certificates = [x509.load_der_x509_certificate(one) for one in found.path(name, at=now)]
    if program == "esp-idf":
        refuse_unreadable((*certificates, found.anchor(name, at=now)))
    _write(file, certificates, force=force)
    for line in advice(found, name, file, program, quoting.words) if program else ():
        ui.note(line)


def easyrsa(
    directory: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="DIR", help="The new directory; must not exist, or be empty."
        ),
    ],
    *,
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The issuing CA; issuing-tls is for servers and clients. Default: the one that "
            "issues signers now.",
        ),
    ] = None,
    pki: PKI = None,
) -> None:
    """Write an issuing CA as a PKI of easy-rsa.

    All that it has issued and revoked comes along, keys encrypted as they are. easy-rsa goes on
    with it: EASYRSA_PKI=DIR easyrsa. Its roots and their CRLs are in above.pem.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.easyrsa.export import ABOVE, export, is_held

    found = find_pki(pki)
    done = export(found, directory, ca)
    ui.out(str(directory))
    ui.note(f'"{done.ca}" is ca.crt there; the CAs above it are in {directory / ABOVE}')
    for name in done.left_out:
        ui.note(f'"{name}" was left out: "{done.ca}" did not issue it')
    pki_here = Pki(found)
    for name in filter(lambda name: is_held(pki_here, name), done.names):
        ui.note(f'"{name}" came without its key, which stays at {pki_here.key_uri(name)}')
    ui.note("go on with one of the two: neither learns what the other issues and revokes")
    ui.note(f"next: EASYRSA_PKI={quoting.quoted(directory)} easyrsa show-ca")


def _write(file: Path, certificates: "list[x509.Certificate]", *, force: bool) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from fwsign.cli.inputs import PEM_LIMIT
    from fwsign.files import read_bytes, write_atomic

    pem = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    if force and file.exists() and b"PRIVATE KEY" in read_bytes(file, PEM_LIMIT):
        ui.usage(f"{file} has a private key, which --force does not replace")
    write_atomic(file, pem, overwrite=force)
    ui.out(str(file))
