# SPDX-License-Identifier: Apache-2.0
"""Make a directory with a CA, 1,000 certificates below it, and their keys of RSA-2048."""

import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

COUNT = 1000
NOW = datetime.now(UTC)


def main() -> None:
    """Make them below the directory that the command line names."""
    place = Path(sys.argv[1])
    for part in ("issued", "private"):
        (place / part).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        first, *keys = pool.map(key, range(COUNT + 1), chunksize=20)
    authority = load(first)
    (place / "ca.crt").write_bytes(certificate("Root", authority, authority))
    (place / "private/ca.key").write_bytes(first)
    for number, one in enumerate(keys):
        name = f"device-{number}"
        (place / f"private/{name}.key").write_bytes(one)
        (place / f"issued/{name}.crt").write_bytes(certificate(name, load(one), authority))


def key(_: int) -> bytes:
    """Make a key, in PEM."""
    made = rsa.generate_private_key(65537, 2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load(pem: bytes) -> rsa.RSAPrivateKey:
    """Load a key that was just made."""
    loaded = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    return cast("rsa.RSAPrivateKey", loaded)


def certificate(name: str, own: rsa.RSAPrivateKey, authority: rsa.RSAPrivateKey) -> bytes:
    """Make a certificate, in PEM."""
    subject, issuer = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, "Root")
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1000))
        .add_extension(x509.BasicConstraints(own is authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)


if __name__ == "__main__":
    main()
