# SPDX-License-Identifier: Apache-2.0
"""Sign a channel, and verify it before it is returned."""

from collections.abc import Sequence
from datetime import datetime

from fwsign.format.channel import FORM, Channel, check_channel, encode_channel
from fwsign.signing.envelope import Identity, TimeStamping
from fwsign.signing.statement import Statement, sign_statement
from fwsign.verify.verified import VerifiedChannel
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
    said = Statement(
        FORM,
        channel.vendor,
        channel.product,
        channel.number,
        channel.identifiers,
        encode_channel(channel),
        channel.expires,
    )
    return sign_statement(
        said,
        identities,
        anchors,
        lambda device, data, known: device.verify_channel(data, at=known, name=channel.name),
        at=at,
        tsa=tsa,
        allow_example_keys=allow_example_keys,
        force=force,
    )
