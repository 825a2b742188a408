# SPDX-License-Identifier: Apache-2.0
"""One error root, six classes cut by what the caller does next, and the table of codes.

A code is stable: scripts may match it. Messages are for people and may change.

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.errors import CODES, Failed, FwsignError, Stale, Unsuitable
from fwsign.verify import Anchor, DevicePolicy, Verifier

anchor = Anchor.from_pem(Path("pki/ca.crt").read_bytes())
verifier = Verifier([anchor], DevicePolicy(vendor="acme.example", product="thermostat"))
try:
    verifier.verify(Path("build.bin.suit").read_bytes(), at=datetime.now(UTC))
    answer = "receive its payloads"
except Stale:
    answer = "fetch a newer release, or newer CRLs"
except Unsuitable as refusal:
    answer = f"for another device: {refusal.found}, not {refusal.expected}"
except Failed as failure:
    answer = f"repair it and try again: {failure.message}"
except FwsignError as refusal:  # Malformed, Tampered, Untrusted
    answer = f"never use it: {refusal.code}, at step {refusal.step}: {CODES[refusal.code]}"
assert answer == "for another device: gateway-x1, not thermostat"
```
"""

from typing import TYPE_CHECKING

from fwsign.errors.classes import (
    Failed,
    FwsignError,
    Malformed,
    Stale,
    Tampered,
    Unsuitable,
    Untrusted,
)
from fwsign.errors.classes import check_limit as check_limit  # for our own modules, not public

if TYPE_CHECKING:
    from fwsign.errors.codes import CODES, Code
else:
    from fwsign.errors.classes import Code

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
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import the table of codes on its first use: no decision needs it (PEP 562)."""
        if name != "CODES":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fwsign.errors.codes import CODES

        return CODES
