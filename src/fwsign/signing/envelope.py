# SPDX-License-Identifier: Apache-2.0
"""Sign a release, and verify the envelope before it is returned."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from fwsign.errors import Failed, Stale
from fwsign.format import suit
from fwsign.format.algorithms import SHA256
from fwsign.format.cose import (
    Block,
    encode_block,
    protected_header,
    sig_structure,
)
from fwsign.format.envelope import (
    Envelope,
    encode_envelope,
    encode_manifest_digest,
)
from fwsign.format.payload import digest
from fwsign.format.text import decode_text
from fwsign.keys import Signer
from fwsign.signing import parsed
from fwsign.signing.checked import check_key, sign_message
from fwsign.signing.release import Release
from fwsign.signing.stapling import carried_crls
from fwsign.spans import CLOCK_TOLERANCE
from fwsign.verify.policy import DevicePolicy, Slot
from fwsign.verify.verified import Verified, VerifiedRelease
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, parse_certificate
from fwsign.x509.crl import Crl

CRL_MARGIN: Final = timedelta(days=1)
"""A CRL that goes stale sooner would stop the update before it reaches its devices."""
CRL_WARNING: Final = timedelta(days=30)
"""A CRL that goes stale sooner deserves a note: slow devices would refuse the update."""


class Identity(NamedTuple):
    """A signer, and the parts of its PKI that an envelope must carry.

    Args:
        signer: holds the key.
        chain: DER certificates, leaf first, without the anchor.
        crls: the CRLs of every issuer in the path, in DER.
    """

    signer: Signer
    chain: tuple[bytes, ...]
    crls: tuple[bytes, ...] = ()


class TimeStamping(NamedTuple):
    """The source of time-stamp tokens.

    Args:
        request: returns a token for a signature, as `fwsign.signing.tsa_client.request_token` does.
        anchors: the anchors that devices pin for the authority.
    """

    request: Callable[[bytes], bytes]
    anchors: tuple[Anchor, ...]


def sign(
    release: Release,
    identities: Sequence[Identity],
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> tuple[bytes, VerifiedRelease]:
    """Sign a release, and verify the envelope like a device.

    If the clock is behind the CRLs, the envelope is verified at the time that they prove.

    Args:
        release: the release to sign.
        identities: one for each signature.
        anchors: the anchors that devices pin; only the check uses them.
        at: the present time, with a zone.
        tsa: stamps each signature; a device that pins it must accept the token.
        allow_example_keys: sign with the published keys of keys.example.
        force: sign although the clock is behind the CRLs, or a CRL goes stale within a day.

    Returns:
        The envelope, and the result of verifying it.

    Raises:
        FwsignError: a device would refuse the envelope, or a CRL goes stale within a day.
        Failed: `state.clock`: the clock is behind the CRLs; `key.failed`, `key.mismatch`, and
            the errors of `tsa`.
    """
    crls = [parsed.crl(crl) for identity in identities for crl in identity.crls]
    known = known_time(crls, at)
    if not force:
        check_clock(crls, at)
    manifest = suit.encode_manifest(release.manifest)
    payload = encode_manifest_digest(manifest)
    leaves = [parsed.certificate(identity.chain[0]) for identity in identities]
    blocks = tuple(
        sign_block(identity, leaf, payload, tsa)
        for identity, leaf in zip(identities, leaves, strict=True)
    )
    envelope = encode_envelope(
        Envelope(payload, blocks, manifest, release.text, release.integrated)
    )
    policy = _device_policy(release, leaves, tsa)._replace(allow_example_keys=allow_example_keys)
    return envelope, _accepted(envelope, release, anchors, policy, known, force=force)


def verify_signed(
    envelope: bytes,
    release: Release,
    leaf: bytes,
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
) -> VerifiedRelease:
    """Verify an envelope that was signed earlier, like the device that `sign` has in mind.

    Args:
        envelope: the envelope.
        release: the release that it should hold.
        leaf: the certificate of a signer that must count.
        anchors: as for `sign`, as are the others.
        at: the present time, with a zone.
        tsa: a token of these authorities is demanded.
        allow_example_keys: as for `sign`.

    Raises:
        FwsignError: a device would refuse the envelope, or a CRL goes stale within a day.
    """
    certificate = parse_certificate(leaf)
    policy = _device_policy(release, [certificate], tsa)._replace(
        allow_example_keys=allow_example_keys, slots=(Slot(certificate.name, certificate.spki),)
    )
    known = known_time(carried_crls(envelope), at)
    return _accepted(envelope, release, anchors, policy, known, force=False)


def _accepted(
    envelope: bytes,
    release: Release,
    anchors: Sequence[Anchor],
    policy: DevicePolicy,
    at: datetime,
    *,
    force: bool,
) -> VerifiedRelease:
    """Verify an envelope and its payloads inside."""
    verified = Verifier(anchors, policy).verify(envelope, at=at)
    for component in verified.components:
        if component.uri in release.integrated:
            verified.receive(component)
    if not force:
        check_margin(used_crls(verified), at)
    return verified


def _device_policy(
    release: Release, leaves: Sequence[Certificate], tsa: TimeStamping | None
) -> DevicePolicy:
    """Return the policy of a device that demands all of these signatures and tokens."""
    text = decode_text(release.text, release.manifest)
    return DevicePolicy(
        vendor=text.vendor,
        product=text.product,
        threshold=len({leaf.spki for leaf in leaves}),
        profile="compat",
        pinned_vendors={leaf.spki: (text.vendor,) for leaf in leaves},
        require_token=tsa is not None,
        tsa_anchors=tsa.anchors if tsa else (),
    )


def sign_block(
    identity: Identity, leaf: Certificate, payload: bytes, tsa: TimeStamping | None
) -> bytes:
    """Sign a SUIT_Digest, and return the block.

    Raises:
        Failed: `key.mismatch`, `key.failed`, and the errors of signer and `tsa`.
    """
    signer = identity.signer
    check_key(signer, leaf)
    protected = protected_header(signer.algorithm, digest(SHA256, identity.chain[0]))
    signature = sign_message(signer, sig_structure(protected, payload))
    block = Block(protected, signer.algorithm, signature, chain=identity.chain, crls=identity.crls)
    return encode_block(block._replace(token=tsa.request(signature) if tsa else None))


def used_crls(verified: Verified) -> list[Crl]:
    """Return the CRLs of an envelope's signers and of their time-stamping authorities."""
    return [crl for one in verified.signers for issued in one.issued for crl in issued.newest]


