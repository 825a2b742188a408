# SPDX-License-Identifier: Apache-2.0
"""Sign a channel, and verify it before it is returned."""

from collections.abc import Sequence
from datetime import datetime

from fwsign.format.channel import FORM, Channel, check_channel, encode_channel
from fwsign.format.statement import describe
from fwsign.signing.envelope import Identity, TimeStamping, check_margin, used_crls
from fwsign.signing.statement import sign_statement
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedChannel
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor


def sign(
    channel: Channel,
    identities: Sequence[Identity],
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> tuple[bytes, VerifiedChannel]:
    """Sign a channel, and verify it like a device.

    Args:
        channel: what it says.
        identities: one for each signature.
        anchors: the anchors that devices pin; only the check uses them.
        at: the present time, with a zone.
        tsa: stamps each signature.
        allow_example_keys: sign with the published keys of keys.example.
        force: sign although the clock is behind the CRLs, or a CRL goes stale within a day.

    Returns:
        The content of the `.channel` file, and the result of verifying it.

    Raises:
        FwsignError: a device would refuse the channel, or a CRL goes stale within a day.
        Failed: `state.clock`, `key.failed`, `key.mismatch`, and the errors of `tsa`.
    """
    check_channel(channel)
    content = encode_channel(channel)
    manifest = describe(FORM, channel.number, channel.identifiers, content, channel.expires)
    data, known = sign_statement(FORM, manifest, content, identities, at=at, tsa=tsa, force=force)
    policy = DevicePolicy(
        vendor=channel.vendor,
        product=channel.product,
        profile="compat",
        tsa_anchors=tsa.anchors if tsa else (),
        allow_example_keys=allow_example_keys,
    )
    verified = Verifier(anchors, policy).verify_channel(data, at=known, name=channel.name)
    if not force:
        check_margin(used_crls(verified), known)
    return data, verified
