# SPDX-License-Identifier: Apache-2.0
"""How many receipts a collector takes in a second; `bench/run` may run this.

usage: collect.py [--quick] [--postgresql ADDRESS]        prints the rate of each task as JSON

A batch is judged and stored as the server does it, on one core and without TLS: 100 lines of one
device, each with a certificate of two steps (P-256). With --postgresql, which needs an empty
database, its rates come too.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fwsign.collect.judge import CollectorTrust, judge_batch
from fwsign.collect.service import CollectorService
from fwsign.collect.store import open_store
from fwsign.keys.file import FileSigner
from fwsign.receipts.chain import line_digest, make_line
from fwsign.x509.anchor import Anchor

LINES = 100
NOW = datetime.now(UTC).replace(microsecond=0)


def certified(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    """Return a certificate: a root without an issuer, else a device's."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signer = issuer or (subject, key)
    ca = issuer is None
    usage = x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if not ca:
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(client, critical=True)
    return builder.sign(signer, hashes.SHA256())


def batches(count: int, *, signed: bool) -> tuple[Anchor, list[tuple[str, bytes]]]:
    """Return the root, and a batch of each of so many devices."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = certified("Devices", root_key, None)
    found = []
    for number in range(count):
        name, key = f"gw-{number:05}", ec.generate_private_key(ec.SECP256R1())
        own = certified(name, key, (root.subject, root_key)).public_bytes(Encoding.DER)
        signer, chain = (FileSigner(key), (own,)) if signed else (None, ())
        lines: list[str] = []
        for line in range(LINES):
            release = {
                "vendor": "acme.example",
                "product": "gateway-x1",
                "version": f"1.{line}.0",
                "sequence_number": line,
                "manifest_digest": f"{line:064x}",
            }
            content = {
                "kind": "install",
                "result": "installed",
                "clock": NOW.isoformat(),
                "device": {"id": name, "vendor": "acme.example", "product": "gateway-x1"},
                "release": release,
            }
            previous = line_digest(lines[-1]) if lines else None
            lines.append(make_line(content, previous, signer, chain))
        found.append((name, "".join(f"{one}\n" for one in lines).encode()))
    return Anchor.from_certificate(root.public_bytes(Encoding.DER)), found


def rates(address: str, count: int, *, signed: bool) -> dict[str, float]:
    """Return the receipts of a second that are judged, and that are judged and stored."""
    root, made = batches(count, signed=signed)
    trust = CollectorTrust((root,), unsigned=not signed)
    began = time.perf_counter()
    for name, body in made:
        judged = judge_batch(body.decode().splitlines(), name, trust)
        if judged.refusal is not None:
            raise judged.refusal
    alone = time.perf_counter() - began
    with open_store(address) as store:
        service = CollectorService(store, lambda: NOW)
        began = time.perf_counter()
        for name, body in made:
            reply = service.receive(body, name, trust)
            if reply.status != 200:
                raise SystemExit(str(reply))
        taken = time.perf_counter() - began
    total = count * LINES
    return {"judged": round(total / alone), "taken": round(total / taken)}


def main() -> None:
    """Measure, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--postgresql")
    given = parser.parse_args()
    count = 5 if given.quick else 50
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for signed in (True, False):
            kind = "signed" if signed else "unsigned"
            address = f"sqlite:///{Path(scratch) / kind}.db"
            found[f"sqlite {kind}"] = rates(address, count, signed=signed)
            if given.postgresql:
                own = rates(given.postgresql, count, signed=signed)
                found[f"postgresql {kind}"] = own
                emptied(given.postgresql)
    json.dump(found, sys.stdout, indent=2)
    print()


def emptied(address: str) -> None:
    """Remove what was stored."""
    with open_store(address) as store, store.transaction() as run:
        for table in ("receipts", "running", "taken", "breaks", "devices"):
            run.rows(f"DELETE FROM {table}")  # noqa: S608 - our own names


if __name__ == "__main__":
    main()
