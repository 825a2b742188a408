# SPDX-License-Identifier: Apache-2.0
"""The signatures and public keys of minisign: four and two lines of text.

A signature has an untrusted comment, 74 bytes in base64, a trusted comment, and 64 bytes in base64.
The first bytes are "ED" (the signature is of the file's BLAKE2b-512) or "Ed" (of the file itself),
the identifier of the key, and the signature. The last ones sign that signature and the trusted
comment. A public key has an untrusted comment, and 42 bytes: "Ed", identifier and key.

Source: the page of minisign, https://jedisct1.github.io/minisign/, section "Signature format".
"""

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from fwsign.errors import Malformed, check_limit
from fwsign.format.suit_labels import MINISIG_HEAD

MAX_SIZE: Final = 16 * 1024
"""Bytes of a signature; minisign's own limit for a comment is half of it."""
KEY_ID_SIZE: Final = 8
_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_PREHASHED: Final = b"ED"
_LEGACY: Final = b"Ed"
_SIGNATURE_SIZE: Final = 64
_KEY_SIZE: Final = 32


class Minisig(NamedTuple):
    """A signature.

    Args:
        key_id: the identifier of its key, eight bytes.
        signature: of the file, or of its BLAKE2b-512.
        comment: the trusted comment.
        comment_signature: of `signature` and `comment`.
        prehashed: whether `signature` is of the BLAKE2b-512.
    """

    key_id: bytes
    signature: bytes
    comment: str
    comment_signature: bytes
    prehashed: bool = True

    @property
    def name(self) -> str | None:
        """The file's name in the trusted comment, as minisign itself writes it."""
        fields = self.comment.split("\t")
        return next((one[5:] for one in fields if one.startswith("file:") and one[5:]), None)


class MinisignKey(NamedTuple):
    """A public key: its identifier, eight bytes, and the Ed25519 key, 32 bytes."""

    key_id: bytes
    raw: bytes


def key_of(raw: bytes) -> MinisignKey:
    """Return the key as minisign has it; the identifier is the begin of its BLAKE2b.

    Args:
        raw: a public key of Ed25519, 32 bytes.
    """
    return MinisignKey(hashlib.blake2b(raw, digest_size=KEY_ID_SIZE).digest(), raw)


def comment_message(signature: bytes, comment: str) -> bytes:
    """Return the message that the second signature of a minisig is of."""
    return signature + comment.encode()


def encode(found: Minisig, untrusted: str) -> bytes:
    """Return a prehashed signature as minisign writes it."""
    first = base64.b64encode(_PREHASHED + found.key_id + found.signature).decode()
    last = base64.b64encode(found.comment_signature).decode()
    return f"{_UNTRUSTED}{untrusted}\n{first}\n{_TRUSTED}{found.comment}\n{last}\n".encode()


def encode_key(key: MinisignKey) -> bytes:
    """Return a public key as minisign writes it."""
    words = f"minisign public key {key.key_id[::-1].hex().upper()}"
    return f"{_UNTRUSTED}{words}\n{key_line(key)}\n".encode()


def key_line(key: MinisignKey) -> str:
    """Return a public key in one line, as in `minisign -P`."""
    return base64.b64encode(_LEGACY + key.key_id + key.raw).decode()


def decode(data: bytes) -> Minisig:
    """Read a signature.

    Raises:
        Malformed: `malformed.envelope`, `malformed.size`.
    """
    check_limit(len(data), MAX_SIZE, f"minisign signature of {len(data)} bytes")
    lines = _lines(data, 4, "signature")
    if not lines[2].startswith(_TRUSTED):
        raise _bad("the third line of the signature", f'"{_TRUSTED}..."', "another")
    head, key_id, signature = _split(_bytes(lines[1], 74, "the signature"), 2, KEY_ID_SIZE)
    if head not in {_PREHASHED, _LEGACY}:
        raise _bad("the signature's algorithm", "ED or Ed", head.hex())
    last = _bytes(lines[3], _SIGNATURE_SIZE, "the signature of the comment")
    comment = lines[2][len(_TRUSTED) :]
    return Minisig(key_id, signature, comment, last, head == _PREHASHED)


def decode_key(data: bytes) -> MinisignKey:
    """Read a public key: a file's two lines, or the second of them alone.

    Raises:
        Malformed: `malformed.envelope`, `malformed.size`.
    """
    check_limit(len(data), MAX_SIZE, f"minisign key of {len(data)} bytes")
    lines = _lines(data, 2 if data.startswith(MINISIG_HEAD) else 1, "public key")
    head, key_id, raw = _split(_bytes(lines[-1], 42, "the public key"), 2, KEY_ID_SIZE)
    if head != _LEGACY:
        raise _bad("the key's algorithm", "Ed", head.hex())
    return MinisignKey(key_id, raw)


def _lines(data: bytes, count: int, what: str) -> list[str]:
    """Return the lines of a text; a return before a line's end is ignored, as minisign does."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _bad(f"a minisign {what}", "UTF-8", "other bytes") from None
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != count:
        raise _bad(f"a minisign {what}", f"{count} lines", f"{len(lines)}")
    lines = [line.removesuffix("\r") for line in lines]
    if count > 1 and not lines[0].startswith(_UNTRUSTED):
        raise _bad(f"the first line of a minisign {what}", f'"{_UNTRUSTED}..."', "another")
    return lines


def _bytes(line: str, size: int, what: str) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(what, "base64", "other text") from None
    if len(found) != size or base64.b64encode(found).decode() != line:
        raise _bad(what, f"{size} bytes", f"{len(found)}")
    return found


def _split(data: bytes, *sizes: int) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


def _bad(what: str, expected: str, found: str) -> Malformed:
    return Malformed(
        "malformed.envelope",
        f"minisign: {what}: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )
