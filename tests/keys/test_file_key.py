"""Keys in files keep to the contract of all backends."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from fwsign.keys.file import new_private_key
from keys.contract import Backend, Going, KeyContract, Situation
from support import rsa_key

SECRET = b"correct horse battery"


def written(alg: str, folder: Path) -> Path:
    """Return the file of an encrypted key; those of one algorithm share one file."""
    path = folder / f"{alg}.key"
    if not path.exists():
        key: Any = rsa_key(3072) if alg == "rsa3072" else None
        key = ec.generate_private_key(ec.SECP256K1()) if alg == "secp256k1" else key
        quick = BestAvailableEncryption(SECRET)
        key = key or new_private_key(alg)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, quick))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for all tests: making keys is slow."""
    return tmp_path_factory.mktemp("keys")


class TestFileKey(KeyContract):
    algorithms = ("p256", "p384", "secp256k1", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        secret = folder / "secret"
        secret.write_bytes(SECRET + b"\n")
        path = str(written("p256", folder))
        (folder / "odd.key").write_text("no key\n", encoding="utf-8")
        return Backend(
            key=lambda alg: str(written(alg, folder)),
            secret=SECRET,
            source=f"file:{secret}",
            situations={
                "wrong secret": Situation(
                    path, "key.passphrase", ("wrong passphrase for", path), b"another one"
                ),
                "no secret": Situation(
                    path, "key.passphrase-missing", ("is encrypted and no passphrase was given",)
                ),
                "missing": Situation(f"{path}.not", "io.missing", (f"{path}.not",)),
                "unsupported": Situation(
                    str(folder / "odd.key"), "key.format", ("is not a private key",)
                ),
            },
            impossible={
                "locked": "a file takes as many passphrases as one likes to try",
                "several": "a path names one file",
            },
        )

    def going(self) -> Going | str:
        return "the key is in memory once its file was read"
