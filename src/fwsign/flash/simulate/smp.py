# SPDX-License-Identifier: Apache-2.0
"""A simulated board in MCUboot's serial recovery, after MCUboot's `boot_serial.c`.

`flash` is the primary slot. It is erased as the upload goes on, and written in units of 8 bytes;
what it lacks of a unit it asks for again. A slot is listed where the hash in its TLVs, SHA-256, 384
or 512, is that of its content: signatures are not checked, nor the hash of an encrypted image.
Faults: `nak@N` answers the Nth request with an error, `power@N` loses power in the middle of
erasing sector N, `lie` judges the image by what was sent, `stuck@N` leaves byte N erased. After a
reset it is silent until it is connected to again. With `encoding=raw` or `cobs` packets come as
`smp_encodings` says, and not in lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from fwsign.errors import Malformed
from fwsign.format import cbor

if TYPE_CHECKING:
    from fwsign.flash.simulate import Settings

SLOT: Final = 512 * 1024
SECTOR: Final = 4096
BUFFER: Final = 1024  # bytes of a frame
FORGETS: Final = 0.5  # seconds of silence after which half of a raw packet is forgotten
_LINE: Final = 128
_UNIT: Final = 8
_BAUD: Final = 115200
_UNKNOWN, _INVALID, _UNSUPPORTED = 1, 3, 8
_ORDERS: Final = {bytes.fromhex("3db8f396"): "<", bytes.fromhex("96f3b83d"): ">"}
_ENCRYPTED: Final = 0x4 | 0x8
_HASHES: Final = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}


class Simulator:
    """The board; a `Machine` of `fwsign.flash.simulate.line`.

    Args:
        settings: this boot loader has neither `identity` nor `locks`.
    """

    def __init__(self, settings: Settings) -> None:
        self.flash = bytearray(settings.flash.ljust(SLOT, b"\xff"))
        self.baud = _BAUD if settings.baud == 0 else settings.baud
        self.parameters = True
        """Whether it knows the command that older boot loaders lack."""
        self.checks = True
        """Whether it checks images before it lists them."""
        self.application = False
        """Whether an application with an SMP server runs instead of the boot loader."""
        self.speaks = False
        """Whether the application that a reset starts has an SMP server."""
        self.older: bytes | None = None
        """An image in another slot, to which the boot loader goes back at each start."""
        self.others: list[dict[str, Any]] = []
        """Further entries in the list of images."""
        self.own: dict[str, Any] = {}
        """States of the first slot in the list of images, if it has any."""
        self.started = 0
        """The number of starts of the slot's image from the boot loader."""
        self._encoding = settings.encoding
        self._heard = 0.0  # when the last byte came
        self._faults = list(settings.faults)
        self._requests = 0
        self._silent = False
        self._restart()

    def _restart(self) -> None:
        self._line = bytearray()
        self._frame = b""
        self._expected = self._size = self._erased = 0
        self._sent = bytearray()

    def connected(self) -> None:
        """Answer again, as after a press of the button that enters serial recovery."""
        if self._silent:
            self._silent = False
            self._restart()

    def left(self) -> None:
        """Keep the state of the upload: the boot loader does not notice."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the host and return the answer to all that is complete."""
        if self._encoding != "console":
            return self._receive_binary(data)
        answer = b""
        for byte in data:
            self._line.append(byte)
            if byte == ord("\n"):
                line = bytes(self._line[:-1])
                self._line.clear()
                if not self._silent and len(line) < _LINE:
                    answer += self._take_line(line)
            elif len(self._line) > BUFFER:
                self._line.clear()
        return answer

    def _receive_binary(self, data: bytes) -> bytes:
        now = time.monotonic()
        if self._encoding == "raw" and now - self._heard > FORGETS:
            self._line.clear()
        self._heard = now
        answer = b""
        for byte in data:
            self._line.append(byte)
            if self._encoding == "cobs":
                if byte:
                    continue
                packet = _uncobs(bytes(self._line[:-1]))
                self._line.clear()
                good = len(packet) >= 10 and not binascii.crc_hqx(packet, 0)
                answer += self._take_packet(packet[:-2]) if good and not self._silent else b""
            elif len(self._line) >= 8 + int.from_bytes(self._line[2:4], "big"):
                packet = bytes(self._line)
                self._line.clear()
                if len(packet) >= 8 and not self._silent:
                    answer += self._take_packet(packet)
        return answer

    def _take_line(self, line: bytes) -> bytes:
        if line[:2] == b"\x06\x09":
            self._frame = b""
        elif line[:2] != b"\x04\x14":
            return b""
        try:
            self._frame += base64.b64decode(line[2:], validate=True)
        except binascii.Error:
            return b""
        frame = self._frame
        if len(frame) < 12 or int.from_bytes(frame[:2], "big") != len(frame) - 2:
            return b""
        # The CRC of a message followed by its own CRC is 0.
        if len(frame) > BUFFER or binascii.crc_hqx(frame[2:], 0):
            return b""
        return self._take_packet(frame[2:-2])

    def _take_packet(self, packet: bytes) -> bytes:
        operation, _, size, group, sequence, command = struct.unpack(">BBHHBB", packet[:8])
        if operation not in {0, 2} or size < len(packet) - 8:
            return b""
        number = self._requests
        self._requests += 1
        if self._take("nak", number):
            body: dict[str, Any] | None = {"rc": _UNKNOWN}
        else:
            try:
                asked = cbor.decode(packet[8:])
            except Malformed:
                asked = None
            body = self._perform(operation, group, command, asked)
        if body is None:  # no power
            return b""
        answer = _encode(body)
        head = struct.pack(">BBHHBB", operation + 1, 0, len(answer), group, sequence, command)
        if self._encoding == "raw":
            return head + answer
        return (_to_lines if self._encoding == "console" else _to_cobs)(head + answer)

    def _perform(
        self, operation: int, group: int, command: int, asked: Any
    ) -> dict[str, Any] | None:
        if not isinstance(asked, dict):
            return {"rc": _INVALID}
        match operation, group, command:
            case 2, 0, 0 if isinstance(asked.get("d"), str):
                return {"r": asked["d"]}
            case 2, 0, 5:
                self._reset(asked.get("boot_mode") == 1)
                return {"rc": 0}
            case 0, 0, 6 if self.parameters:
                return {"buf_size": BUFFER, "buf_count": 1}
            case 0, 1, 0:
                return {"images": self._list()}
            case 2, 1, 0 if self.own:
                self.own["confirmed"] = True
                return {"images": self._list()}
            case 2, 1, 1:
                return self._upload(asked)
        return {"rc": _UNSUPPORTED}

    def _reset(self, recovery: bool) -> None:
        entered = self.application and recovery
        if not entered:
            self.started += 1
            if self.older is not None:
                self.flash[:] = self.older.ljust(SLOT, b"\xff")
        self.application = self.speaks and not entered
        self._silent = not entered and not self.speaks
        self._restart()

    def _upload(self, asked: dict[Any, Any]) -> dict[str, Any] | None:
        at, data = asked.get("off"), asked.get("data")
        if not isinstance(at, int) or not isinstance(data, bytes):
            return {"rc": _INVALID}
        if at == 0:
            self._expected = self._erased = 0
            self._sent = bytearray()
            if asked.get("len", SLOT + 1) > SLOT:
                return {"rc": _INVALID}
            self._size = asked["len"]
        elif at != self._expected:
            return {"rc": 0, "off": self._expected}
        if at + len(data) > self._size:
            return {"rc": _INVALID}
        if at + len(data) < self._size:
            data = data[: len(data) // _UNIT * _UNIT]
        if not self._erase(at + len(data)):
            return None
        self._program(at, data)
        self._expected += len(data)
        return {"rc": 0, "off": self._expected}

    def _erase(self, end: int) -> bool:
        """Erase the sectors up to `end`; False if there is no power any more."""
        while self._erased < end:
            sector = self._erased // SECTOR
            if self._take("power", sector):
                self.flash[self._erased : self._erased + SECTOR // 2] = b"\xff" * (SECTOR // 2)
                self._restart()
                return False
            self.flash[self._erased : self._erased + SECTOR] = b"\xff" * SECTOR
            self._erased += SECTOR
        return True

    def _program(self, at: int, data: bytes) -> None:
        self._sent[at:] = data
        for index, byte in enumerate(data, at):
            if not any(fault.name == "stuck" and fault.at == index for fault in self._faults):
                self.flash[index] &= byte  # only clears bits

    def _list(self) -> list[dict[str, Any]]:
        lies = any(fault.name == "lie" for fault in self._faults)
        content = bytes(self._sent) if lies and self._sent else bytes(self.flash)
        found = []
        if (slot := _describe(content, self.checks)) is not None:
            found.append(slot | self.own | ({"active": True} if self.application else {}))
        return found + self.others

    def _take(self, name: str, at: int) -> bool:
        """Tell whether a fault falls here; each happens once."""
        for fault in self._faults:
            if fault.name == name and fault.at == at:
                self._faults.remove(fault)
                return True
        return False


def _describe(slot: bytes, checks: bool) -> dict[str, Any] | None:
    """List a slot as MCUboot does; without checks, by its first bytes alone."""
    order = _ORDERS.get(slot[:4])
    if order is None:
        return None
    header, protected, size, flags = struct.unpack_from(f"{order}HHII", slot, 8)
    version = "{}.{}.{}".format(*struct.unpack_from(f"{order}BBH", slot, 20))
    listed: dict[str, Any] = {"slot": 0, "version": version}
    at = end = header + size + protected
    stored, algorithm = b"", "sha256"
    if slot[at : at + 2] == struct.pack(f"{order}H", 0x6907):
        end = at + struct.unpack_from(f"{order}H", slot, at + 2)[0]
        at += 4
        while at < end and not stored:
            kind, length = struct.unpack(f"{order}HH", slot[at : at + 4])
            kind = kind >> 8 or kind
            if kind in _HASHES:
                stored, algorithm = slot[at + 4 : at + 4 + length], _HASHES[kind]
            at += 4 + length
    hashed = hashlib.new(algorithm, slot[: header + size + protected]).digest()
    good = bool(stored) if flags & _ENCRYPTED else stored == hashed
    if checks and (not good or len(slot) < end):
        return None
    return listed | ({"hash": stored} if stored else {})


def _encode(value: Any) -> bytes:
    """Encode like zcbor without canonical CBOR: with open lengths."""
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return b"\x1a" + value.to_bytes(4, "big") if value > 23 else bytes([value])
        case str():
            return bytes([0x60 + len(value)]) + value.encode()
        case bytes():
            return bytes([0x58, len(value)]) + value
        case list():
            return b"\x9f" + b"".join(map(_encode, value)) + b"\xff"
    pairs = b"".join(_encode(key) + _encode(item) for key, item in value.items())
    return b"\xbf" + pairs + b"\xff"


def _to_lines(packet: bytes) -> bytes:
    checked = packet + binascii.crc_hqx(packet, 0).to_bytes(2, "big")
    text = base64.b64encode(len(checked).to_bytes(2, "big") + checked)
    pieces = [text[at : at + 124] for at in range(0, len(text), 124)]
    return b"\x06\x09" + b"\n\x04\x14".join(pieces) + b"\n"


def _to_cobs(packet: bytes) -> bytes:
    rest = packet + binascii.crc_hqx(packet, 0).to_bytes(2, "big") + b"\0"
    frame = b""
    while rest:
        size = min(rest.index(0), 254)
        frame += bytes([size + 1]) + rest[:size]
        rest = rest[size + (size < 254) :]
    return frame + b"\0"


def _uncobs(frame: bytes) -> bytes:
    data = b""
    while frame:
        data += frame[1 : frame[0]] + (b"\0" if frame[0] < 255 else b"")
        frame = frame[frame[0] :]
    return data[:-1] if data.endswith(b"\0") else data
