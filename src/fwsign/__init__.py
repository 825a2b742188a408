# SPDX-License-Identifier: Apache-2.0
"""fwsign signs an update once, in release CI, and every later hop checks the same signature.

    from fwsign.verify import Anchor, DevicePolicy, Verifier

    verifier = Verifier(anchors=[Anchor.from_pem(root)],
                        policy=DevicePolicy(vendor="acme.example", product="gateway-x1"))
    release = verifier.verify(envelope, at=now)              # a VerifiedRelease, or FwsignError
    release.receive("build.bin", source=payload, sink=out)   # commit only after it has returned

The format is in docs/format.md, the codes are in `fwsign.errors`.
"""

__version__ = "0.1.0"
