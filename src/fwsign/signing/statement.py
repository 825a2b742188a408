# SPDX-License-Identifier: Apache-2.0
"""Sign a statement for devices, a channel or a permit, and verify it before it is returned."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

from fwsign.format.envelope import encode_manifest_digest
from fwsign.format.statement import Form, describe, encode_statement
from fwsign.format.suit import encode_manifest
from fwsign.signing import parsed
from fwsign.signing.envelope import (
    Identity,
    TimeStamping,
    check_clock,
    check_margin,
    known_time,
    sign_block,
    used_crls,
)
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import Verified
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor

_Accepted = TypeVar("_Accepted", bound=Verified)


class Statement(NamedTuple):
    """What is to be signed.

    Args:
        form: the form of its kind.
        vendor: the vendor's domain.
        product: the product's name.
        number: the number of its manifest.
        identifiers: vendor and product, as a manifest names them.
        content: its content.
        expires: the Unix time of its expiry.
    """

    form: Form
    vendor: str
    product: str
    number: int
    identifiers: tuple[bytes, bytes]
    content: bytes
    expires: int


def sign_statement(
    said: Statement,
    identities: Sequence[Identity],
    anchors: Sequence[Anchor],
    verify: Callable[[Verifier, bytes, datetime], _Accepted],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> tuple[bytes, _Accepted]:
    """Sign a statement, and verify it like a device.

    Args:
        said: the statement.
        identities: one for each signature; the device demands as many.
        anchors: the anchors that devices pin; only the check uses them.
        verify: verifies a statement of this kind, at a time.
        at: the present time, with a zone.
        tsa: stamps each signature; the device must accept each token.
        allow_example_keys: sign with the published keys of keys.example.
        force: sign although the clock is behind the CRLs, or a CRL goes stale within a day.

    Returns:
        The envelope, and the result of verifying it: at the time of the latest CRL if the clock is
        behind.

    Raises:
        FwsignError: a device would refuse it, or a CRL goes stale within a day.
        Failed: `state.clock`, `key.failed`, `key.mismatch`, and the errors of `tsa`.
    """
    crls = [parsed.crl(crl) for identity in identities for crl in identity.crls]
    if not force:
        check_clock(crls, at)
    manifest = describe(said.form, said.number, said.identifiers, said.content, said.expires)
    payload = encode_manifest_digest(encode_manifest(manifest))
    blocks = [
        sign_block(identity, parsed.certificate(identity.chain[0]), payload, tsa)
        for identity in identities
    ]
    data, known = encode_statement(said.form, manifest, said.content, blocks), known_time(crls, at)
    policy = DevicePolicy(
        vendor=said.vendor,
        product=said.product,
        threshold=len(identities),
        profile="compat",
        tsa_anchors=tsa.anchors if tsa else (),
        allow_example_keys=allow_example_keys,
    )
    verified = verify(Verifier(anchors, policy), data, known)
    _refuse_tokens(verified)
    if not force:
        check_margin(used_crls(verified), known)
    return data, verified


def _refuse_tokens(verified: Verified) -> None:
    """Refuse a time-stamp token that does not count: to devices it would be none."""
    for one in verified.signers:
        if one.stamp is not None and one.stamp.refusal is not None:
            raise one.stamp.refusal
