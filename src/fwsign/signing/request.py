# SPDX-License-Identifier: Apache-2.0
"""Signature requests: envelopes whose last block waits for a signature that is made elsewhere.

A request is an envelope in every byte, but the signature of its last block is empty. So it has
what the signature covers, the manifest and the signer's certificate, and what proves itself:
certificates and CRLs. A verifier refuses it as it refuses any wrong signature. The bytes to sign
follow from it, and a signature added to it verifies only if nothing that is signed has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed, FwsignError, Malformed, Tampered
from fwsign.format import suit
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.cose import Block, decode_block, encode_block, protected_header, sig_structure
from fwsign.format.envelope import (
    MAX_BLOCKS,
    Envelope,
    check_manifest_digest,
    decode_envelope,
    encode_envelope,
    encode_manifest_digest,
)
from fwsign.format.opening import decode_content
from fwsign.format.payload import digest
from fwsign.keys.file import algorithm_of
from fwsign.keys.held import digest_of, mu_of
from fwsign.x509.certificate import Certificate, parse_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fwsign.format.text import Text
    from fwsign.signing.release import Release

Form: TypeAlias = Literal["message", "digest", "mu"]
"""What a tool signs: the bytes as they are; their digest, for tools that do not hash; the 64 bytes
of ML-DSA's external mu (FIPS 204 s.6.2)."""
_OPEN: Final = b""


class Request(NamedTuple):
    """A signature request.

    Args:
        envelope: the envelope; its last block is `block`.
        block: the block without a signature.
        leaf: the certificate of the key that shall sign.
        manifest: the release.
        text: what it says for people, None if it was cut off.
        message: the bytes to sign, 94 or 95 (RFC 9052 section 4.4).
    """

    envelope: Envelope
    block: Block
    leaf: Certificate
    manifest: suit.Manifest
    text: Text | None
    message: bytes

    @property
    def manifest_digest(self) -> bytes:
        """The digest that identifies the release."""
        return check_manifest_digest(self.envelope)

    @property
    def signed(self) -> tuple[bytes, ...]:
        """The blocks that have a signature."""
        return self.envelope.blocks[:-1]


def request(release: Release, chain: Sequence[bytes], crls: Sequence[bytes] = ()) -> bytes:
    """Make the request for a release that nobody has signed.

    Args:
        release: the release.
        chain: the signer's certificates, DER, leaf first, without the anchor.
        crls: the CRLs of every issuer in the path, in DER.

    Raises:
        Failed: `key.unsupported`: releases are not signed with keys like the leaf's.
        Malformed: a certificate that is none.
    """
    manifest = suit.encode_manifest(release.manifest)
    envelope = Envelope(
        encode_manifest_digest(manifest), (), manifest, release.text, release.integrated
    )
    return _opened(envelope, chain, crls)


def further_request(data: bytes, chain: Sequence[bytes], crls: Sequence[bytes] = ()) -> bytes:
    """Make the request for one more signature of an envelope, or of a request.

    Args:
        data: the envelope; signatures in it stay. Of a request, the open block is left out.
        chain: as for `request`, as are the CRLs.
        crls: see there.

    Raises:
        Malformed, Tampered, Unsuitable: the envelope cannot be read, or is no release.
        Failed: `key.mismatch`: the key has signed it already; as `request`.
    """
    envelope = decode_envelope(data)
    check_manifest_digest(envelope)
    decode_content(envelope)
    blocks = tuple(one for one in envelope.blocks if decode_block(one).signature != _OPEN)
    leaf = parse_certificate(chain[0])
    refuse_again(leaf, blocks)
    if len(blocks) == MAX_BLOCKS:
        raise Malformed(
            "malformed.size",
            f"the envelope has {MAX_BLOCKS} signatures, and no more are allowed",
            expected=f"fewer than {MAX_BLOCKS}",
            found=len(blocks),
        )
    return _opened(envelope._replace(blocks=blocks), chain, crls)


def refuse_again(leaf: Certificate, blocks: Iterable[bytes]) -> None:
    """Refuse a signer who has signed already: a key counts once.

    Raises:
        Failed: `key.mismatch`.
    """
    if leaf.spki in signers_of(blocks):
        raise Failed(
            "key.mismatch",
            f'the key of "{leaf.name}" has signed this already',
            expected="another signer",
            found=leaf.name,
            hint="a key counts once; ask somebody else, or nobody",
        )


