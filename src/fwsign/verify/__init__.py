# SPDX-License-Identifier: Apache-2.0
"""Decide whether a release may be installed: ten steps from bytes to a `VerifiedRelease`.

Verify an envelope and its payload, before anything is applied:

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.errors import FwsignError
from fwsign.verify import Anchor, DevicePolicy, Verifier

verifier = Verifier(
    anchors=[Anchor.from_pem(Path("pki/ca.crt").read_bytes())],
    policy=DevicePolicy(
        vendor="acme.example",
        product="gateway-x1",
        min_sequence=0,  # the highest sequence number that this device has accepted
        revocation="require",
    ),
)
try:
    release = verifier.verify(Path("build.bin.suit").read_bytes(), at=datetime.now(UTC))
    with open("build.bin", "rb") as source, open("staged.bin", "wb") as sink:
        release.receive("build.bin", source, sink)
except FwsignError as refusal:
    raise SystemExit(f"do not install: {refusal.message}")
assert release.unchecked == ()  # or the names of the checks that were not made
```

`staged.bin` is good only after `receive` has returned. Verifying opens no file and no socket, reads
no clock, and needs `cryptography` alone. It returns or raises a `fwsign.errors.FwsignError`.
`verify_channel` verifies a channel, which says which releases are current; `why_not` tells whether
a device is in the rollout of one.
"""

from fwsign.format.rollout import why_not
from fwsign.verify.channel import SeenChannel
from fwsign.verify.policy import DevicePolicy, Recorded, Slot
from fwsign.verify.rule import parse_rule
from fwsign.verify.signer_policy import Role, SignerPolicy
from fwsign.verify.signers import Clause, Demand
from fwsign.verify.verified import VerifiedChannel, VerifiedRelease, VerifiedSigner
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor

__all__ = [
    "Anchor",
    "Clause",
    "Demand",
    "DevicePolicy",
    "Recorded",
    "Role",
    "SeenChannel",
    "SignerPolicy",
    "Slot",
    "VerifiedChannel",
    "VerifiedRelease",
    "VerifiedSigner",
    "Verifier",
    "parse_rule",
    "why_not",
]
