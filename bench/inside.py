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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign import cbor
from fwsign.chain import Anchor
from fwsign.component import file_identifier
from fwsign.keys import ALGORITHMS, signer_from_uri
from fwsign.pki.authority import create
from fwsign.policy import DevicePolicy
from fwsign.release import Part, describe
from fwsign.sign import Identity, sign
from fwsign.suit import Text
from fwsign.verify import Verifier

VENDOR, PRODUCT = "acme.example", "bench"
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
    tables = {
        "Steps 1 to 9 in one process: a path of two certificates, and two CRLs": verifying,
        "Strict CBOR, decoding": decoding,
    }
    print(json.dumps(tables))


def signed(alg: str) -> tuple[bytes, Callable[[], object]]:
    """Sign a small release with a new PKI; return the envelope and what verifies it."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        pki = create(
            Path(scratch) / "pki",
            org="Acme",
            vendor=VENDOR,
            alg=alg,
            root_passphrase=None,
            passphrase=None,
            now=now,
        )
        payload = Path(scratch) / "payload.bin"
        payload.write_bytes(bytes(1024))
        signer = signer_from_uri(str(pki.key_path("release")), lambda: None)
        identity = Identity(signer, pki.path("release"), pki.crls("release"))
        anchors = [Anchor.from_certificate(pki.root.public_bytes(Encoding.DER))]
        release = describe(
            [Part(payload, file_identifier(payload.name))],
            Text(VENDOR, PRODUCT, "1.0.0", None),
            sequence_number=1,
        )
        envelope, _ = sign(release, [identity], anchors, at=now)
    policy = DevicePolicy(vendor=VENDOR, product=PRODUCT, min_sequence=0, revocation="require")
    verifier = Verifier(anchors, policy)
    return envelope, lambda: verifier.verify(envelope, at=now)


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
