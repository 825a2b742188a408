# SPDX-License-Identifier: Apache-2.0
"""Turn BER into the shape of DER: definite lengths, and strings in one piece.

Old programs write PKCS#7 in BER. This is for showing alone: the verify path reads no BER.
"""

from typing import Final

from fwsign.keys.asn1 import OCTETS, tlv

MAX_DEPTH: Final = 32
"""Elements in one another; PKCS#7 with certificates has about 15."""
_CONSTRUCTED: Final = 0x20
_INDEFINITE: Final = 0x80
_END: Final = b"\0\0"


def definite(data: bytes) -> bytes:
    """Return one element in definite lengths (X.690 section 8.1.3).

    Raises:
        ValueError: it is not exactly one element, or too deep.
    """
    converted, end = _element(data, 0, 0)
    if end != len(data):
        raise ValueError("bytes after the end")
    return converted


def _element(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    """Return the element at `at`, converted, and the place of its end."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} elements in one another")
    if at + 2 > len(data):
        raise ValueError("cut off")
    tag, size, start = data[at], data[at + 1], at + 2
    if size > _INDEFINITE:
        width = size & 0x7F
        if width > 4 or start + width > len(data):
            raise ValueError("an impossible length")
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
    elif size == _INDEFINITE:
        return _parts(data, tag, start, None, depth)
    if start + size > len(data):
        raise ValueError("cut off")
    if tag & _CONSTRUCTED:
        return _parts(data, tag, start, start + size, depth)
    return tlv(tag, data[start : start + size]), start + size


def _parts(data: bytes, tag: int, at: int, end: int | None, depth: int) -> tuple[bytes, int]:
    """Convert the parts of a constructed element; without `end`, up to its end mark."""
    parts = []
    while at != end and not (end is None and data[at : at + 2] == _END):
        part, at = _element(data, at, depth + 1)
        parts.append(part)
        if end is not None and at > end:
            raise ValueError("an element that goes beyond the end")
    after = at if end is not None else at + len(_END)
    if tag == OCTETS | _CONSTRUCTED:  # a string in pieces
        return tlv(OCTETS, b"".join(_content(part) for part in parts)), after
    return tlv(tag, b"".join(parts)), after


def _content(element: bytes) -> bytes:
    """Return the content of an element that `tlv` made."""
    size = element[1]
    return element[2 + (size & 0x7F if size & 0x80 else 0) :]


def is_pkcs7(data: bytes) -> bool:
    """Tell whether BER begins as PKCS#7 does: with a content type in a SEQUENCE."""
    size = data[1] if len(data) > 1 else 0
    start = 2 + (size & 0x7F if size > _INDEFINITE else 0)
    return data[:1] == b"\x30" and data[start : start + 1] == b"\6"
