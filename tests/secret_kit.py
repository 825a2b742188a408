"""Encrypted payloads, and releases of them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.format.blocks import encode_blocks
from fwsign.format.ciphertext import TAG_SIZE
from fwsign.format.component import BlockList, Component, Digest, keys_uri
from fwsign.format.kinds import file_identifier
from fwsign.format.payload import digest
from fwsign.signing.encrypting import EncryptedPayload, encrypt

BLOCK = 4096
STEP = BLOCK - TAG_SIZE
LARGE = bytes(range(256)) * 64  # five blocks, the last one short
GROUP = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP384R1())


def encrypted(
    payload: bytes = LARGE,
    keys: Sequence[Any] = (GROUP,),
    *,
    whole: int = BLOCK,
    block_size: int = BLOCK,
) -> tuple[EncryptedPayload, bytes]:
    """Encrypt a payload; return the facts and the ciphertext."""
    sink = io.BytesIO()
    public = [key.public_key() for key in keys]
    made = encrypt(io.BytesIO(payload), sink, public, whole=whole, block_size=block_size)
    return made, sink.getvalue()


def described(
    payloads: Mapping[str, EncryptedPayload],
) -> tuple[list[Component], tuple[BlockList, ...], dict[str, bytes]]:
    """Return the components of encrypted payloads by their names, lists, and what is inside."""
    parts, lists, inside = [], [], {}
    for index, (name, one) in enumerate(payloads.items()):
        identifier = file_identifier(name)
        parts.append(Component(identifier, one.image, one.size, f"{name}.enc", one.encrypted))
        inside[keys_uri(index)] = one.wrapped
        if one.blocks is not None:
            data = encode_blocks(one.blocks)
            lists.append(BlockList(index, Digest(-16, digest(-16, data)), len(data)))
            inside[lists[-1].uri] = data
    return parts, tuple(lists), inside


def write_key(path: Path, key: Any = GROUP, mode: int = 0o600) -> Path:
    """Write a private key."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(mode)
    return path
