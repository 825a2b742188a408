# SPDX-License-Identifier: Apache-2.0
"""Put newer CRLs into an envelope, which needs no key."""

import contextlib
from collections.abc import Sequence

from fwsign.errors import Failed, FwsignError
from fwsign.format.cose import Block, decode_block, encode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.crl import Crl, newest, parse_crl
from fwsign.x509.token import parse_token


def staple(envelope: bytes, crls: Sequence[bytes], *, skip_unused: bool = False) -> bytes:
    """Put newer CRLs into an envelope. No key is needed: CRLs prove themselves.

    They may be of the signer's issuers, or of the issuers of the block's time-stamping authority.

    Args:
        envelope: a whole envelope; its signatures are not verified here.
        crls: CRLs in DER.
        skip_unused: leave out CRLs that belong to no issuer, if others do belong to one.

    Returns:
        The envelope with, for each issuer, the CRLs that `fwsign.x509.crl.newest` leaves.

    Raises:
        Malformed: `malformed.*`, for envelope or CRLs, or for more CRLs than an envelope may
            hold.
        Failed: `io.crl-unused` for a CRL that belongs to no issuer of any block.
    """
    decoded = decode_envelope(envelope)
    new = [parse_crl(crl) for crl in crls]
    unused = set(range(len(new)))
    blocks = []
    for data in decoded.blocks:
        block = decode_block(data)
        chain = [parse_certificate(certificate) for certificate in _certificates(block)]
        own = [index for index, crl in enumerate(new) if any(map(crl.is_by_issuer_of, chain))]
        unused -= set(own)
        old = [parse_crl(crl) for crl in block.crls]
        merged = _newest_of_each([*old, *(new[index] for index in own)])
        blocks.append(encode_block(block._replace(crls=tuple(crl.data for crl in merged))))
        decode_block(blocks[-1])  # enforces the limits of blocks
    if unused and not (skip_unused and len(unused) < len(new)):
        raise Failed(
            "io.crl-unused",
            f"the {new[min(unused)].name} belongs to no issuer in the envelope",
        )
    return encode_envelope(decoded._replace(blocks=tuple(blocks)))


def carried_crls(envelope: bytes) -> list[Crl]:
    """Return the CRLs in an envelope, each once; raise like `staple`."""
    blocks = map(decode_block, decode_envelope(envelope).blocks)
    return [parse_crl(crl) for crl in dict.fromkeys(crl for block in blocks for crl in block.crls)]


def _certificates(block: Block) -> tuple[bytes, ...]:
    """Return the signer's certificates, and those of a readable time-stamp token."""
    if block.token is not None:
        with contextlib.suppress(FwsignError):  # a bad token does not count, and needs no CRLs
            return (*block.chain, *parse_token(block.token).certificates)
    return block.chain


def _newest_of_each(crls: Sequence[Crl]) -> list[Crl]:
    """Return the newest CRLs of each issuer, by name and key."""
    issuers: dict[tuple[bytes, bytes | None], dict[bytes, Crl]] = {}
    for crl in crls:
        issuer = (crl.issuer.public_bytes(), crl.authority_key)
        issuers.setdefault(issuer, {})[crl.data] = crl
    return [crl for own in issuers.values() for crl in newest(own.values())]
