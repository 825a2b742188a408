# SPDX-License-Identifier: Apache-2.0
"""What a refused release or channel leaves behind: a receipt, and the CRLs that it brought.

A thief of a revoked key sends a release without the newest CRL, after the device refused one with
it. So the CRL of the refused one counts, as that of an accepted one does: if it verified in the
path of a signer of this vendor. What is refused for its age teaches too: its CRLs may be newer than
it is, since whoever serves it can renew them. Nothing else is learned: no floor, and no time.
"""

import contextlib
from typing import Final

from fwsign.errors import Failed, FwsignError, Stale, Untrusted
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import demands
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier

AGED: Final = ("unsuitable.rollback", "unsuitable.conflict", "unsuitable.fast-forward")
"""The codes about age, beside those of `Stale`: the number does not come after the last one."""


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
    if release is None and (isinstance(error, Untrusted | Stale) or error.code in AGED):
        with contextlib.suppress(FwsignError):
            anchors, base = demands(log.device, log.state)
            policy, _ = log.state.policy(base, None)
            verifier, at = Verifier(anchors, policy), log.at
            if kind == "channel":
                log.state.learn(verifier.teaching(envelope, at=at, use="configSigning"))
            else:
                log.state.learn(verifier.teaching(envelope, at=at))
