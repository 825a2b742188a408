# SPDX-License-Identifier: Apache-2.0
"""Add a signature to an envelope that others signed, and verify all of it before and after."""

from collections.abc import Sequence
from datetime import datetime

from fwsign.errors import Failed
from fwsign.format.cose import decode_block
from fwsign.format.envelope import (
    MAX_BLOCKS,
    check_manifest_digest,
    decode_envelope,
    encode_envelope,
)
from fwsign.format.opening import decode_blocks, decode_content
from fwsign.signing.envelope import (
    Identity,
    TimeStamping,
    check_clock,
    check_margin,
    known_time,
    sign_block,
    used_crls,
)
from fwsign.signing.stapling import carried_crls
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.crl import parse_crl


def examine(
    envelope: bytes,
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa_anchors: tuple[Anchor, ...] = (),
    allow_example_keys: bool = False,
) -> VerifiedRelease:
    """Verify an envelope before one's own signature goes into it: every signature must count.

    Args:
        envelope: the content of a `.suit` file.
        anchors: the signer's own anchors.
        at: the present time, with a zone.
        tsa_anchors: the anchors of authorities whose time stamps count.
        allow_example_keys: accept the published keys of keys.example.

    Raises:
        FwsignError: as `fwsign.verify.Verifier.verify`; a block's own refusal.
    """
    decoded = decode_envelope(envelope)
    check_manifest_digest(decoded)
    _, text = decode_content(decoded)
    # Certificates of other tools' PKIs name no vendor: here it is asked who signed, not for whom.
    chains = [block.chain for block in decode_blocks(decoded.blocks)]
    leaves = [parse_certificate(chain[0]).spki for chain in chains if chain]
    policy = DevicePolicy(
        vendor=text.vendor if text else None,
        product=text.product if text else None,
        profile="compat",
        pinned_vendors=dict.fromkeys(leaves, (text.vendor,)) if text else {},
        tsa_anchors=tsa_anchors,
        allow_example_keys=allow_example_keys,
    )
    release = Verifier(anchors, policy).verify(envelope, at=known_time(carried_crls(envelope), at))
    for one in release.signers:
        if one.refusal is not None:
            raise one.refusal
    for component in release.components:
        if component.uri in decoded.integrated:
            release.receive(component)
    return release


def has_signed(envelope: bytes, release: VerifiedRelease, leaf: bytes) -> bool:
    """Tell whether a signer has signed an envelope already.

    Args:
        envelope: the envelope.
        release: what `examine` returned for it.
        leaf: the signer's certificate, in DER.

    Raises:
        Failed: `io.exists`: its key has signed with another certificate, or without one.
    """
    own = parse_certificate(leaf)
    for data, signer in zip(decode_envelope(envelope).blocks, release.signers, strict=True):
        if signer.path is None or signer.path.keys[0] != own.spki:
            continue
        chain = decode_block(data).chain
        if chain and chain[0] == leaf:
            return True
        raise Failed(
            "io.exists",
            f'the key of "{own.name}" has signed it already, as "{signer.path.name}" by '
            "another certificate",
            expected="a key that has not signed it",
            found=own.spki,
            hint="one key counts once, by whatever certificate: sign with another key",
        )
    return False


def cosign(
    envelope: bytes,
    identity: Identity,
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> tuple[bytes, VerifiedRelease]:
    """Add a block to an envelope, and verify the result; every signature in it must count.

    Args:
        envelope: an envelope that `examine` accepts, and that the key has not signed yet.
        identity: the new signer.
        anchors: the signer's own anchors, and those of the signers before.
        at: the present time, with a zone.
        tsa: stamps the new signature; a device that pins it must accept the token.
        allow_example_keys: as for `examine`.
        force: as for `fwsign.signing.envelope.sign`.

    Raises:
        FwsignError: as `examine`, for the new block, too.
        Stale: `stale.crl`: a CRL goes stale within a day.
        Failed: `state.limit`: there is no room; `state.clock`; `key.*`, and the errors of `tsa`.
    """
    decoded = decode_envelope(envelope)
    if len(decoded.blocks) >= MAX_BLOCKS:
        raise Failed(
            "state.limit",
            f"the envelope has {len(decoded.blocks)} signatures, at most {MAX_BLOCKS} are allowed",
            expected=f"at most {MAX_BLOCKS - 1}",
            found=len(decoded.blocks),
        )
    crls = [parse_crl(crl) for crl in identity.crls]
    if not force:
        check_clock(crls, at)
    block = sign_block(identity, parse_certificate(identity.chain[0]), decoded.digest, tsa)
    made = encode_envelope(decoded._replace(blocks=(*decoded.blocks, block)))
    release = examine(
        made,
        anchors,
        at=at,
        tsa_anchors=tsa.anchors if tsa else (),
        allow_example_keys=allow_example_keys,
    )
    stamp = release.signers[-1].stamp
    if stamp is not None and stamp.refusal is not None:
        raise stamp.refusal
    if not force:
        check_margin(used_crls(release), known_time(carried_crls(made), at))
    return made, release
