# SPDX-License-Identifier: Apache-2.0
"""One error root, six classes cut by what the caller does next, and the table of codes.

A code is stable: scripts may match it. Messages are for people and may change.
"""

from fwsign.errors.classes import (
    Failed,
    FwsignError,
    Malformed,
    Stale,
    Tampered,
    Unsuitable,
    Untrusted,
    check_limit,
)
from fwsign.errors.codes import CODES, Code

__all__ = [
    "CODES",
    "Code",
    "Failed",
    "FwsignError",
    "Malformed",
    "Stale",
    "Tampered",
    "Unsuitable",
    "Untrusted",
    "check_limit",
]
