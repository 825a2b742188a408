# SPDX-License-Identifier: Apache-2.0
"""Options of several commands of `fwsign pki`."""

from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.options import (
    CA_PASSES,
    KDF,
    NO_PASSPHRASE,
    PASS,
    algorithm,
    named,
    tls_algorithm,
)
from fwsign.keys import ALGORITHMS, DEFAULT_ALGORITHM, TLS_ALONE

NEW_PKI: TypeAlias = Annotated[
    Path,
    typer.Argument(readable=False, metavar="DIR", help="The new PKI; must not exist, or be empty."),
]
PERMIT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("host_name"),
        help="One more domain that the issuing CA of signers may issue for; repeat for several. "
        "The CA of TLS servers and clients has no such limit.",
    ),
]
LIFETIME: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TIME",
        help="How long it is valid: 90d, 1y, or RFC 3339 with a zone. Default: as is usual for "
        "its kind, but never longer than its issuer.",
    ),
]
_DEFAULT = f"{DEFAULT_ALGORITHM}, below ML-DSA the issuer's; of a renewed one, as before."
KIND_OF_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--alg",
        metavar="ALG",
        callback=algorithm,
        help=f"Kind of the key: {', '.join(ALGORITHMS)}. Default: {_DEFAULT}",
    ),
]
KIND_OF_TLS_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--alg",
        metavar="ALG",
        callback=tls_algorithm,
        help=f"Kind of the key: {', '.join(ALGORITHMS)}; for TLS servers and clients also "
        f"{', '.join(TLS_ALONE)}, where a peer takes no other. Default: {_DEFAULT}",
    ),
]
KIND_OF_CA_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--alg",
        metavar="ALG",
        callback=algorithm,
        help=f"Kind of the key: {', '.join(ALGORITHMS)}. Default: {DEFAULT_ALGORITHM}, or ML-DSA "
        "where the PKI has it.",
    ),
]
FROM_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--key",
        "--from-key",
        metavar="URI",
        help="Certify this key, which exists already: a path, or pkcs11:, openbao:, vault:, "
        "awskms: and others. --pass opens it; it stays where it is, which the PKI remembers.",
    ),
]
COMPAT: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--compat",
        help="Certify an RSA key of 2048 bits, too, for TLS, or of a CA that is renewed: Java, "
        "NSS and easy-rsa make such keys.",
    ),
]


class PassphraseOptions(NamedTuple):
    """Options: the passphrases of a new key and of the issuing CA's."""

    pass_: PASS = None
    no_passphrase: NO_PASSPHRASE = False
    kdf: KDF = None
    ca_pass: CA_PASSES = None


def warn_of_rsa2048(certificate: Path) -> None:
    """Print a warning if a new certificate's key is good enough for TLS alone."""
    from cryptography import x509

    from fwsign.format.cose import key_name
    from fwsign.pki.leaves import below_strength

    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = parsed.public_key()
    if below_strength(key):  # type: ignore[arg-type]
        basic = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
        use = "a new CA: --new-key" if basic.ca else "for TLS with old peers only"
        ui.note(f"warning: {key_name(key)} is weaker than all other keys here: {use}")


def address(text: str) -> IPv4Address | IPv6Address:
    """Parse the value of --ip."""
    try:
        return ip_address(text)
    except ValueError:
        ui.usage(f'"{text}" is not an address', "write 192.0.2.7 or 2001:db8::7")


def span(lifetime: str | None, now: datetime) -> timedelta | None:
    """Return the span of --for, None if it is not given."""
    return inputs.parse_time(lifetime, now) - now if lifetime else None
