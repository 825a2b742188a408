# SPDX-License-Identifier: Apache-2.0
"""A small DER reader and writer for key containers and their encryption.

The verify path has its own and stricter reader, `fwsign.x509.der`.
"""

from typing import Final, NamedTuple

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTETS: Final = 0x04
OID: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
TAG_0: Final = 0xA0  # [0], constructed
TAG_1: Final = 0xA1


class Element(NamedTuple):
    """One element."""

    tag: int
    content: bytes
    whole: bytes

    def parts(self) -> "list[Element]":
        """Return the elements in this one; raise ValueError if there are none."""
        return elements(self.content)

    def number(self) -> int:
        """Return the value of a non-negative INTEGER; raise ValueError for any other element."""
        if self.tag != INTEGER or not self.content or self.content[0] >= 0x80:
            raise ValueError("not a natural number")
        return int.from_bytes(self.content, "big")

    def oid(self) -> str:
        """Return an OBJECT IDENTIFIER in dotted form; raise ValueError for any other element."""
        if self.tag != OID or not self.content or len(self.content) > 64 or self.content[-1] >> 7:
            raise ValueError("not an object identifier")
        arcs, value = [], 0
        for octet in self.content:
            value = value << 7 | octet & 0x7F
            if octet < 0x80:
                arcs.append(value)
                value = 0
        top = min(arcs[0] // 40, 2)  # X.690 s.8.19.4: the first two arcs share an octet
        return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))


def elements(data: bytes) -> list[Element]:
    """Split a sequence of elements, which must fill the bytes.

    Raises:
        ValueError: they do not; also for the indefinite lengths of BER.
    """
    found, at = [], 0
    while at < len(data):
        start = at
        if at + 2 > len(data):
            raise ValueError("cut off")
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= 0x80:
            width = size & 0x7F
            if not 1 <= width <= 4:
                raise ValueError("an impossible length")
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise ValueError("cut off")
        found.append(Element(tag, data[at : at + size], data[start : at + size]))
        at += size
    return found


def sequence_parts(data: bytes) -> list[Element]:
    """Return the elements of a SEQUENCE; raise ValueError if `data` is not exactly one."""
    outer = elements(data)
    if len(outer) != 1 or outer[0].tag != SEQUENCE:
        raise ValueError("not one SEQUENCE")
    return outer[0].parts()


def tlv(tag: int, content: bytes) -> bytes:
    """Encode one element."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    # X.690 s.8.3: one bit more than the value, for the sign.
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(content: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tlv(OCTETS, content)


def sequence(*parts: bytes) -> bytes:
    """Encode a SEQUENCE of encoded elements."""
    return tlv(SEQUENCE, b"".join(parts))


def object_identifier(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER in dotted form."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):  # X.690 s.8.19.4
        groups = [arc >> shift & 0x7F for shift in range(0, max(arc.bit_length(), 1), 7)]
        content += bytes((*(group | 0x80 for group in reversed(groups[1:])), groups[0]))
    return tlv(OID, bytes(content))
