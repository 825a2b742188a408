# SPDX-License-Identifier: Apache-2.0
"""The facts about a release and its signers that receipts and --json share, under one name."""

from typing import Any

from fwsign.verify.verified import VerifiedRelease, VerifiedSigner


def release_facts(release: VerifiedRelease) -> dict[str, Any]:
    """Return the facts that identify a release."""
    text = release.text
    return {
        "manifest_digest": release.manifest_digest.hex(),
        "vendor": release.vendor,
        "product": text.product if text else None,
        "version": text.version if text else None,
        "sequence_number": release.manifest.sequence_number,
    }


def signer_facts(signer: VerifiedSigner) -> dict[str, Any]:
    """Return a signature's signer, algorithm and time; None stands for unknown."""
    path = signer.path
    return {
        "name": path.name if path else None,
        "key": path.keys[0] if path else None,
        "algorithm": signer.algorithm,
        "signed_at": signer.signed_at.isoformat() if signer.signed_at else None,
    }
