# SPDX-License-Identifier: Apache-2.0
"""Encode and decode the list of anchors that trust updates carry and devices keep."""

from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Malformed, Untrusted, check_limit
from fwsign.format import cbor, suit
from fwsign.format.cose import MAX_CERTIFICATE_SIZE, algorithm_for
from fwsign.format.envelope import MAX_BLOCKS
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.text import MAX_NAME_LENGTH
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.x509.anchor import Anchor
from fwsign.x509.constraints import is_domain

Role: TypeAlias = Literal["release", "trust", "tsa"]
ROLES: Final[tuple[Role, ...]] = ("release", "trust", "tsa")
"""The roles of an anchor: it may vouch for releases, trust updates or time-stamp tokens."""

MAX_ANCHORS: Final = 32
"""Anchors of one list; each costs a signature check per block."""
MAX_VENDORS: Final = 32
"""Domains that one anchor may be limited to."""
MAX_THRESHOLD: Final = MAX_BLOCKS // 2
"""Trust keys that must sign; the keys of two lists without a common key fit in one envelope."""


class TrustAnchor(NamedTuple):
    """An anchor with its roles, each once and in the order of `ROLES`."""

    anchor: Anchor
    roles: tuple[Role, ...]


class TrustState(NamedTuple):
    """The list of anchors that a device trusts.

    Args:
        vendor: the device's vendor, a domain.
        product: the device's product.
        number: the number of the update that brought the list; 0 for the enrolled list.
        epoch: a count that updates raise to reset floors.
        threshold: the number of distinct trust keys that must sign the next list.
        anchors: all of them, each key once.
    """

    vendor: str
    product: str
    number: int
    epoch: int
    threshold: int
    anchors: tuple[TrustAnchor, ...]

    @property
    def identifiers(self) -> tuple[bytes, bytes]:
        """Vendor and product, as a manifest names them."""
        return vendor_id(self.vendor), class_id(self.vendor, self.product)

    def anchors_for(self, role: Role) -> tuple[Anchor, ...]:
        """The anchors that have a role."""
        return tuple(one.anchor for one in self.anchors if role in one.roles)


class Floors(NamedTuple):
    """The floors that an update sets when it raises the epoch; None leaves a floor unchanged.

    Args:
        sequence: the lowest sequence number accepted for the product.
        time: a Unix time in seconds that is known to have passed.
    """

    sequence: int | None = None
    time: int | None = None


class Update(NamedTuple):
    """A list of anchors, and the floors that come with it."""

    trust: TrustState
    floors: Floors = Floors()


def check_update(update: Update) -> None:
    """Refuse a list that would lock its devices out or cannot be intended.

    Raises:
        Malformed: `malformed.trust`.
        Untrusted: `untrusted.example-key`.
    """
    trust = update.trust
    keys = [one.anchor.spki for one in trust.anchors]
    trusted = trust.anchors_for("trust")
    _demand(trust.number >= 1, f"number {trust.number}: numbers begin with 1")
    _demand(len(set(keys)) == len(keys), "one key twice")
    _demand(bool(trust.anchors_for("release")), "no anchor for releases")
    for anchor in trusted:
        able = algorithm_for(anchor.key) is not None
        _demand(able, f'the trust key "{anchor.name}", of a kind or size that cannot sign')
    _demand(trust.threshold >= 1, "a threshold of 0")
    _demand(
        trust.threshold <= min(len(trusted), MAX_THRESHOLD),
        f"a threshold of {trust.threshold} of {len(trusted)} trust keys, at most {MAX_THRESHOLD}",
    )
    if published := EXAMPLE_SPKI.intersection(keys):
        raise Untrusted(
            "untrusted.example-key",
            "the list has a published example key, which anyone can use",
            found=min(published),
        )


def _demand(fine: bool, what: str) -> None:
    if not fine:
        raise Malformed("malformed.trust", f"the list has {what}", found=what)


def encode_trust(trust: TrustState) -> bytes:
    """Encode a list for a device's memory."""
    return cbor.encode((trust.number, encode_content(Update(trust))))


def decode_trust(data: bytes) -> TrustState:
    """Decode a list; inverse of `encode_trust`.

    Raises:
        Malformed: `malformed.*`.
    """
    match cbor.decode(data):
        case (int(number), bytes(content)):
            return decode_content(content, number).trust
    raise Malformed("malformed.trust", "not a list of anchors as it is kept")


