# SPDX-License-Identifier: Apache-2.0
"""Decide whether a release may be installed: ten steps from bytes to a `VerifiedRelease`."""

from fwsign.verify.policy import DevicePolicy, Recorded, Slot
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor

__all__ = [
    "Anchor",
    "DevicePolicy",
    "Recorded",
    "Slot",
    "VerifiedRelease",
    "VerifiedSigner",
    "Verifier",
]
