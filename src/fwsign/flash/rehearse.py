# SPDX-License-Identifier: Apache-2.0
"""Rehearse releases on boards that are sold already: whose ROM or boot loader would refuse them?

A chip with secure boot knows its keys for ever. What it knows was written down when it was flashed
(receipts), or asked (`fwsign ports --probe --json`). A release states which keys have signed its
images natively, and so nothing else than the envelope is needed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.flash.boards import keys
from fwsign.flash.boards.board import SECURE_BOOT, SECURE_BOOT_V1
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.format.kinds import flash_place
from fwsign.format.native import KINDS
from fwsign.format.opening import decode_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fwsign.format.kinds import FlashPlace
    from fwsign.format.native import StatedNative

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file of boards; a receipt has about two thousand."""
MAX_BOARDS: Final = 100_000
_SIZES: Final = (16, 32, 48, 64)
"""Bytes of a key's digest; an ESP32-C2 keeps half of one. Fewer would fit many keys."""
_ESP: Final = KINDS[0]
_HINT: Final = "sign it natively with a key of the board, too: docs/native.md has the bridge"
_HOLDERS: Final = ("ports", "boards", "receipt")
"""The names under which lists of boards, and their receipts, may be in a JSON object."""


class KnownKeys(NamedTuple):
    """What a chip or its boot loader knows of native signatures.

    Args:
        kind: one of `fwsign.format.native.KINDS`.
        key_digests: the keys whose images it starts, none revoked; None if it does not tell.
        revoked: those that it takes no more.
        security_version: the least one that it starts; None if that is not known.
    """

    kind: str
    key_digests: tuple[bytes, ...] | None
    revoked: tuple[bytes, ...] = ()
    security_version: int | None = None


class KnownBoard(NamedTuple):
    """A board as somebody wrote it down.

    Args:
        name: its identity; else its label or port.
        chip: as in a manifest's target; None if unknown.
        locked: whether secure boot is on.
        secure_boot: what it knows of keys; None if nothing is known.
    """

    name: str
    chip: str | None
    locked: bool
    secure_boot: KnownKeys | None


class BoardVerdict(NamedTuple):
    """The verdict of one board.

    Args:
        board: its name.
        verdict: "accepts", "stranded", "unknown" if that cannot be told, or "other" if no release
            is for it.
        release: the number of the release that decided, from 0 on.
        refusal: the reason why it refuses, or why that cannot be told.
    """

    board: KnownBoard
    verdict: str
    release: int = 0
    refusal: FwsignError | None = None


class _Part(NamedTuple):
    """A component for a place in flash, and what is stated of its native signature."""

    place: FlashPlace
    stated: StatedNative | None


def read_boards(data: bytes, name: object) -> list[KnownBoard]:
    """Read boards from JSON: the output of `ports` or `board`, receipts, or a line for each.

    Of a board that stands there several times, the last one counts.

    Args:
        data: the file.
        name: the file's name, for refusals.

    Raises:
        Failed: `io.format`, `state.limit`.
    """
    found: dict[str, KnownBoard] = {}
    for value in _values(data, name):
        for one in _boards(value, name, 0):
            found[one.name] = one
            if len(found) > MAX_BOARDS:
                raise Failed(
                    "state.limit", f"{name} has more than {MAX_BOARDS} boards", expected=MAX_BOARDS
                )
    if not found:
        raise _odd(name, 'an object with "board"', "none")
    return list(found.values())


def rehearse(boards: Iterable[KnownBoard], releases: Sequence[bytes]) -> Iterator[BoardVerdict]:
    """Judge releases by what each board knows; each meets them in this order.

    An accepted release raises the number against rollback, as the chip's own would be. Signatures
    of the envelopes are not looked at: no ROM does.

    Args:
        boards: as from `read_boards`.
        releases: envelopes.

    Raises:
        Malformed, Tampered: an envelope that is none.
    """
    read = [_parts(one) for one in releases]
    for board in boards:
        yield _judge(board, read)


def _judge(board: KnownBoard, releases: Sequence[tuple[_Part, ...]]) -> BoardVerdict:
    met = False
    for number, parts in enumerate(releases):
        own = [one for one in parts if board.chip in {None, one.place.chip}]
        if not own:
            continue
        met = True
        try:
            unknown = _meet(board, own)
        except FwsignError as error:
            return BoardVerdict(board, "stranded", number, error)
        if unknown is not None:
            return BoardVerdict(board, "unknown", number, unknown)
        board = _raised(board, own)
    if met:
        return BoardVerdict(board, "accepts")
    chips = sorted({one.place.chip for parts in releases for one in parts})
    expected = ", ".join(chips) or "no board"
    message = f"the release is for {expected}, the board is {board.chip}"
    refusal = Unsuitable("unsuitable.chip", message, expected=expected, found=board.chip)
    return BoardVerdict(board, "other", 0, refusal)


