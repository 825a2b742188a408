# SPDX-License-Identifier: Apache-2.0
"""MCUboot's serial recovery: an image is uploaded to the primary slot over SMP.

The boot loader cannot be asked for its flash's content, nor for a digest of a part. What it
offers as proof is the list of images: MCUboot lists a slot only after it has computed the hash of
the image in it, and checked it and the signature, as it does before it starts the image. There
have been builds that list whatever begins like an image; their word proves nothing. So each
upload sends the header alone at first, and asks: a slot that is listed then, without a hash, was
not checked. (Listed with one it may be rightly: memory that needs no erasing still holds the image
from before, and its header may be the same.)

An upload that was interrupted goes on where the boot loader says it stood: a packet for an offset
that cannot be is answered with the expected one and changes nothing. The boot loader does not tell
of which image the bytes before are; it may have been another one, sent by another program. So:

1. A slot that is listed is not resumed: it is whole, or the list proves nothing.
2. Before the end, one byte too many must be refused: the length that the upload was begun with,
   which decides what MCUboot does at its end, is ours. Otherwise all begins again.
3. Afterwards the slot must be listed with the hash of our image: MCUboot has then computed it over
   all of the bytes, ours and those before. Where it is not, the engine has the image written
   again, and this time from its start, for there is nothing left to resume.

Where images run from RAM, MCUboot judges the copy that it has there, which is that of the last
start. Such a board is therefore restarted after an upload, and must come back into the boot loader:
by its application, or because MCUboot found nothing to start.

Whether an upload was begun by this process or by an earlier one hence makes no difference.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

from fwsign.errors import Failed, Malformed
from fwsign.flash.boards.board import BoardInfo, Connect, Progress, Run
from fwsign.flash.boards.port import Port
from fwsign.flash.smp.answers import (
    INVALID,
    first_slot,
    is_application,
    listed_hash,
    next_offset,
    not_taken,
    place,
    refused,
    result,
    unexpected,
    words,
)
from fwsign.flash.smp.encodings import DEFAULT_ENCODING, ENCODINGS
from fwsign.flash.smp.frame import OVERHEAD, READ, WRITE
from fwsign.flash.smp.link import ECHO, IMAGE, OS, PARAMETERS, POLL, RESET, STATE, UPLOAD, SmpLink
from fwsign.images.mcuboot import image_hash

BAUD: Final = 115200
_BUFFER: Final = 512  # bytes of a frame: MCUboot's default, if it does not tell
_SMALLEST: Final = 128  # the smallest frame of later attempts
_UPLOAD_CBOR: Final = 18  # bytes of {"off": u32, "data": up to 64 KiB} without the data, at most
_ALIGNMENT: Final = 32  # bytes of the largest write unit of any flash
_HEADER: Final = 32  # bytes of an image's header, the first to be uploaded
_FLAGS: Final = slice(16, 20)
_RAM_LOAD: Final = 0x20  # the flag of an image that is copied to RAM before it is judged
_IMPOSSIBLE: Final = 0xFFFFFFFE  # an offset; 0xFFFFFFFF stands for none

_ANSWER: Final = 10.0  # seconds that the boot loader may need, here also to erase a sector
_ERASE: Final = 60.0  # to erase a slot
_LIST: Final = 60.0  # to check the images of all slots, or to decrypt one
_HELLO: Final = 5.0  # to say the first word
_START: Final = 15.0  # to start the application, or to enter the boot loader from it

NOT_CONTROLLED: Final = "boot not controlled"


def connect(port: str, *, baud: int | None = None, encoding: str | None = None) -> Connect:
    """Return a function that opens a port to MCUboot's serial recovery.

    Args:
        port: anything that pyserial opens.
        baud: bit/s; it is fixed in the boot loader, mostly to 115200.
        encoding: a name in `ENCODINGS`; it is fixed in the boot loader, mostly to console.
    """
    carried = ENCODINGS[encoding or DEFAULT_ENCODING]

    def attempt(number: int) -> SerialRecovery:
        return SerialRecovery(SmpLink(Port(port, baud or BAUD, POLL), carried()), number)

    return attempt


class SerialRecovery:
    """A board in MCUboot's serial recovery.

    Args:
        link: the link to it.
        attempt: counts from 0; each halves the size of packets, for small or slow buffers.
    """

    def __init__(self, link: SmpLink, attempt: int = 0) -> None:
        self._link = link
        self._attempt = attempt
        self._chunk = _chunk(_BUFFER, attempt)
        self._nameless = False  # whether this build of MCUboot leaves out the hashes
        self._uploaded = b""  # the hash of an image that was uploaded whole

    def probe(self) -> BoardInfo:
        """Find the boot loader and its first image; leave the application if that answers."""
        slots = self._find(_HELLO)
        # Older boot loaders do not know this command, and answer without a size.
        size = self._link.request(READ, OS, PARAMETERS, {}, _ANSWER).get("buf_size")
        buffer = size if isinstance(size, int) and size > 0 else _BUFFER
        self._chunk = _chunk(buffer, self._attempt)
        first = first_slot(slots)
        self._nameless = first is not None and not listed_hash(first)
        details = [("boot loader", "MCUboot serial recovery"), ("buffer", f"{buffer} bytes")]
        if first is not None:
            details.append(("image", str(first.get("version", "of unknown version"))))
        return BoardInfo(
            "smp",
            chip=None,  # MCUboot does not know the name of its chip
            identity=None,  # nor of the board
            flash_size=None,
            sector=1,  # the boot loader erases by itself, so nothing has to be padded
            digest=None if self._nameless else "image",
            details=tuple(details),
        )

    def digest(self, offset: int, size: int) -> bytes:
        """Return the hash of the image in the first slot; empty if there is no valid one.

        Raises:
            Failed: `device.mismatch`: it is not that of the image that was uploaded.
        """
        del offset, size  # it is always the whole image
        first = first_slot(self._slots())
        found = b"" if first is None else listed_hash(first)
        if self._uploaded and found != self._uploaded:
            raise not_taken(self._uploaded, first)
        return found

    def read(self, offset: int, size: int) -> bytes:
        """Refuse: MCUboot does not let its flash be read."""
        raise _cannot("read", offset, size)

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Upload one image, beginning at the end of an earlier upload of it.

        Raises:
            Failed: as every call; `device.mismatch`: what this boot loader lists proves nothing.
        """
        if len(runs) != 1:
            raise Failed(
                "device.refused",
                f"serial recovery takes one image, not {len(runs)}",
                expected="one image",
                found=len(runs),
            )
        data = runs[0].data
        if len(data) <= _HEADER:
            raise refused("write", INVALID)
        self._uploaded = b""
        self._upload_all(data, _Count(progress))
        with contextlib.suppress(Malformed):  # then the boot loader does not list it
            self._uploaded = image_hash(data)

    def _upload_all(self, data: bytes, count: "_Count") -> None:
        if start := self._resumable(len(data)):
            count(start)
            try:
                self._upload(data, start, count)
            except Failed as error:
                if error.code != "device.refused":
                    raise
            else:
                return
        self._upload(data, 0, count)

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Confirm the image, if the boot loader keeps that state; note if another may start."""
        del regions
        slots = self._slots()
        first = first_slot(slots)
        if first is None:
            return (NOT_CONTROLLED, "the boot loader lists no image in its first slot")
        if first.get("bootable") and not first.get("confirmed"):
            body = {"confirm": True, "hash": listed_hash(first)}
            answer = self._link.request(WRITE, IMAGE, STATE, body, _LIST)
            if code := result(answer):
                return (NOT_CONTROLLED, f"the image cannot be confirmed: {words(code)}")
        for other in slots:
            # Without states in the list, a second image may take over unnoticed.
            if place(other) == (0, 1) and (other.get("pending") or "bootable" not in first):
                version = other.get("version", "unknown")
                return (NOT_CONTROLLED, f"the second slot holds an image too, version {version}")
        return ()

    def reset(self) -> None:
        """Start the image in the first slot."""
        self._ask("reset", OS, RESET, {}, _ANSWER)

    def close(self) -> None:
        """Release the port."""
        self._link.close()

    def images(self) -> list[dict[str, Any]]:
        """Return the list of images, by MCUboot's own names.

        Raises:
            Failed: as every call.
        """
        return self._slots()

    def _slots(self) -> list[dict[str, Any]]:
        answer = self._link.request(READ, IMAGE, STATE, {}, _LIST)
        if code := result(answer):
            raise refused("list its images", code)
        slots = answer.get("images")
        if not isinstance(slots, list) or not all(isinstance(slot, dict) for slot in slots):
            raise unexpected("list of images", "a list of maps", slots)
        return slots

    def _find(self, patience: float) -> list[dict[str, Any]]:
        """Enter the boot loader, from the application if that answers; list the slots."""
        self._link.request(WRITE, OS, ECHO, {"d": ""}, patience)
        slots = self._slots()
        if not is_application(slots):
            return slots
        self._ask("enter the boot loader", OS, RESET, {"boot_mode": 1}, _ANSWER)
        end = time.monotonic() + _START
        while time.monotonic() < end:  # the application answers for a while before it ends
            slots = self._slots()
            if not is_application(slots):
                return slots
        raise Failed(
            "device.absent",
            "the application answers and does not enter the boot loader",
            expected="MCUboot's serial recovery",
            found="the application",
        )

    def _resumable(self, size: int) -> int:
        """Return the offset at which an upload can continue; 0 for the start."""
        answer = self._ask("upload", IMAGE, UPLOAD, {"off": _IMPOSSIBLE, "data": b""}, _ANSWER)
        at = next_offset(answer)
        if not _HEADER <= at < size or first_slot(self._slots()) is not None:
            return 0
        return at

    def _upload(self, data: bytes, start: int, count: "_Count") -> None:
        at = start
        while at < len(data):
            if start and at + self._chunk >= len(data):
                self._check_length(data, at)
            at = self._packet(data, at)
            count(at)
            if at == _HEADER and not self._nameless:
                self._check_list(len(data))
        order: Literal["little", "big"] = "big" if data.startswith(b"\x96") else "little"
        if int.from_bytes(data[_FLAGS], order) & _RAM_LOAD:
            self.reset()
            self._find(_START)

    def _packet(self, data: bytes, at: int) -> int:
        """Upload one piece, and return the offset of the next."""
        piece = data[at : at + (self._chunk if at else _HEADER)]
        body: dict[str, Any] = {"off": at, "data": piece}
        if not at:
            body |= {"len": len(data), "image": 0}
        # Each request is safe to repeat: the first begins the upload again, others are ignored.
        answer = self._ask("write", IMAGE, UPLOAD, body, _ANSWER if at else _ERASE)
        following = next_offset(answer)
        if not at < following <= at + len(piece):
            raise unexpected("next offset", f"{at + 1} to {at + len(piece)}", following)
        return following

    def _check_list(self, size: int) -> None:
        first = first_slot(self._slots())
        if first is not None and not listed_hash(first):
            raise Failed(
                "device.mismatch",
                "the boot loader lists images that it has not checked, "
                f"such as this one of which it has {_HEADER} of {size} bytes",
                expected="no image",
                found="an image without a hash",
            )

    def _check_length(self, data: bytes, at: int) -> None:
        body = {"off": at, "data": data[at:] + b"\xff"}
        answer = self._link.request(WRITE, IMAGE, UPLOAD, body, _ANSWER)
        if result(answer) != INVALID:
            raise Failed("device.refused", "the upload to be resumed is that of a longer image")

    def _ask(
        self, what: str, group: int, command: int, body: dict[str, Any], patience: float
    ) -> dict[str, Any]:
        answer = self._link.request(WRITE, group, command, body, patience)
        if code := result(answer):
            raise refused(what, code)
        return answer


class _Count:
    """Reports the progress of an upload, which may have to begin again."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = 0

    def __call__(self, at: int) -> None:
        if at > self._told:
            self._progress(at - self._told)
            self._told = at


def _chunk(buffer: int, attempt: int) -> int:
    """Return the number of an image's bytes that fit into one packet."""
    room = min(buffer, max(_SMALLEST, buffer >> attempt)) - OVERHEAD - _UPLOAD_CBOR
    return max(_ALIGNMENT, room // _ALIGNMENT * _ALIGNMENT)


def _cannot(what: str, offset: int, size: int) -> Failed:
    return Failed(
        "device.refused", f"serial recovery cannot {what} {size} bytes at {offset:#x} of the flash"
    )
