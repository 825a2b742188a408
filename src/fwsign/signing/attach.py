# SPDX-License-Identifier: Apache-2.0
"""Put a signature that was made elsewhere into the envelope that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.cose import encode_block
from fwsign.format.envelope import check_manifest_digest, decode_envelope, encode_envelope
from fwsign.format.opening import decode_content
from fwsign.format.payload import digest
from fwsign.keys.held import mu_of
from fwsign.signing.envelope import (
    check_clock,
    check_margin,
    known_time,
    used_crls,
)
from fwsign.signing.foreign import explain, readings, verifies
from fwsign.signing.request import refuse_again, signers_of
from fwsign.signing.stapling import carried_crls
from fwsign.verify.policy import DevicePolicy, Slot
from fwsign.verify.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.request import Request
    from fwsign.verify.verified import VerifiedRelease
    from fwsign.x509.anchor import Anchor
    from fwsign.x509.certificate import Certificate


def completed(
    wanted: Request,
    data: bytes,
    *,
    into: bytes | None = None,
    stamp: Callable[[bytes], bytes] | None = None,
    instead: Mapping[str, bytes] | None = None,
    others: Iterable[Certificate] = (),
) -> bytes:
    """Put a signature into its envelope; devices' other checks are not made here.

    Args:
        wanted: the request.
        data: a file with the signature, in one of the forms of `fwsign.signing.foreign`.
        into: an envelope of the same release, with signatures of others, which gets the block;
            None to complete the request itself.
        stamp: returns a time-stamp token for the signature.
        instead: what may have been signed by mistake, by its name for people.
        others: certificates of other signers, to tell whose signature it is.

    Raises:
        Failed: `io.format`: no signature; `key.mismatch`: that of another key; as for
            `further_request`.
        Tampered: `tampered.signature`; `tampered.manifest`: `into` is another release.
    """
    signatures = readings(data, wanted.block.algorithm, wanted.leaf.key)
    right = [one for one in signatures if _fits(wanted, wanted.leaf, one)]
    if not right:
        raise _refusal(wanted, signatures, instead or {}, others)
    token = stamp(right[0]) if stamp else None
    block = encode_block(wanted.block._replace(signature=right[0], token=token))
    if into is None:
        return encode_envelope(wanted.envelope._replace(blocks=(*wanted.signed, block)))
    return _added(wanted, block, into)


def _fits(wanted: Request, signer: Certificate, signature: bytes) -> bool:
    return verifies(wanted.block.algorithm, signer.key, wanted.message, signature)


def _added(wanted: Request, block: bytes, into: bytes) -> bytes:
    """Add a block to an envelope of the same release; all signatures of both stay, each once."""
    envelope = decode_envelope(into)
    if envelope.digest != wanted.envelope.digest:
        found, expected = check_manifest_digest(envelope), wanted.manifest_digest
        raise Tampered(
            "tampered.manifest",
            f"the envelope has the manifest {found.hex()[:16]}, the request {expected.hex()[:16]}",
            expected=expected.hex(),
            found=found.hex(),
            hint="it is another release: name another file with --output, or --force replaces it",
        )
    there = signers_of(envelope.blocks).keys()
    refuse_again(wanted.leaf, envelope.blocks)
    # A block of a bare key names no signer: it is there if its bytes are.
    absent = [one for one in wanted.signed if one not in envelope.blocks]
    more = [one for one in absent if not signers_of([one]) or not signers_of([one]).keys() <= there]
    return encode_envelope(envelope._replace(blocks=(*envelope.blocks, *more, block)))


def _refusal(
    wanted: Request,
    signatures: list[bytes],
    instead: Mapping[str, bytes],
    others: Iterable[Certificate],
) -> FwsignError:
    """Return a refusal that says what was signed, or by whom, as far as it can be found out."""
    own, leaf = ALGORITHMS[wanted.block.algorithm], wanted.leaf
    known = {**signers_of(wanted.signed), **{one.spki: one for one in others}}
    for other in known.values():
        if any(_fits(wanted, other, one) for one in signatures):
            return Failed(
                "key.mismatch",
                f'the signature is by the key of "{other.name}", this request is for "{leaf.name}"',
                expected=leaf.spki,
                found=other.spki,
                hint="attach it to the request that was made for that signer",
            )
    also = {
        "the manifest": wanted.envelope.manifest,
        "the digest of the manifest": wanted.envelope.digest,
        **instead,
    }
    if own.key.startswith("ML-DSA"):
        also["the mu of these bytes, as if that were a message"] = mu_of(leaf.key, wanted.message)
    found = explain(wanted.block.algorithm, leaf.key, wanted.message, signatures, also)
    sha256 = digest(SHA256, wanted.message).hex()
    cause = found or (
        f"it is over other bytes than those with SHA-256 {sha256}, or by another key than "
        f"{leaf.spki}"
    )
    return Tampered(
        "tampered.signature",
        f'not the signature of "{leaf.name}" that the request asks for: {cause}',
        expected=f"{own.name} over {sha256}",
        found=found or "another message or key",
        hint="fwsign digest --show REQUEST writes down what is to be signed, and with which key",
    )


def accepted(
    envelope: bytes,
    leaf: Certificate,
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    tsa: TimeStamping | None = None,
    allow_example_keys: bool = False,
    force: bool = False,
) -> VerifiedRelease:
    """Verify an envelope like a device that demands one signer's block, and may pin others.

    Args:
        envelope: the envelope.
        leaf: the certificate of the signer whose block must count.
        anchors: the anchors that devices pin.
        at: the present time, with a zone.
        tsa: the block must have a token of its authorities.
        allow_example_keys: accept the published keys of keys.example.
        force: accept a clock behind the CRLs, and CRLs that go stale within a day.

    Raises:
        FwsignError: a device would refuse the envelope, or a CRL goes stale within a day.
        Failed: `state.clock`.
    """
    decoded = decode_envelope(envelope)
    _, text = decode_content(decoded)
    crls = carried_crls(envelope)
    if not force:
        check_clock(crls, at)
    vendors = (text.vendor,) if text else ()
    policy = DevicePolicy(
        vendor=text.vendor if text else None,
        product=text.product if text else None,
        profile="compat",
        slots=(Slot(leaf.name, leaf.spki),),
        pinned_vendors={leaf.spki: vendors} if vendors else {},
        require_token=tsa is not None,
        tsa_anchors=tsa.anchors if tsa else (),
        allow_example_keys=allow_example_keys,
    )
    known = known_time(crls, at)
    verified = Verifier(anchors, policy).verify(envelope, at=known)
    for component in verified.components:
        if component.uri in decoded.integrated:
            verified.receive(component)
    if not force:
        check_margin(used_crls(verified), known)
    return verified
