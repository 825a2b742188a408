# SPDX-License-Identifier: Apache-2.0
"""Trust updates: the holders of a device's trust keys replace its list of anchors.

Lists are numbered. Update N+1 needs signatures from the threshold of list N's trust keys and from
the threshold of its own. So neither a thief of one list's keys nor an owner without the next list's
keys can mislead a device. Dates and CRLs are not checked: an anchor retires when a list leaves it
out. docs/format.md has the template and the rules. This module reads no file, socket or clock.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fwsign.errors import Code, Malformed, Tampered, Unsuitable, Untrusted, check_limit
from fwsign.format import suit
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import Block, sig_structure, verify_signature
from fwsign.trust.envelope import Opened, decode_list, open_update
from fwsign.trust.lists import Floors, TrustState, Update, check_update, encode_trust
from fwsign.x509.anchor import Anchor

MAX_UPDATES: Final = 256
"""Updates of one chain; a device that missed more must be enrolled anew."""


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
    return _verify(current, open_update(data))


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
    for opened in map(open_update, updates):
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


def _verify(current: TrustState, opened: Opened) -> Update:
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
    update = decode_list(opened)
    check_update(update)
    _check_signed(update.trust, opened, "its own list")
    _check_epoch(current, update)
    return update


def _check_device(current: TrustState, manifest: suit.Manifest) -> None:
    codes: tuple[Code, Code] = ("unsuitable.vendor", "unsuitable.product")
    found, names = (manifest.vendor_id, manifest.class_id), (current.vendor, current.product)
    for code, own, other, name in zip(codes, current.identifiers, found, names, strict=True):
        if own != other:
            what = code.partition(".")[2]
            message = f'the trust update is for {what} {other.hex()}, this device is "{name}"'
            raise Unsuitable(code, message, expected=name, found=other.hex())


def _check_signed(trust: TrustState, opened: Opened, whose: str) -> None:
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


def _check_same(trust: TrustState, opened: Opened) -> None:
    """Refuse a list that has the number of the device's list but differs from it."""
    _check_device(trust, opened.manifest)
    _check_signed(trust, opened, f"list {trust.number}")
    if encode_trust(decode_list(opened).trust) != encode_trust(trust):
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
    return _signers(keys, open_update(data))


def _signers(keys: Iterable[Anchor], opened: Opened) -> tuple[str, ...]:
    """Each key counts once, however many blocks or anchors it has."""
    found = {
        anchor.spki
        for anchor in keys
        for block in opened.blocks
        if _is_signed(block, anchor, opened.signed)
    }
    return tuple(sorted(found))


def _is_signed(block: Block, anchor: Anchor, signed: bytes) -> bool:
    if block.algorithm not in ALGORITHMS:
        return False
    message = sig_structure(block.protected, signed)
    try:
        verify_signature(block.algorithm, anchor.key, message, block.signature)
    except (Malformed, Tampered):  # a key that does not fit the algorithm, or another key
        return False
    return True
