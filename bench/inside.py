# SPDX-License-Identifier: Apache-2.0
"""What verifying costs inside a process that runs already; `bench/run` runs this.

usage: inside.py [--versions]        prints tables as JSON, or versions as lines
"""

import importlib.metadata
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.format import cbor
from fwsign.format.cose import decode_block, sig_structure
from fwsign.format.envelope import decode_envelope
from fwsign.keys import ALGORITHMS
from fwsign.pki import NewKey, Pki, create, issue
from fwsign.signing import (
    Identity,
    ReleaseFile,
    Text,
    describe,
    file_identifier,
    sign,
    signer_from_uri,
)
from fwsign.verify import Anchor, DevicePolicy, Slot, Verifier
from fwsign.x509.certificate import parse_certificate

VENDOR, PRODUCT = "acme.example", "bench"
POLICY = DevicePolicy(vendor=VENDOR, product=PRODUCT, min_sequence=0, revocation="require")
BUDGET = 1.5  # seconds for each figure


def main() -> None:
    """Print what was asked for."""
    if "--versions" in sys.argv[1:]:
        packages = ("fwsign", "cryptography", "imgtool")
        print(f"Python {platform.python_version()}")
        print(f"{backend.openssl_version_text().rsplit(' ', 3)[0]} (in Python's cryptography)")
        print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
        return
    verifying = [["algorithm", "verify, median", "fastest", "envelope"]]
    envelopes = []
    for alg in ALGORITHMS:
        envelope, verify = signed(alg)
        median, fastest = measure(verify)
        size = f"{len(envelope):,} bytes"
        verifying.append([alg, f"{median * 1e3:.2f} ms", f"{fastest * 1e3:.2f} ms", size])
        envelopes.append(envelope)
    dense = cbor.encode(tuple(tuple(range(4080)) for _ in range(4)))
    decoding = [["input", "size", "median", "rate"]]
    for name, data in (
        (f"envelope, {ALGORITHMS[0]}", envelopes[0]),
        ("16,320 integers in 4 arrays, near the limit", dense),
    ):
        median, _ = measure(lambda data=data: cbor.decode(data))  # type: ignore[misc]
        rate = f"{len(data) / median / 1e6:.1f} MB/s"
        decoding.append([name, f"{len(data):,} bytes", f"{median * 1e6:,.0f} us", rate])
    deciding = [["policy", "decided, median", "its signature checks alone", "ratio", "goal"]]
    for policy, names, threshold, goal in (
        ("1 signer, P-256", ("release",), 1, "at most 2"),
        ("2 of 3 slots, P-256, 3 blocks", ("release", "second", "third"), 2, "at most 3"),
    ):
        verify, checks, count = decision(names, threshold)
        (median, _), (bare, _) = measure(verify), measure(checks)
        times = (f"{median * 1e3:.2f} ms", f"{bare * 1e3:.2f} ms for {count}")
        deciding.append([policy, *times, f"{median / bare:.2f}", goal])
    tables = {
        "Steps 1 to 9 in one process: a path of two certificates, and two CRLs": verifying,
        "A decision and its bare signature checks, without the payload": deciding,
        "Strict CBOR, decoding": decoding,
    }
    print(json.dumps(tables))


def signed(alg: str) -> tuple[bytes, Callable[[], object]]:
    """Sign a small release with a new PKI; return the envelope and what verifies it."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        pki = new_pki(Path(scratch), alg, now)
        envelope = sign_small(pki, ["release"], now)
        verifier = Verifier(anchors_of(pki), POLICY)
    return envelope, lambda: verifier.verify(envelope, at=now)


def decision(
    names: Sequence[str], threshold: int
) -> tuple[Callable[[], object], Callable[[], None], int]:
    """Return what decides about a release of several signers, its bare checks, and their count.

    The checks are of each block the signature, two certificates and two CRLs.
    """
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        pki = new_pki(Path(scratch), "p256", now)
        for name in names[1:]:
            new = NewKey("p256", None)
            issue(pki.directory, "signer", name, key=new, ca_passphrase=lambda: None, now=now)
        envelope = sign_small(pki, names, now)
        anchors = anchors_of(pki)
    blocks = [decode_block(block) for block in decode_envelope(envelope).blocks]
    paths = [[parse_certificate(one) for one in block.chain] for block in blocks]
    slots = tuple(Slot(name, path[0].spki) for name, path in zip(names, paths, strict=True))
    pinned = POLICY._replace(slots=slots, threshold=threshold)
    verifier = Verifier(anchors, pinned if len(names) > 1 else POLICY)
    digest = decode_envelope(envelope).digest
    by = ec.ECDSA(hashes.SHA256())
    checks: list[Callable[[], object]] = []
    for block, path in zip(blocks, paths, strict=True):
        keys = [*(one.key for one in path), anchors[0].key]
        message = sig_structure(block.protected, digest)
        half = len(block.signature) // 2
        r, s = (int.from_bytes(one) for one in (block.signature[:half], block.signature[half:]))
        checks.append(partial(keys[0].verify, encode_dss_signature(r, s), message, by))
        for number, one in enumerate(path):
            tbs, signature = one.parsed.tbs_certificate_bytes, one.parsed.signature
            checks.append(partial(keys[number + 1].verify, signature, tbs, by))
        for data in block.crls:
            crl = x509.load_der_x509_crl(data)
            key = next(key for key in keys[1:] if crl.is_signature_valid(key))
            checks.append(partial(key.verify, crl.signature, crl.tbs_certlist_bytes, by))
    assert len(checks) == 5 * len(names)  # noqa: S101 - as said above

    def bare() -> None:
        for check in checks:
            check()

    return lambda: verifier.verify(envelope, at=now), bare, len(checks)


def new_pki(scratch: Path, alg: str, now: datetime) -> Pki:
    """Make a PKI."""
    return create(
        scratch / "pki",
        org="Acme",
        vendor=VENDOR,
        alg=alg,
        root_passphrase=None,
        passphrase=None,
        now=now,
    )


def anchors_of(pki: Pki) -> list[Anchor]:
    """Return what a device pins."""
    return [Anchor.from_certificate(pki.root.public_bytes(Encoding.DER))]


def sign_small(pki: Pki, names: Sequence[str], now: datetime) -> bytes:
    """Sign a small release by several signers."""
    payload = pki.directory.parent / "payload.bin"
    payload.write_bytes(bytes(1024))
    identities = [
        Identity(
            signer_from_uri(str(pki.key_path(name)), lambda: None), pki.path(name), pki.crls(name)
        )
        for name in names
    ]
    release = describe(
        [ReleaseFile(payload, file_identifier(payload.name))],
        Text(VENDOR, PRODUCT, "1.0.0", None),
        sequence_number=1,
    )
    envelope, _ = sign(release, identities, anchors_of(pki), at=now)
    return envelope


def measure(function: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the least of the seconds that a call takes."""
    function()
    samples: list[float] = []
    end = time.perf_counter() + BUDGET
    while len(samples) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples), min(samples)


if __name__ == "__main__":
    main()