def known_time(crls: Iterable[Crl], at: datetime) -> datetime:
    """Return the clock's time, or that of the latest CRL if the clock is behind it.

    Raises:
        Failed: `state.clock`: a time without a zone.
    """
    if at.utcoffset() is None:
        raise Failed("state.clock", "the time given has no time zone")
    return max((at, *(crl.this_update for crl in crls)))


def check_clock(crls: Sequence[Crl], at: datetime) -> None:
    """Refuse a clock that is behind CRLs: its sequence numbers and dates would be wrong.

    Raises:
        Failed: `state.clock`.
    """
    latest = max(crls, key=lambda crl: crl.this_update, default=None)
    if latest is None or latest.this_update <= at + CLOCK_TOLERANCE:
        return
    made, now = (f"{time:%Y-%m-%d %H:%M}" for time in (latest.this_update, at.astimezone(UTC)))
    raise Failed(
        "state.clock",
        f"the clock is wrong: it says {now}, but the {latest.name} was made {made}",
        expected=f"{made} or later",
        found=now,
        hint="set the clock: sequence numbers come from it, and devices refuse lower ones than "
        "they have seen; --force signs all the same",
    )


def check_margin(crls: Iterable[Crl], at: datetime) -> None:
    """Refuse CRLs that go stale before an update has reached its devices.

    Raises:
        Stale: `stale.crl`.
    """
    for crl in crls:
        if crl.next_update < at + CRL_MARGIN:
            raise Stale(
                "stale.crl",
                f"{crl.name} goes stale {crl.next_update:%Y-%m-%d %H:%M}, less than a day from now",
                expected=f"one until {(at + CRL_MARGIN).astimezone(UTC).isoformat()} or later",
                found=f"one until {crl.next_update.isoformat()}",
                hint="make new ones with: fwsign pki crl; --force takes them all the same",
            )
