# SPDX-License-Identifier: Apache-2.0
"""SMP packets and the lines of text that carry them over a serial console; pure functions.

    line    06 09 (the first of a frame) or 04 14 (each further one), base64, LF: at most 127 bytes
    frame   length (u16) of what follows, packet, CRC-16/XMODEM of the packet
    packet  operation (u8), flags (u8), length of the body (u16), group (u16), sequence (u8),
            command (u8), body: one CBOR map

Numbers are big-endian. Source: Zephyr's "SMP over console" and "SMP protocol specification".
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

READ, WRITE = 0, 2
"""Operations; an answer has the next higher number."""

LINE_LIMIT: Final = 127
"""Bytes of a line with its markers and LF; MCUboot's buffer has room for one more."""

_FIRST: Final = b"\x06\x09"
_FURTHER: Final = b"\x04\x14"
_LENGTH: Final = struct.Struct(">H")
_HEADER: Final = struct.Struct(">BBHHBB")
_OPERATION: Final = 0x07  # the rest of the byte is the protocol's version, and reserved
HEADER_SIZE: Final = _HEADER.size
OVERHEAD: Final = _LENGTH.size + _HEADER.size + 2  # bytes of a frame without the packet's body


class Packet(NamedTuple):
    """A request or an answer."""

    operation: int
    group: int
    command: int
    sequence: int
    body: bytes


class Garbled(Exception):
    """A frame arrived damaged. Never leaves the backend: the request is sent again."""


def pack(packet: Packet) -> bytes:
    """Return a packet's header and body."""
    operation, group, command, sequence, body = packet
    return _HEADER.pack(operation, 0, len(body), group, sequence, command) + body


def unpack(raw: bytes) -> Packet:
    """Read a packet's header and body.

    Raises:
        Garbled: its length is another.
    """
    operation, _, size, group, sequence, command = _HEADER.unpack_from(raw)
    if size != len(raw) - _HEADER.size:
        raise Garbled
    return Packet(operation & _OPERATION, group, command, sequence, raw[_HEADER.size :])


def lines(packet: Packet) -> Iterator[bytes]:
    """Yield the lines that carry a packet."""
    raw = pack(packet)
    framed = _LENGTH.pack(len(raw) + 2) + raw + _LENGTH.pack(binascii.crc_hqx(raw, 0))
    text = base64.b64encode(framed)
    room = LINE_LIMIT - len(_FIRST) - 1
    for at in range(0, len(text), room):
        yield (_FURTHER if at else _FIRST) + text[at : at + room] + b"\n"


class Assembler:
    """Assembles packets from the arriving lines, among which may be other text."""

    def __init__(self) -> None:
        self._frame: bytes | None = None  # the beginning of an unfinished frame

    def add(self, line: bytes) -> Packet | None:
        """Take one line, and return the packet that it completes.

        Raises:
            Garbled: the line belongs to a frame, which is damaged.
        """
        # Log messages and noise may precede a frame's line; base64 lacks the marker's bytes.
        at = max(line.rfind(_FIRST), line.rfind(_FURTHER))
        if at < 0:
            return None
        if line[at:].startswith(_FIRST):
            self._frame = b""
        frame, self._frame = self._frame, None
        if frame is None:
            raise Garbled
        try:
            frame += base64.b64decode(line[at + len(_FIRST) :].rstrip(b"\r\n"), validate=True)
        except binascii.Error:
            raise Garbled from None
        if len(frame) < _LENGTH.size or len(frame) - _LENGTH.size < _LENGTH.unpack_from(frame)[0]:
            self._frame = frame
            return None
        return _packet(frame)


def _packet(frame: bytes) -> Packet:
    raw, crc = frame[_LENGTH.size : -2], frame[-2:]
    if len(frame) - _LENGTH.size != _LENGTH.unpack_from(frame)[0] or len(raw) < _HEADER.size:
        raise Garbled
    if crc != _LENGTH.pack(binascii.crc_hqx(raw, 0)):
        raise Garbled
    return unpack(raw)
