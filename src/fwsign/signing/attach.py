# SPDX-License-Identifier: Apache-2.0
"""Put a signature that was made elsewhere into the envelope that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.cose import encode_block
from fwsign.format.envelope import check_manifest_digest, decode_envelope, encode_envelope
from fwsign.format.payload import digest
from fwsign.keys.held import mu_of
from fwsign.signing.foreign import explain, readings, verifies
from fwsign.signing.request import refuse_again, signers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fwsign.signing.request import Request
    from fwsign.x509.certificate import Certificate


def completed(
    wanted: Request,
    data: bytes,
    *,
    into: bytes | None = None,
    instead: Mapping[str, bytes] | None = None,
    others: Iterable[Certificate] = (),
) -> bytes:
    """Put a signature into its envelope; devices' other checks are not made here.

    Args:
        wanted: the request.
        data: a file with the signature, in one of the forms of `fwsign.signing.foreign`.
        into: an envelope of the same release, with signatures of others, which gets the block;
            None to complete the request itself.
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
    block = encode_block(wanted.block._replace(signature=right[0]))
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
    there = signers_of(envelope.blocks)
    refuse_again(wanted.leaf, envelope.blocks)
    more = [one for one in wanted.signed if not there.keys() >= signers_of([one]).keys()]
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
