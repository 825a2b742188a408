# SPDX-License-Identifier: Apache-2.0
"""Judge a time-stamp token by a device's policy.

A token is not bound to its block: anyone can remove it, or replace it by other bytes. So a faulty
token counts like a missing one (docs/adr/0010).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fwsign.errors import FwsignError, Untrusted
from fwsign.verify.policy import DevicePolicy, refuse_example
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.revocation import CrlReader, Issued, check_kept, updates
from fwsign.x509.token import check_imprint, check_signature, parse_token


class Stamp(NamedTuple):
    """The verdict on a block's token.

    Args:
        signed_at: the time that it proves, None if it does not count.
        path: the TSA's path, None if validation did not get that far.
        issued: the path's certificates, with the verified CRLs of their issuers.
        revocation_checked: whether the TSA's revocation was judged.
        notes: notes for the caller.
        refusal: the reason why it does not count.
    """

    signed_at: datetime | None = None
    path: CertificationPath | None = None
    issued: tuple[Issued, ...] = ()
    revocation_checked: bool = False
    notes: tuple[str, ...] = ()
    refusal: FwsignError | None = None


def judge_token(
    data: bytes,
    signature: bytes,
    policy: DevicePolicy,
    crls: CrlReader,
    *,
    stapled: Sequence[bytes],
    known: datetime,
    at_hand: bool,
) -> Stamp:
    """Judge the token that is stapled to a signature.

    Anyone can remove or replace a token. So a token that fails any check counts like a missing
    one, and the result gives the reason.

    Args:
        data: the token, a ContentInfo in DER.
        signature: the block's signature, as in COSE.
        policy: the device's demands.
        crls: the reader of the CRLs at hand.
        stapled: the CRLs that came with the block, in DER.
        known: a time that is known to have passed.
        at_hand: whether any CRL is at hand for the signer's own path.
    """
    stamp = Stamp()
    try:
        token = parse_token(data)
        check_imprint(token, signature)
        if not policy.tsa_anchors:
            raise Untrusted("untrusted.no-anchor", "no time-stamping authority is pinned")
        path = validate_path(
            token.certificates, policy.tsa_anchors, profile=policy.profile, use="timeStamping"
        )
        refuse_example(policy, path)
        check_signature(token, path.certificates[0].key)
        issued, forgiven = crls.collect(path, stapled)
        stamp = Stamp(path=path, issued=issued)
        now = max(known, token.gen_time, *updates(issued))
        check_dates(path, token.gen_time, when="its time stamp says")
        check_kept(issued, now)
        notes: tuple[str, ...] = ()
        own = any(one.crls for one in issued)
        if checked := policy.judges_revocation(at_hand=at_hand or own):
            # Never at its own time: a thief of a revoked TSA's key can choose that freely.
            notes = crls.check(issued, now, allow_stale=policy.allow_stale)
    except FwsignError as refusal:
        return stamp._replace(refusal=refusal)
    return Stamp(token.gen_time, path, issued, checked, (*path.forgiven, *forgiven, *notes))
