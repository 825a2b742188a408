# SPDX-License-Identifier: Apache-2.0
"""Trust updates: the holders of a device's trust keys replace its list of anchors.

Lists are numbered. Update N+1 needs signatures from the threshold of list N's trust keys and from
the threshold of its own. So neither a thief of one list's keys nor an owner without the next list's
keys can mislead a device. Dates and CRLs are not checked: an anchor retires when a list leaves it
out. docs/format.md has the template and the rules. This module reads no file, socket or clock.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Tampered, Unsuitable, Untrusted, check_limit
from fwsign.format import cbor, suit
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.cose import (
    Block,
    algorithm_for,
    decode_block,
    key_kind,
    sig_structure,
    verify_signature,
)
from fwsign.format.opening import check_manifest_digest, encode_manifest_digest
from fwsign.format.payload import digest
from fwsign.format.suit_labels import Common, Key, Parameter, SuitCommand
from fwsign.trust.lists import (
    Floors,
    TrustState,
    Update,
    check_update,
    decode_content,
    encode_content,
    encode_trust,
)
from fwsign.x509.anchor import Anchor

MAX_UPDATE_SIZE: Final = 1024 * 1024
"""Bytes; 32 anchors with ML-DSA-87 certificates and 8 such signatures have 280 kB."""
MAX_UPDATES: Final = 256
"""Updates of one chain; a device that missed more must be enrolled anew."""
_IDENTIFIER: Final = (b"trust",)
_URI: Final = "#trust"


class _Opened(NamedTuple):
    """An update with consistent bytes; its signatures are not checked yet."""

    manifest: suit.Manifest
    signed: bytes
    blocks: tuple[Block, ...]
    content: bytes

    @property
    def number(self) -> int:
        return self.manifest.sequence_number


# --- what a device does ---------------------------------------------------------------------


def verify_update(current: TrustState, data: bytes) -> Update:
    """Verify the update that follows a list.

    Args:
        current: the device's list, from its memory or its enrolment.
        data: one trust update, at most 1 MiB.

    Raises:
        Malformed: `malformed.*`; `malformed.trust` for a list that no device may use.
        Tampered: `tampered.*`.
        Untrusted: `untrusted.signers`, `untrusted.example-key`.
        Unsuitable: `unsuitable.release`, `unsuitable.vendor`, `unsuitable.product`,
            `unsuitable.rollback`, `unsuitable.trust-gap`, `unsuitable.epoch`.
    """
    return _verify(current, _open(data))


def apply_chain(current: TrustState, updates: Sequence[bytes]) -> Update:
    """Verify updates one after another, beginning with the one that follows the device's list.

    Older updates are skipped, so that one file serves devices of any age. An update to the
    list that the device already has is no error, if the list is the same.

    Args:
        current: the device's list.
        updates: the updates, in the order of their numbers.

    Returns:
        The last list, and the floors that all updates together set.

    Raises:
        FwsignError: as `verify_update`; `unsuitable.conflict` for a different list with a number
            that the device has.
    """
    check_limit(len(updates), MAX_UPDATES, f"{len(updates)} trust updates")
    trust, floors, reached = current, Floors(), False
    for opened in map(_open, updates):
        if opened.number < trust.number:
            continue
        reached = True
        if opened.number == trust.number:
            _check_same(trust, opened)
            continue
        trust, new = _verify(trust, opened)
        floors = Floors(
            floors.sequence if new.sequence is None else new.sequence,
            floors.time if new.time is None else new.time,
        )
    if not reached:
        raise _rollback(current.number, "none newer")
    return Update(trust, floors)


def _verify(current: TrustState, opened: _Opened) -> Update:
    # Device and number come before the signatures: keys of another list could not verify them, and
    # the message should name the real fault.
    _check_device(current, opened.manifest)
    if opened.number <= current.number:
        raise _rollback(current.number, opened.number)
    if opened.number > current.number + 1:
        raise Unsuitable(
            "unsuitable.trust-gap",
            f"trust update {opened.number} does not follow list {current.number}, which this "
            "device has",
            expected=current.number + 1,
            found=opened.number,
        )
    _check_signed(current, opened, f"list {current.number}")
    update = _decode_content(opened)
    check_update(update)
    _check_signed(update.trust, opened, "its own list")
    _check_epoch(current, update)
    return update


def _check_device(current: TrustState, manifest: suit.Manifest) -> None:
    for what, expected, name, found in (
        ("vendor", suit.vendor_id(current.vendor), current.vendor, manifest.vendor_id),
        ("product", _class_id(current), current.product, manifest.class_id),
    ):
        if expected != found:
            raise Unsuitable(
                "unsuitable.vendor" if what == "vendor" else "unsuitable.product",
                f'the trust update is for {what} {found.hex()}, this device is "{name}"',
                expected=name,
                found=found.hex(),
            )


def _check_signed(trust: TrustState, opened: _Opened, whose: str) -> None:
    count = len(_signers(trust.anchors_for("trust"), opened))
    if count < trust.threshold:
        raise Untrusted(
            "untrusted.signers",
            f"trust update {opened.number} needs {trust.threshold} of the "
            f"{len(trust.anchors_for('trust'))} trust keys of {whose}, found {count}",
            expected=trust.threshold,
            found=count,
        )


def _check_epoch(current: TrustState, update: Update) -> None:
    epoch = update.trust.epoch
    if epoch < current.epoch:
        message = f"the trust update takes the epoch from {current.epoch} back to {epoch}"
    elif epoch == current.epoch and update.floors != Floors():
        message = f"the trust update states floors, but the epoch stays {epoch}"
    else:
        return
    raise Unsuitable("unsuitable.epoch", message, expected=f"above {current.epoch}", found=epoch)


def _check_same(trust: TrustState, opened: _Opened) -> None:
    """Refuse a list that has the number of the device's list but differs from it."""
    _check_device(trust, opened.manifest)
    _check_signed(trust, opened, f"list {trust.number}")
    if encode_trust(_decode_content(opened).trust) != encode_trust(trust):
        raise Unsuitable(
            "unsuitable.conflict",
            f"this device has another list {trust.number} than this trust update brings",
            expected="the list that was applied before, or the next one",
            found=opened.manifest.components[0].digest.value.hex(),
        )