def _meet(board: KnownBoard, parts: Sequence[_Part]) -> FwsignError | None:
    """Refuse what the board would not start; return what keeps that from being told."""
    known = board.secure_boot
    if not board.locked:
        return None
    if known is None or known.key_digests is None:
        return _untold("the board's keys are not known", "its key digests")
    stated = [(one.place, one.stated) for one in parts if one.stated is not None]
    if not stated:
        return _untold("the release states no native signature", f"one of kind {known.kind}")
    for place, native in stated:
        if native.kind != known.kind:
            raise Unsuitable(
                "unsuitable.locked",
                f"the board checks {known.kind}, {place} is signed for {native.kind}",
                expected=known.kind,
                found=native.kind,
            )
        keys.check_keys(place, native.key_digests, known.key_digests, _HINT)
        # An ESP's boot loader has no number. The other kinds have one in each image, or refuse it.
        own = native.security_version
        if own is None and known.kind != _ESP and known.security_version:
            raise keys.too_old(place, None, known.security_version)
        keys.check_version(place, own, known.security_version)
    return None


def _raised(board: KnownBoard, parts: Sequence[_Part]) -> KnownBoard:
    """Return the board as it is when this release runs: its number against rollback may rise."""
    known = board.secure_boot
    if known is None:
        return board
    versions = [one.stated.security_version for one in parts if one.stated is not None]
    numbers = [one for one in (known.security_version, *versions) if one is not None]
    least = max(numbers, default=None)
    return board._replace(secure_boot=known._replace(security_version=least))


def _untold(why: str, expected: str) -> Unsuitable:
    return Unsuitable("unsuitable.locked", why, expected=expected, found="none")


def _parts(envelope: bytes) -> tuple[_Part, ...]:
    """Read the components for flash in an envelope, and what its text states of each."""
    opened = decode_envelope(envelope)
    check_manifest_digest(opened)
    manifest, text = decode_content(opened)
    stated = text.native if text is not None else ()
    places = [flash_place(one.identifier) for one in manifest.components]
    return tuple(
        _Part(place, stated[number] if number < len(stated) else None)
        for number, place in enumerate(places)
        if place is not None
    )


def _values(data: bytes, name: object) -> Iterator[Any]:
    """Yield the JSON values of a file: one for all, or one in each line."""
    try:
        text = data.decode()
        try:
            yield json.loads(text)
        except ValueError:
            yield from [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise _odd(name, "json", str(error).lower()) from error


def _boards(value: Any, name: object, depth: int) -> Iterator[KnownBoard]:
    if depth > len(_HOLDERS):
        return
    if isinstance(value, list):
        for one in value:
            yield from _boards(one, name, depth + 1)
    if not isinstance(value, dict):
        return
    if isinstance(board := value.get("board"), dict):
        yield _board(board, value, name)
        return
    for holder in _HOLDERS:
        yield from _boards(value.get(holder), name, depth + 1)


def _board(board: dict[str, Any], around: dict[str, Any], name: object) -> KnownBoard:
    names = (board.get("identity"), around.get("label"), around.get("port"))
    called = next((str(one) for one in names if one), None)
    if called is None:
        raise _odd(name, "a board with an identity, a label or a port", "none of them")
    chip, locks = board.get("chip"), board.get("locks", [])
    if not isinstance(chip, str | None) or not isinstance(locks, list):
        raise _odd(name, f"chip and locks of {called}", f"{chip!r}, {locks!r}")
    known = _secure_boot(board.get("secure_boot"), called, name)
    # Without locks it was written down by hand, and whoever lists keys means that they count.
    by_hand = known is not None and (known.kind != _ESP or "locks" not in board)
    locked = by_hand or SECURE_BOOT in locks or SECURE_BOOT_V1 in locks
    return KnownBoard(called, chip, locked, known)


def _secure_boot(value: Any, called: str, name: object) -> KnownKeys | None:
    if value is None:
        return None
    try:
        kind, digests = value["kind"], value["key_digests"]
        version = value.get("security_version")
        if kind not in KINDS or type(version) not in {int, type(None)} or (version or 0) < 0:
            raise ValueError(kind)
        revoked = _digests(value.get("revoked", []))
        known = None if digests is None else _digests(digests)
        left = None if known is None else tuple(one for one in known if one not in revoked)
        return KnownKeys(kind, left, revoked, version)
    except (AttributeError, KeyError, TypeError, ValueError):
        expected = f"secure_boot of {called} with kind, digests in hex and a number"
        raise _odd(name, expected, json.dumps(value)[:200]) from None


def _digests(value: Any) -> tuple[bytes, ...]:
    """Read digests in hex; raise ValueError or TypeError for anything else."""
    if not isinstance(value, list):
        raise TypeError(value)
    found = tuple(bytes.fromhex(one) for one in value)
    if any(len(one) not in _SIZES for one in found):
        raise ValueError(value)
    return found


def _odd(name: object, expected: str, found: str) -> Failed:
    message = f"{name}: expected {expected}, found {found}"
    return Failed("io.format", message, expected=expected, found=found)
