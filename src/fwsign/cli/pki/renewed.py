# SPDX-License-Identifier: Apache-2.0
"""What becomes of a certificate that was renewed, and of the things that it vouches for."""

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING

from fwsign.errors import Failed

if TYPE_CHECKING:
    from cryptography import x509

    from fwsign.pki.directory import Pki


def about_the_old(pki: "Pki", old: "x509.Certificate", now: datetime) -> tuple[str, ...]:
    """Return notes about the renewed certificate and the things that it vouches for."""
    from fwsign.pki.entry_names import TLS
    from fwsign.pki.index import serial_text
    from fwsign.pki.leaves import leaf_of

    if gone := why_bad(pki, old, now):
        return (f"the old one {gone}: devices refuse it, whatever it vouches for",)
    end, serial = f"{old.not_valid_after_utc:%Y-%m-%d}", serial_text(old.serial_number)
    leaf = leaf_of(old)
    if leaf is not None and leaf.kind in TLS:
        return (f"the old one is good until {end}: revoke {serial} when the new one is in use",)
    return (
        f"what the old one vouches for stays good until {end}: sign anew what must last longer",
        f"revoke {serial} only if its key leaked: devices then refuse all that it vouches for",
    )


def why_bad(pki: "Pki", certificate: "x509.Certificate", now: datetime) -> str:
    """Return why a certificate no longer counts; empty if it counts, as far as known here."""
    from fwsign.pki.expiry import dead_above

    if gone := revoked(pki, certificate):
        return gone
    end = certificate.not_valid_after_utc
    if end <= now:
        return f"ended {end:%Y-%m-%d}"
    with contextlib.suppress(Failed):
        if above := dead_above(pki, certificate, now):
            what = "was revoked" if above.revoked else "ended"
            return f'is below "{above.name}", which {what} {above.time:%Y-%m-%d}'
    return ""


def revoked(pki: "Pki", certificate: "x509.Certificate") -> str:
    """Say when a certificate was revoked; empty if it was not, as far as known here."""
    with contextlib.suppress(Failed):  # its issuer's CRL may be elsewhere
        if (entry := pki.revocation_of(certificate)) is not None:
            return f"was revoked {entry.revocation_date_utc:%Y-%m-%d}"
    return ""


def lost_names(old: "x509.Certificate", new: "x509.Certificate") -> str:
    """Return the alternative names of an imported certificate that its renewal left out."""
    from fwsign.pki.view.entry import facts

    kept = {one.lower() for one in facts(new).names}
    return ", ".join(one for one in facts(old).names if one.lower() not in kept)
