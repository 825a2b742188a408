# SPDX-License-Identifier: Apache-2.0
"""Measure encrypted payloads against openssl: encrypt, and decrypt with every check.

usage: secret.py [--quick]        prints a table in Markdown

The payload has 1 GiB of random bytes, with --quick 64 MiB. fwsign's part is what `sign` and
`install` run: SHA-256 of plaintext, ciphertext and each block, AES-256-GCM, and the write. openssl
has no GCM for files, so it gets AES-256-CTR and two digests, one after the other: less work, and
nothing is known of a block before the end.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.format.ciphertext import BlockCipher
from fwsign.format.component import Component
from fwsign.format.encryption import decode_recipients
from fwsign.format.key_wrap import unwrap
from fwsign.format.kinds import file_identifier
from fwsign.format.payload import receive
from fwsign.keys.agreement import FileAgreement
from fwsign.signing.encrypting import EncryptedPayload, encrypt
from fwsign.signing.release import LISTED_ABOVE, usual_block_size

MIB = 1024 * 1024
GROUP = ec.generate_private_key(ec.SECP256R1())
_OPENSSL = ("openssl", "enc", "-aes-256-ctr", "-K", "00" * 32, "-iv", "00" * 16)
"""A key of zeros is as fast as any other, and no secret."""


def encrypt_file(plain: Path, secret: Path) -> EncryptedPayload:
    """Encrypt a file as `fwsign sign` does."""
    with plain.open("rb") as source, secret.open("wb") as sink:
        key = [GROUP.public_key()]
        block_size = usual_block_size(plain.stat().st_size)
        return encrypt(source, sink, key, whole=LISTED_ABOVE, block_size=block_size)


def decrypt_file(made: EncryptedPayload, secret: Path, target: Path) -> None:
    """Decrypt and verify a file as `fwsign install` does."""
    part = Component(file_identifier("x"), made.image, made.size, "x.enc", made.encrypted)
    recipients = decode_recipients(part, made.encrypted, made.wrapped)
    key = unwrap(part, made.encrypted, recipients, [FileAgreement(GROUP)])
    size = made.encrypted.size
    cipher = BlockCipher(key, made.encrypted.nonce, size, made.blocks.size if made.blocks else size)
    with secret.open("rb", buffering=0) as source, target.open("wb", buffering=0) as sink:
        receive(part, source, sink, made.blocks, cipher)


def openssl(*arguments: object) -> None:
    """Run openssl."""
    subprocess.run([*map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def timed(act: Callable[[], object]) -> float:
    """Return the best of two times, in seconds."""
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begin)
    return best


def main(*, quick: bool) -> None:
    """Print the table."""
    size = (64 if quick else 1024) * MIB
    with tempfile.TemporaryDirectory() as folder:
        plain, secret, other, target = (Path(folder) / name for name in "abcd")
        with plain.open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
        made = encrypt_file(plain, secret)
        openssl(*_OPENSSL, "-in", plain, "-out", other)

        def by_openssl() -> None:
            openssl("openssl", "dgst", "-sha256", other)
            openssl(*_OPENSSL, "-d", "-in", other, "-out", target)
            openssl("openssl", "dgst", "-sha256", target)

        rows = {
            "fwsign: encrypt": timed(lambda: encrypt_file(plain, secret)),
            "openssl enc": timed(lambda: openssl(*_OPENSSL, "-in", plain, "-out", other)),
            "openssl dgst, enc -d, dgst": timed(by_openssl),
        }
        made = encrypt_file(plain, secret)
        rows["fwsign: decrypt and verify"] = timed(lambda: decrypt_file(made, secret, target))
    print(f"| {size // MIB} MiB | seconds | MiB/s |\n|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.2f} | {size / MIB / seconds:.0f} |")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
