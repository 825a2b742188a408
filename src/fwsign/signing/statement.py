# SPDX-License-Identifier: Apache-2.0
"""Sign a statement for devices: a channel, for one."""

from collections.abc import Sequence
from datetime import datetime

from fwsign.format import suit
from fwsign.format.envelope import encode_manifest_digest
from fwsign.format.statement import Form, encode_statement
from fwsign.signing import parsed
from fwsign.signing.envelope import Identity, TimeStamping, check_clock, known_time, sign_block


def sign_statement(
    form: Form,
    manifest: suit.Manifest,
    content: bytes,
    identities: Sequence[Identity],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    force: bool = False,
) -> tuple[bytes, datetime]:
    """Sign a statement; the caller verifies it before it leaves.

    Args:
        form: its form.
        manifest: its manifest, as `fwsign.format.statement.describe` makes it.
        content: its content.
        identities: one for each signature.
        at: the present time, with a zone.
        tsa: stamps each signature.
        force: sign although the clock is behind the CRLs.

    Returns:
        The envelope, and the time to verify it at: that of the latest CRL if the clock is behind.

    Raises:
        Failed: `state.clock`, `key.failed`, `key.mismatch`, and the errors of `tsa`.
    """
    crls = [parsed.crl(crl) for identity in identities for crl in identity.crls]
    if not force:
        check_clock(crls, at)
    payload = encode_manifest_digest(suit.encode_manifest(manifest))
    blocks = [
        sign_block(identity, parsed.certificate(identity.chain[0]), payload, tsa)
        for identity in identities
    ]
    return encode_statement(form, manifest, content, blocks), known_time(crls, at)
