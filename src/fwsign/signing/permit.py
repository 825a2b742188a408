# SPDX-License-Identifier: Apache-2.0
"""Sign a permit, and verify it before it is returned."""

from collections.abc import Sequence
from datetime import datetime

from fwsign.format.permit import FORM, Permit, check_permit, encode_permit
from fwsign.signing.envelope import Identity, TimeStamping
from fwsign.signing.statement import Statement, sign_statement
from fwsign.verify.permit import VerifiedPermit
from fwsign.x509.anchor import Anchor


def sign(
    permit: Permit,
    identities: Sequence[Identity],
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> tuple[bytes, VerifiedPermit]:
    """Sign a permit, and verify it like its device.

    Args:
        permit: what it says.
        identities: one for each signature, of signers of releases.
        anchors: the anchors that devices pin; only the check uses them.
        at: the present time, with a zone.
        tsa: stamps each signature.
        allow_example_keys: sign with the published keys of keys.example.
        force: sign although the clock is behind the CRLs, or a CRL goes stale within a day.

    Returns:
        The content of the `.permit` file, and the result of verifying it.

    Raises:
        FwsignError: a device would refuse the permit, or a CRL goes stale within a day.
        Failed: `state.clock`, `key.failed`, `key.mismatch`, and the errors of `tsa`.
    """
    check_permit(permit)
    said = Statement(
        FORM,
        permit.vendor,
        permit.product,
        permit.made,
        permit.identifiers,
        encode_permit(permit),
        permit.expires,
    )
    return sign_statement(
        said,
        identities,
        anchors,
        lambda device, data, known: device.verify_permit(
            data, at=known, device=permit.device, release=permit.release
        ),
        at=at,
        tsa=tsa,
        allow_example_keys=allow_example_keys,
        force=force,
    )
