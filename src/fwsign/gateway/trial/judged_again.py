# SPDX-License-Identifier: Apache-2.0
"""Judge a release again that this gateway accepted before: to go back to it, or to commit it.

Signatures, path, device and digests are verified anew, with the anchors of today. Revocation is
judged by every CRL that the memory holds today. Only the mere passing of time does not count: the
release is judged at the time at which it was judged when it came. Else a gateway without fresh CRLs
could never go back.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fwsign.errors import Failed, Tampered, Untrusted
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import demands
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.permits import allowed
from fwsign.memory.floors import Floor
from fwsign.verify.policy import DevicePolicy, enough_signers
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath
from fwsign.x509.revocation import CrlReader

_SECOND = timedelta(seconds=1)


class JudgedAgain(NamedTuple):
    """A release that was judged again.

    Args:
        release: the release.
        envelope: its envelope.
        anchors: the anchors that it was judged by.
        policy: the policy that it was judged by.
        at: the time that it was judged at.
        floor: the floor of today; None for a release that goes back, or the first one.
        waived: the reason why it would be refused, if the owner lets it return all the same.
    """

    release: VerifiedRelease
    envelope: bytes
    anchors: Sequence[Anchor]
    policy: DevicePolicy
    at: datetime
    floor: Floor | None = None
    waived: str | None = None

    def at_that_time(self, policy: DevicePolicy) -> DevicePolicy:
        """Return a policy without what the memory learned of the time since."""
        return policy._replace(time_floor=self.policy.time_floor, held=())


def judge_again(
    gateway: OpenGateway,
    record: ReleaseRecord,
    *,
    commit: bool = False,
    revoked_returns: bool = False,
) -> JudgedAgain:
    """Verify a kept release again.

    Args:
        gateway: the gateway at work.
        record: the memory's record of the release; only this very manifest is accepted.
        commit: also judge it by today's floor, which does not hold for the release before.
        revoked_returns: accept it although its signer was revoked since.

    Raises:
        FwsignError: as `Verifier.verify`; besides Tampered: `tampered.manifest`;
            Failed: `state.nothing`: it was not kept.
    """
    envelope = KeptReleases(gateway.target).envelope(record.manifest)
    if envelope is None or record.judged_at is None:
        raise Failed("state.nothing", f"release {record.sequence} was not kept")
    anchors, base = demands(gateway.device, gateway.state)
    held, floor = gateway.state.policy(base, None)
    then = datetime.fromisoformat(record.judged_at)
    policy = base._replace(revocation="off", time_floor=then)
    if commit:
        known = allowed(gateway.state, record.manifest)
        policy = policy._replace(
            min_sequence=held.min_sequence,
            recorded=held.recorded,
            permitted=bytes.fromhex(record.manifest) if known is not None else None,
        )
    # A clock behind the known time does not prove that a certificate is not valid yet.
    at = then - _SECOND
    release = Verifier(anchors, policy).verify(envelope, at=at)
    if release.manifest_digest.hex() != record.manifest:
        raise Tampered(
            "tampered.manifest",
            "the kept envelope is of another release than the memory names",
            expected=record.manifest,
            found=release.manifest_digest.hex(),
        )
    waived = None
    if base.revocation != "off":
        try:
            _refuse_revoked(release, held)
        except Untrusted as refusal:
            if not revoked_returns:
                raise
            waived = refusal.message
    return JudgedAgain(release, envelope, anchors, policy, at, floor, waived)


def _refuse_revoked(release: VerifiedRelease, policy: DevicePolicy) -> None:
    """Refuse a release that the CRLs held today leave too few signers.

    Raises:
        Untrusted: `untrusted.revoked`, `untrusted.crl`.
        Malformed: `malformed.crl`, `malformed.size`.
    """
    reader = CrlReader(policy.profile, (), policy.held)
    good: list[CertificationPath] = []
    refusals: list[Untrusted] = []
    for signer, path in release.counted:
        try:
            _check_signer(reader, signer, path)
        except Untrusted as refusal:
            refusals.append(refusal)
        else:
            good.append(path)
    if refusals and not enough_signers(policy, good):
        raise refusals[0]


def _check_signer(reader: CrlReader, signer: VerifiedSigner, path: CertificationPath) -> None:
    """Refuse a signer, or the authority of its time stamp, that was revoked."""
    stamped = signer.stamp.path if signer.stamp and signer.signed_at else None
    for one, signed_at in ((path, signer.signed_at), (stamped, None)):
        if one is not None:
            issued = [each for each in reader.collect(one).issued if each.crls]
            reader.check(issued, signer.now, signed_at, allow_stale=timedelta.max)
