# SPDX-License-Identifier: Apache-2.0
"""What a refused release leaves behind: a receipt, and the CRLs that revoke its signer.

A thief of a revoked key sends a release without the newest CRL, after the device refused one with
it. So the CRL of the refused release counts, as that of an accepted one does: if it verified in the
path of a signer of this vendor. Nothing else of it is learned: no floor, and no time.
"""

import contextlib

from fwsign.errors import Failed, FwsignError, Untrusted
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import demands
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier


def record(
    log: Log,
    envelope: bytes,
    error: FwsignError,
    release: VerifiedRelease | None = None,
    *,
    kind: str = "install",
) -> None:
    """Write a receipt of a refusal, or of an accepted release that failed; keep newer CRLs.

    Nothing is raised, so that the first error is the one that people see.

    Args:
        log: the log of a device and its memory.
        envelope: the envelope.
        error: the refusal; one that says nothing of the envelope is not written.
        release: the release, if it was accepted.
        kind: the action, such as "channel" for a channel that was refused.
    """
    if release is None and isinstance(error, Failed):
        return
    with contextlib.suppress(FwsignError):
        result = "incomplete" if release else "refused"
        log.add(result, kind=kind, release=release, envelope=envelope, error=error)
    if release is None and isinstance(error, Untrusted):
        with contextlib.suppress(FwsignError):
            anchors, base = demands(log.device, log.state)
            policy, _ = log.state.policy(base, None)
            verifier, at = Verifier(anchors, policy), log.at
            if kind == "channel":
                log.state.learn(verifier.teaching(envelope, at=at, use="configSigning"))
            else:
                log.state.learn(verifier.teaching(envelope, at=at))
