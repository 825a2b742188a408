"""Keys, images and espsecure for tests of native signatures."""

import contextlib
import hashlib
import io
import struct
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fwsign.images.esp_chips import BY_NAME
from fwsign.keys.file_key import FileKey
from images_kit import image
from support import require_package

PAGE = 0x1000
"""The least page of flash that images name: applications of it need little padding."""


@cache
def private(name: str) -> Any:
    """Return the private key of a name such as "rsa3072" or "p256 other": one for each name."""
    kind = name.split(maxsplit=1)[0]
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, Any] = {
        "k256": ec.SECP256K1,
        "p192": ec.SECP192R1,
        "p256": ec.SECP256R1,
        "p384": ec.SECP384R1,
        "p521": ec.SECP521R1,
    }
    return ec.generate_private_key(curves[kind]())


def key_file(folder: Path, name: str) -> Path:
    """Write a private key, and return its file."""
    path = folder / f"{name.replace(' ', '-')}.key"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private(name).private_bytes(*form))
    return path


def held(folder: Path, name: str) -> FileKey:
    """Return a key in a file, opened."""
    return FileKey(key_file(folder, name), lambda: None)


def public_pem(name: str) -> bytes:
    """Return the public half of a key in PEM."""
    public = private(name).public_key()
    found: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def app(chip: str = "esp32c6", secure_version: int = 7, code: int = 3000, **more: Any) -> bytes:
    """Return an application whose descriptor has a number against rollback."""
    texts = struct.pack("32s32s16s16s32s", b"2.1", b"lamp", b"12:00", b"Nov 22 2026", b"v5.5")
    head = struct.pack("<II8x", 0xABCD5432, secure_version) + texts + bytes(36) + bytes([12])
    first, second = BY_NAME[chip].data[0] + 0x20, BY_NAME[chip].code[0] + 0x10000
    about = (first, head.ljust(256, b"\0"))
    return image(chip, about, (second + 0x20 + 256 + 8, bytes(code)), **more)


class _Named(io.BytesIO):
    """A file in memory with a name, as espsecure wants it."""

    name = "in memory"


def espsecure_sign(data: bytes, *names: str, folder: Path, append: bool = False) -> bytes:
    """Let espsecure sign an image with keys."""
    espsecure = _espsecure()
    keys = [_Named(key_file(folder, name).read_bytes()) for name in names]
    output = folder / "signed-by-espsecure.bin"
    with contextlib.redirect_stdout(io.StringIO()):
        espsecure.sign_data(
            "2", keys, str(output), append, False, None, [], [], _Named(data), False
        )
    return output.read_bytes()


def espsecure_verifies(data: bytes, name: str) -> bool:
    """Tell whether espsecure verifies an image with the public key of a name."""
    return espsecure_verifies_with(data, private(name).public_key())


def espsecure_verifies_with(data: bytes, public: Any) -> bool:
    """Tell whether espsecure verifies an image with a public key."""
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    espsecure = _espsecure()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            espsecure.verify_signature("2", False, None, _Named(pem), _Named(data))
        except RuntimeError:
            return False
    return True


def espsecure_digest(name: str, folder: Path) -> bytes:
    """Return the eFuse digest of a key by espsecure."""
    espsecure = _espsecure()
    output = folder / "digest.bin"
    with contextlib.redirect_stdout(io.StringIO()):
        espsecure.digest_sbv2_public_key(_Named(public_pem(name)), str(output))
    return output.read_bytes()


def _espsecure() -> Any:
    require_package("espsecure")
    return import_module("espsecure")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