def encode_content(update: Update) -> bytes:
    """Encode the payload of a trust update; inverse of `decode_content`."""
    trust = update.trust
    content: dict[int, Any] = {
        1: trust.vendor,
        2: trust.product,
        3: trust.epoch,
        4: trust.threshold,
        5: tuple(map(_encode_anchor, trust.anchors)),
    }
    stated = {key: floor for key, floor in enumerate(update.floors, 1) if floor is not None}
    if stated:
        content[6] = stated
    return cbor.encode(content)


def _encode_anchor(one: TrustAnchor) -> dict[int, Any]:
    anchor = one.anchor
    if anchor.certificate is not None:
        pinned = (2, anchor.certificate.parsed.public_bytes(Encoding.DER))
    else:
        form = PublicFormat.SubjectPublicKeyInfo
        pinned = (3, anchor.key.public_bytes(Encoding.DER, form))
    vendors = {4: anchor.vendors} if anchor.vendors else {}
    return {1: one.roles, **dict([pinned]), **vendors}


def decode_content(data: bytes, number: int) -> Update:
    """Decode a list: read it, write it, compare.

    Args:
        data: the payload of a trust update.
        number: the number of the update.

    Raises:
        Malformed: `malformed.trust`, `malformed.cbor`, `malformed.size`, `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    match cbor.decode(data):
        case {1: str(vendor), 2: str(product), 3: epoch, 4: threshold, 5: tuple(anchors), **rest}:
            pass
        case _:
            raise _bad_list("it matches no template")
    if not is_domain(vendor):
        raise _bad_list(f"vendor {vendor!r:.80} is not a lower-case domain")
    if not 1 <= len(product.encode()) <= MAX_NAME_LENGTH or not product.isprintable():
        raise _bad_list(f"product {product!r:.80} is no line of printable text")
    check_limit(len(anchors), MAX_ANCHORS, f"{len(anchors)} anchors")
    trust = TrustState(
        vendor,
        product,
        number,
        _number(epoch, "epoch", suit.MAX_SEQUENCE_NUMBER),
        _number(threshold, "threshold", MAX_ANCHORS),
        tuple(map(_anchor, anchors)),
    )
    update = Update(trust, _floors(rest.get(6, {})))
    if encode_content(update) != data:
        raise _bad_list("it has more, or another form, than its template")
    return update


def _floors(value: Any) -> Floors:
    if not isinstance(value, dict):
        raise _bad_list("its floors are not a map")
    sequence, time = value.get(1), value.get(2)
    return Floors(
        None if sequence is None else _number(sequence, "floor", suit.MAX_SEQUENCE_NUMBER),
        None if time is None else _number(time, "time floor", suit.MAX_TIME),
    )


def _anchor(value: Any) -> TrustAnchor:
    match value:
        case {1: tuple(roles), **rest} if roles and roles == tuple(r for r in ROLES if r in roles):
            vendors = rest.get(4, ())
        case _:
            raise _bad_list(f"an anchor without roles of {', '.join(ROLES)}, in this order")
    if not isinstance(vendors, tuple):
        raise _bad_list("vendors of an anchor that are not an array")
    check_limit(len(vendors), MAX_VENDORS, f"{len(vendors)} vendors of one anchor")
    if not all(isinstance(one, str) and is_domain(one) for one in vendors):
        raise _bad_list("vendors of an anchor that are not lower-case domains")
    kept = cast(tuple[Role, ...], roles)
    match rest:
        case {2: bytes(certificate)}:
            check_limit(len(certificate), MAX_CERTIFICATE_SIZE, "a certificate beyond the limit")
            return TrustAnchor(Anchor.from_certificate(certificate, vendors), kept)
        case {3: bytes(spki)}:
            check_limit(len(spki), MAX_CERTIFICATE_SIZE, "a public key beyond the limit")
            return TrustAnchor(Anchor.from_public_key(spki, vendors), kept)
    raise _bad_list("an anchor without certificate or public key")


def _number(value: Any, what: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise _bad_list(f"its {what} is not a number from 0 to {limit}")
    return value


def _bad_list(message: str) -> Malformed:
    return Malformed("malformed.trust", f"not a trust update of this profile: {message}")