def signers_of(blocks: Iterable[bytes]) -> dict[str, Certificate]:
    """Return the certificates of signers by their keys; those that cannot be read are left out."""
    found = {}
    for data in blocks:
        block = decode_block(data)
        if block.chain and block.signature != _OPEN:
            try:
                leaf = parse_certificate(block.chain[0])
            except FwsignError:
                continue
            found[leaf.spki] = leaf
    return found


def _opened(envelope: Envelope, chain: Sequence[bytes], crls: Sequence[bytes]) -> bytes:
    algorithm = algorithm_of(parse_certificate(chain[0]).key)
    protected = protected_header(algorithm, digest(SHA256, chain[0]))
    block = encode_block(Block(protected, algorithm, _OPEN, chain=tuple(chain), crls=tuple(crls)))
    decode_block(block)  # enforces the limits of blocks
    return encode_envelope(envelope._replace(blocks=(*envelope.blocks, block)))


def is_request(data: bytes) -> bool:
    """Tell whether an envelope has a block that waits for its signature.

    Raises:
        Malformed: it is no envelope.
    """
    blocks = decode_envelope(data).blocks
    try:
        return bool(blocks) and decode_block(blocks[-1]).signature == _OPEN
    except Malformed:  # an envelope whose last block is damaged
        return False


def read_request(data: bytes) -> Request:
    """Read a request; the path of its signer is judged when the signature is there.

    Raises:
        Malformed, Tampered, Unsuitable: the envelope cannot be read, or is no release.
        Failed: `io.format`: no block waits for a signature, or it has no certificate.
    """
    envelope = decode_envelope(data)
    check_manifest_digest(envelope)
    manifest, text = decode_content(envelope)
    blocks = [decode_block(one) for one in envelope.blocks]
    waiting = [number for number, one in enumerate(blocks) if one.signature == _OPEN]
    if not blocks or waiting != [len(blocks) - 1]:
        raise Failed(
            "io.format",
            f"no signature request: {len(waiting)} of {len(blocks)} blocks wait for a signature, "
            "expected the last one",
            expected="an envelope whose last block has an empty signature",
            found=f"{len(waiting)} of {len(blocks)}",
        )
    block = blocks[-1]
    if not block.chain or block.algorithm not in ALGORITHMS:
        raise Failed(
            "io.format",
            "no signature request: the block has no certificate, or an unknown algorithm",
            expected="a certificate and an algorithm of docs/format.md",
            found=f"{len(block.chain)} certificates, algorithm {block.algorithm}",
        )
    leaf = parse_certificate(block.chain[0])
    if digest(SHA256, block.chain[0]) != block.x5t:
        raise Tampered(
            "tampered.x5t",
            "the certificate is not the one that the request names",
            expected=(block.x5t or b"").hex(),
            found=digest(SHA256, block.chain[0]).hex(),
        )
    message = sig_structure(block.protected, envelope.digest)
    return Request(envelope, block, leaf, manifest, text, message)


def to_sign(wanted: Request, form: Form) -> bytes:
    """Return what a tool shall sign.

    Raises:
        Failed: `key.unsupported`: keys like the signer's do not sign this form.
    """
    own = ALGORITHMS[wanted.block.algorithm]
    ml_dsa = own.key.startswith("ML-DSA")
    if form == "message":
        return wanted.message
    if form == "digest" and own.digest:
        return digest_of(wanted.message, own.digest)
    if form == "mu" and ml_dsa:
        return mu_of(wanted.leaf.key, wanted.message)
    words = {"digest": "a digest", "mu": "an external mu"}[form]
    better = "--mu" if ml_dsa else "--prehash" if own.digest else "the bytes themselves"
    raise Failed(
        "key.unsupported",
        f'the key of "{wanted.leaf.name}" signs no {words[words.index(" ") + 1 :]}: it is '
        f"{own.key}, which signs {_signs(own.key, digested=bool(own.digest))}",
        expected=better,
        found=form,
        hint=f"use {better}" if better.startswith("--") else "leave the option out",
    )


def _signs(key: str, *, digested: bool) -> str:
    if key.startswith("ML-DSA"):
        return "the bytes themselves, or their mu"
    return "the bytes, or their digest" if digested else "the bytes themselves"


def about(wanted: Request) -> dict[str, Any]:
    """Return what is to be signed and by whom, for programs."""
    own = ALGORITHMS[wanted.block.algorithm]
    return {
        "manifest_digest": wanted.manifest_digest.hex(),
        "to_sign": wanted.message.hex(),
        "to_sign_sha256": digest(SHA256, wanted.message).hex(),
        "algorithm": own.name,
        "signer": wanted.leaf.name,
        "key": wanted.leaf.spki,
        "certificate": digest(SHA256, wanted.block.chain[0]).hex(),
    }
