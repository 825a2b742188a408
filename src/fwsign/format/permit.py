# SPDX-License-Identifier: Apache-2.0
"""Permits as bytes: one device may install one release, although that is below its floor.

A permit is a statement: its manifest has the time at which it was made as its number, and its
expiry, its content the rest. Who signs releases signs permits.
"""

from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed
from fwsign.format import cbor, suit
from fwsign.format.algorithms import DIGESTS
from fwsign.format.envelope import Envelope
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.statement import Content, Form, open_statement
from fwsign.format.text import MAX_NAME_LENGTH

FORM: Final = Form("permit", "content", expires=True)
ID_SIZE: Final = 16
"""Bytes of a permit's random id."""
MAX_DEVICE: Final = 200
"""Bytes of a device's id."""
MAX_LIFE: Final = 90 * 24 * 3600
"""Seconds from making to expiry. A device remembers a used permit until it has expired."""
_DIGEST_SIZES: Final = frozenset(one.size for one in DIGESTS.values())


class Permit(NamedTuple):
    """The content of a permit, with the number and the expiry of its manifest.

    Args:
        vendor: the vendor's domain.
        product: the product's name.
        device: the device's id, as its receipts name it.
        release: the manifest digest of the release that may be installed.
        sequence_number: that release's sequence number.
        id: a random value, so that no two permits are the same.
        made: the Unix time at which it was made.
        expires: the Unix time from which on it permits nothing.
    """

    vendor: str
    product: str
    device: str
    release: bytes
    sequence_number: int
    id: bytes
    made: int
    expires: int

    @property
    def identifiers(self) -> tuple[bytes, bytes]:
        """Vendor and product, as a manifest names them."""
        return vendor_id(self.vendor), class_id(self.vendor, self.product)


def encode_permit(permit: Permit) -> bytes:
    """Encode the content of a permit; inverse of `decode_permit`."""
    content: dict[int, Any] = dict(enumerate(permit[:6], 1))
    return cbor.encode(content)


def read_permit(envelope: Envelope) -> Permit:
    """Read a permit without verifying who signed it: to show it, never to use it.

    Raises:
        FwsignError: as `open_statement` and `decode_permit`.
    """
    return decode_permit(open_statement(FORM, envelope))


def decode_permit(opened: Content) -> Permit:
    """Decode the content of an opened permit: read it, check it, write it, compare.

    Raises:
        Malformed: `malformed.permit`, `malformed.cbor`.
    """
    manifest = opened.manifest
    match cbor.decode(opened.content):
        case {
            1: str(vendor),
            2: str(product),
            3: str(device),
            4: bytes(release),
            5: int(number),
            6: bytes(own),
        }:
            pass
        case _:
            raise _bad("it matches no template")
    times = manifest.sequence_number, manifest.use_before or 0
    permit = Permit(vendor, product, device, release, number, own, *times)
    check_permit(permit)
    if encode_permit(permit) != opened.content:
        raise _bad("it has more, or another form, than its template")
    if permit.identifiers != (manifest.vendor_id, manifest.class_id):
        raise _bad("it is for another product than its manifest")
    return permit


def check_permit(permit: Permit) -> None:
    """Refuse a permit that no device may use.

    Raises:
        Malformed: `malformed.permit`.
    """
    lines = (
        ("vendor", permit.vendor, MAX_NAME_LENGTH),
        ("product", permit.product, MAX_NAME_LENGTH),
        ("device", permit.device, MAX_DEVICE),
    )
    for words, text, most in lines:
        fine = text.isprintable() and 1 <= len(text.encode()) <= most
        _demand(fine, f"{words} {text!r:.80}, no line of printable text")
    size = len(permit.release)
    _demand(size in _DIGEST_SIZES, f"a manifest digest of {size} bytes")
    fine = not isinstance(permit.sequence_number, bool)
    fine = fine and 0 <= permit.sequence_number <= suit.MAX_SEQUENCE_NUMBER
    _demand(fine, f"a sequence number that is not one from 0 to {suit.MAX_SEQUENCE_NUMBER}")
    _demand(len(permit.id) == ID_SIZE, f"an id of {len(permit.id)} bytes, not {ID_SIZE}")
    life = permit.expires - permit.made
    _demand(0 < life <= MAX_LIFE, f"{life} seconds from making to expiry, not 1 to {MAX_LIFE}")


def _demand(fine: bool, what: str) -> None:
    if not fine:
        raise _bad(what)


def _bad(what: str) -> Malformed:
    return Malformed("malformed.permit", f"the permit cannot be used: {what}", found=what)
