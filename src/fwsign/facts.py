# SPDX-License-Identifier: Apache-2.0
"""What receipts and --json say of a release and of those who signed it: each name stands here."""

from typing import Any

from fwsign.verified import Signer, VerifiedRelease


def release_facts(release: VerifiedRelease) -> dict[str, Any]:
    """Return what identifies a release."""
    text = release.text
    return {
        "manifest_digest": release.manifest_digest.hex(),
        "vendor": release.vendor,
        "product": text.product if text else None,
        "version": text.version if text else None,
        "sequence_number": release.manifest.sequence_number,
    }


def signer_facts(signer: Signer) -> dict[str, Any]:
    """Return who made a signature, with what and when; None is not known."""
    path = signer.path
    return {
        "name": path.name if path else None,
        "key": path.keys[0] if path else None,
        "algorithm": signer.algorithm,
        "signed_at": signer.signed_at.isoformat() if signer.signed_at else None,
    }
