# SPDX-License-Identifier: Apache-2.0
"""How SMP packets are carried over a serial port: as on a console, raw, or framed by COBS.

    console   lines of base64 with a CRC-16, between which may be other text; see `smp_frame`
    raw       packets, one after the other; their headers say how long they are
    cobs      COBS(packet, CRC-16/XMODEM), 00

A raw packet has no checksum. The image's hash finds damage to an image; damage to an answer mostly
makes its CBOR invalid. If bytes are lost, the boot loader waits for them and would take those of
the next packet; it forgets the unfinished one after some seconds of silence.
Source: MCUboot's serial recovery (raw, merged in 2026; COBS is proposed there); Zephyr's "SMP over
console".
"""

import binascii
from typing import Final, Protocol

from fwsign.flash.smp.frame import HEADER_SIZE, Assembler, Garbled, Packet, lines, pack, unpack

_LINE_LIMIT: Final = 4096  # bytes without an end of line, such as noise at another speed
_MOST: Final = 4096  # bytes of an answer's body; MCUboot's largest buffer is below
_GROUPS: Final = 64  # the management groups that are the protocol's own
_RUN: Final = 254  # bytes without a zero that one code of COBS spans
_CRC_SIZE: Final = 2


class Encoding(Protocol):
    """One way of carrying packets; it keeps the bytes of an unfinished one."""

    wake: bytes
    """Sent first to a side that may hold a part of a packet, so that it lets go of it."""
    calm: int
    """How many times the usual silence it takes until another packet may be sent."""

    def encode(self, packet: Packet) -> bytes:
        """Return the bytes that carry a packet."""
        ...

    def feed(self, byte: bytes) -> Packet | None:
        """Take one byte, and return the packet that it completes.

        Raises:
            Garbled: a packet arrived damaged.
        """
        ...

    def reset(self) -> None:
        """Forget the unfinished packet."""
        ...


class ConsoleEncoding:
    """Lines of text."""

    wake = b"\n"
    calm = 1

    def __init__(self) -> None:
        self._assembler = Assembler()
        self._line = bytearray()

    def encode(self, packet: Packet) -> bytes:
        """Return all lines."""
        return b"".join(lines(packet))

    def feed(self, byte: bytes) -> Packet | None:
        """Take one byte."""
        if byte != b"\n":
            self._line += byte
            if len(self._line) > _LINE_LIMIT:
                self._line.clear()
            return None
        line = bytes(self._line)
        self._line.clear()
        return self._assembler.add(line)

    def reset(self) -> None:
        """Keep what there is: lines find each other again."""


class RawEncoding:
    """Packets alone."""

    wake = b""
    calm = 6

    def __init__(self) -> None:
        self._packet = bytearray()

    def encode(self, packet: Packet) -> bytes:
        """Return the packet."""
        return pack(packet)

    def feed(self, byte: bytes) -> Packet | None:
        """Take one byte; those that begin no answer are dropped."""
        self._packet += byte
        while self._packet and not _may_begin(self._packet):
            del self._packet[0]
        size = HEADER_SIZE + int.from_bytes(self._packet[2:4], "big")
        if len(self._packet) < max(size, HEADER_SIZE):
            return None
        whole = bytes(self._packet)
        self._packet.clear()
        return unpack(whole)

    def reset(self) -> None:
        """Forget the unfinished packet."""
        self._packet.clear()


class CobsEncoding:
    """Packets with a CRC-16, between zeros."""

    wake = b"\0"
    calm = 1

    def __init__(self) -> None:
        self._frame = bytearray()

    def encode(self, packet: Packet) -> bytes:
        """Return the packet as a frame, with the zero at its end."""
        raw = pack(packet)
        return stuff(raw + binascii.crc_hqx(raw, 0).to_bytes(_CRC_SIZE, "big")) + b"\0"

    def feed(self, byte: bytes) -> Packet | None:
        """Take one byte."""
        if byte != b"\0":
            self._frame += byte
            if len(self._frame) > 2 * _MOST:
                self._frame.clear()
            return None
        frame = bytes(self._frame)
        self._frame.clear()
        if not frame:
            return None
        raw = unstuff(frame)
        if len(raw) < HEADER_SIZE + _CRC_SIZE or binascii.crc_hqx(raw, 0):
            raise Garbled
        return unpack(raw[:-_CRC_SIZE])

    def reset(self) -> None:
        """Keep what there is: the next zero ends it."""


ENCODINGS: Final[dict[str, type[ConsoleEncoding | RawEncoding | CobsEncoding]]] = {
    "console": ConsoleEncoding,
    "raw": RawEncoding,
    "cobs": CobsEncoding,
}
DEFAULT_ENCODING: Final = "console"


def _may_begin(packet: bytes | bytearray) -> bool:
    """Tell whether bytes may be the beginning of an answer."""
    operation, flags, size, group = (
        packet[0] & 0x07,
        packet[1:2],
        int.from_bytes(packet[2:4], "big") if len(packet) >= 4 else 0,
        int.from_bytes(packet[4:6], "big") if len(packet) >= 6 else 0,
    )
    return (
        operation in (1, 3)
        and packet[0] < 0x20
        and flags in (b"", b"\0")
        and size <= _MOST
        and group < _GROUPS
    )


def stuff(data: bytes) -> bytes:
    """Encode with COBS: no zero is left, and each code counts the bytes to the next one."""
    stuffed = bytearray()
    for run in (data + b"\0")[:-1].split(b"\0"):
        rest = run
        while len(rest) >= _RUN:
            stuffed += b"\xff" + rest[:_RUN]
            rest = rest[_RUN:]
        stuffed += bytes([len(rest) + 1]) + rest
    return bytes(stuffed)


def unstuff(frame: bytes) -> bytes:
    """Decode COBS.

    Raises:
        Garbled: it is not that.
    """
    data = bytearray()
    at = 0
    while at < len(frame):
        code = frame[at]
        run = frame[at + 1 : at + code]
        if not code or len(run) != code - 1:
            raise Garbled
        data += run
        at += code
        if code <= _RUN and at < len(frame):
            data.append(0)
    return bytes(data)