def _rollback(has: int, found: object) -> Unsuitable:
    return Unsuitable(
        "unsuitable.rollback",
        f"the trust update is old: this device has list {has} already, found {found}",
        expected=has + 1,
        found=found,
    )


def signers(keys: Iterable[Anchor], data: bytes) -> tuple[str, ...]:
    """Return the keys that have signed an update: the SHA-256 of each SPKI, in hex.

    Args:
        keys: the keys to look for, such as the trust keys of a list.
        data: one trust update.

    Raises:
        FwsignError: `malformed.*`, `tampered.*`, `unsuitable.release`.
    """
    return _signers(keys, _open(data))


def _signers(keys: Iterable[Anchor], opened: _Opened) -> tuple[str, ...]:
    """Each key counts once, however many blocks or anchors it has."""
    found = {
        anchor.spki
        for anchor in keys
        for block in opened.blocks
        if _is_signed(block, anchor, opened.signed)
    }
    return tuple(sorted(found))


def _is_signed(block: Block, anchor: Anchor, signed: bytes) -> bool:
    known = ALGORITHMS.get(block.algorithm)
    # The key's kind must fit the algorithm, and its size must be allowed.
    if known is None or known.key != key_kind(anchor.key) or algorithm_for(anchor.key) is None:
        return False
    message = sig_structure(block.protected, signed)
    try:
        verify_signature(block.algorithm, anchor.key, message, block.signature)
    except Tampered:
        return False
    return True


# --- bytes ----------------------------------------------------------------------------------


def split_updates(data: bytes) -> tuple[bytes, ...]:
    """Split a file of updates, which follow one another in it (RFC 8742).

    Args:
        data: the file's content, at most 32 MiB.

    Raises:
        Malformed: `malformed.size`, `malformed.cbor`.
    """
    check_limit(len(data), suit.MAX_ENVELOPE_SIZE, f"{len(data)} bytes of trust updates")
    return cbor.split_sequence(data)


def is_update(data: bytes) -> bool:
    """Tell whether a file begins with a trust update, which may be invalid."""
    try:
        envelope = suit.decode_envelope(cbor.split_sequence(data)[0])
        match cbor.decode(envelope.manifest):
            case {Key.COMMON: bytes(common)}:
                return bool(cbor.decode(common)[Common.COMPONENTS] == (_IDENTIFIER,))
    except (Malformed, LookupError, TypeError):
        pass
    return False


def encode_update(update: Update, blocks: Sequence[bytes] = ()) -> bytes:
    """Encode an update with the blocks that sign it; inverse of `decode_update`."""
    content = encode_content(update)
    manifest = suit.encode_manifest(_describe(update.trust, content))
    signed = encode_manifest_digest(manifest)
    return suit.encode_envelope(
        suit.Envelope(signed, tuple(blocks), manifest, None, {_URI: content})
    )


def decode_update(data: bytes) -> Update:
    """Decode an update. Only `verify_update` decides whether a device may use it.

    Raises:
        FwsignError: `malformed.*`, `tampered.*`, `unsuitable.release`, `untrusted.*`.
    """
    return _decode_content(_open(data))


def _describe(trust: TrustState, content: bytes) -> suit.Manifest:
    image = Digest(SHA256, digest(SHA256, content))
    component = Component(_IDENTIFIER, image, len(content), _URI)
    ids = suit.vendor_id(trust.vendor), _class_id(trust)
    return suit.Manifest(trust.number, *ids, (component,))


def _class_id(trust: TrustState) -> bytes:
    return suit.class_id(trust.vendor, trust.product)


def _open(data: bytes) -> _Opened:
    check_limit(len(data), MAX_UPDATE_SIZE, f"trust update of {len(data)} bytes")
    envelope = suit.decode_envelope(data)
    blocks = tuple(map(decode_block, envelope.blocks))
    check_manifest_digest(envelope)
    manifest = _decode_manifest(envelope.manifest)
    if envelope.other or envelope.text is not None or envelope.integrated.keys() - {_URI}:
        raise _outside("a trust update with more than wrapper, manifest and list")
    content = envelope.integrated.get(_URI)
    image = manifest.components[0]
    if content is None:
        raise Tampered("tampered.payload-absent", "the list was taken out of the trust update")
    found = digest(image.digest.algorithm, content)
    if (found, len(content)) != (image.digest.value, image.size):
        raise Tampered("tampered.payload-digest", "the list is not the one that was signed")
    # Checked last, so that a release gets the message that it is one.
    if any(block.chain or block.token is not None for block in blocks):
        raise Malformed(
            "malformed.header",
            "a trust update is signed by keys of anchors, without certificates and time stamps",
        )
    return _Opened(manifest, envelope.digest, blocks, content)


def _decode_manifest(data: bytes) -> suit.Manifest:
    """Match a manifest to the template of trust updates: read it, write it, compare."""
    match cbor.decode(data):
        case {Key.SEQUENCE_NUMBER: int(number), Key.COMMON: bytes(common)}:
            pass
        case _:
            raise _outside("the manifest matches no template")
    match cbor.decode(common):
        case {Common.COMPONENTS: ((b"trust",),), Common.SHARED: bytes(shared)}:
            pass
        case _:
            raise Unsuitable(
                "unsuitable.release",
                "this is a release, not a trust update",
                expected="a trust update",
                found="a release",
            )
    match cbor.decode(shared):
        case (
            SuitCommand.OVERRIDE_PARAMETERS,
            {
                Parameter.VENDOR_ID: bytes(vendor),
                Parameter.CLASS_ID: bytes(klass),
                Parameter.IMAGE_DIGEST: bytes(image),
                Parameter.IMAGE_SIZE: size,
            },
            *_,
        ):
            signed = suit.decode_digest(cbor.decode(image))
        case _:
            raise _outside("the shared sequence matches no template")
    if isinstance(number, bool) or not 0 <= number <= suit.MAX_SEQUENCE_NUMBER:
        raise _outside("a number of a trust update that is out of range")
    component = Component(_IDENTIFIER, signed, size, _URI)
    manifest = suit.Manifest(number, vendor, klass, (component,))
    if suit.encode_manifest(manifest) != data:
        raise _outside("a manifest of a trust update with more or other than its template has")
    return manifest


def _decode_content(opened: _Opened) -> Update:
    update = decode_content(opened.content, opened.number)
    ids = suit.vendor_id(update.trust.vendor), _class_id(update.trust)
    if ids != (opened.manifest.vendor_id, opened.manifest.class_id):
        raise Malformed("malformed.trust", "the list is for another product than its manifest")
    return update


def _outside(message: str) -> Malformed:
    return Malformed("malformed.profile", f"outside the fwsign profile of SUIT: {message}")
