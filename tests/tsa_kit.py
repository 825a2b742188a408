"""Time-stamping authorities for tests: tokens for any time, every part of which can be wrong."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.format import cbor
from fwsign.format.cose import TOKEN
from fwsign.x509 import der
from hostile import altered_block, blocks_in, with_blocks
from support import (
    NOW,
    Entity,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    name,
    new_key,
    parts,
    sign_with,
    tlv,
)

TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
OIDS = {
    "signed data": "2a864886f70d010702",
    "tst info": "2a864886f70d0109100104",
    "content type": "2a864886f70d010903",
    "message digest": "2a864886f70d010904",
    "signing time": "2a864886f70d010905",
    "signing certificate": "2a864886f70d010910020c",
    "signing certificate v2": "2a864886f70d010910022f",
    "data": "2a864886f70d010701",
    "policy": "2b0601040182bf0d0301",
}
SHA2 = {"sha256": 1, "sha384": 2, "sha512": 3}
NULL = b"\x05\x00"


class Tsa(NamedTuple):
    """A root and the authority under it."""

    root: Entity
    leaf: Entity
    above: Sequence[Entity] = ()

    @property
    def crls(self) -> tuple[bytes, ...]:
        """Fresh CRLs of every issuer, with nothing revoked."""
        return tuple(make_crl(one) for one in (*self.above, self.root))

    def stamp(self, signature: bytes, **more: Any) -> bytes:
        """Make a token of a signature, with all certificates but the root's."""
        certificates = [self.leaf.der, *(one.der for one in self.above)]
        return make_token(signature, self.leaf, certificates, **more)


def make_tsa(alg: str = "p256", *, root: Entity | None = None, **more: Any) -> Tsa:
    """Make an authority; `more` goes to `make_tsa_leaf`."""
    top = root or make_ca("TSA Root")
    return Tsa(top, make_tsa_leaf(top, alg, **more))


def make_tsa_leaf(
    issuer: Entity,
    alg: str = "p256",
    *,
    common: str = "TSA 1",
    days: tuple[int, int] = (-10, 365),
    usages: Sequence[Any] = (TIME_STAMPING,),
    critical: bool = True,
) -> Entity:
    """Make the certificate of an authority."""
    own = leaf_extensions((), usages=usages)
    if not critical:
        own = [(one, flag and index != 2) for index, (one, flag) in enumerate(own)]
    return certify(new_key(alg), name(common), issuer, own, days=days)


def oid(words: str) -> bytes:
    """Encode an object identifier of the list above."""
    return tlv(6, bytes.fromhex(OIDS[words]))


def integer(value: int) -> bytes:
    """Encode an INTEGER."""
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octets(content: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tlv(4, content)


def sequence(*content: bytes) -> bytes:
    """Encode a SEQUENCE."""
    return tlv(0x30, *content)


def hash_identifier(digest: str, tail: bytes = b"") -> bytes:
    """Encode the AlgorithmIdentifier of a SHA-2 function."""
    return sequence(tlv(6, bytes.fromhex(f"60864801650304020{SHA2[digest]}")), tail)


def time(moment: datetime | str) -> bytes:
    """Encode a GeneralizedTime, of a time or of any text."""
    text = moment if isinstance(moment, str) else moment.strftime("%Y%m%d%H%M%SZ")
    return tlv(0x18, text.encode())


def attribute(words: str, *values: bytes) -> bytes:
    """Encode a signed attribute."""
    return sequence(oid(words), tlv(0x31, *values))


def imprint(signature: bytes, digest: str = "sha256", tail: bytes = b"") -> bytes:
    """Encode the messageImprint of a signature."""
    encoded = cbor.byte_string_head(len(signature)) + signature
    return sequence(hash_identifier(digest, tail), octets(hashlib.new(digest, encoded).digest()))


def tst_info(signature: bytes, gen_time: datetime | str, digest: str, **parts: bytes) -> bytes:
    """Encode a TSTInfo; `parts` replace what has their name, or add what is optional."""
    fixed = {
        "info_version": integer(1),
        "policy": oid("policy"),
        "imprint": imprint(signature, digest),
        "serial": integer(1),
        "gen_time": time(gen_time),
    }
    optional = ("accuracy", "ordering", "nonce", "tsa_name", "extensions", "info_more")
    replaced = [parts.get(key, value) for key, value in fixed.items()]
    return sequence(*replaced, *(parts[key] for key in optional if key in parts))


def raw_signature(key: Any, message: bytes, digest: str) -> tuple[bytes, bytes]:
    """Sign as in CMS; return the AlgorithmIdentifier and the signature."""
    function = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        arc = SHA2[digest] + 1
        identifier = bytes.fromhex(f"300a06082a8648ce3d04030{arc}")
        ecdsa = ec.ECDSA(function[digest], deterministic_signing=True)
        return identifier, key.sign(message, ecdsa)
    if isinstance(key, rsa.RSAPrivateKey):
        arc = SHA2[digest] + 10
        identifier = bytes.fromhex(f"300d06092a864886f70d01010{arc:x}0500")
        return identifier, key.sign(message, padding.PKCS1v15(), function[digest])
    return bytes.fromhex("300506032b6570"), key.sign(message)


def ess_v1(digest: bytes, *more: bytes) -> bytes:
    """Encode the attribute signingCertificate with a SHA-1 digest (RFC 2634 section 5.4)."""
    return attribute("signing certificate", sequence(sequence(sequence(octets(digest), *more))))


def by_sha1(tsa: Tsa) -> bytes:
    """Encode the attribute signingCertificate that names an authority's certificate."""
    return ess_v1(hashlib.sha1(tsa.leaf.der, usedforsecurity=False).digest())


def signed_attributes(info: bytes, certificate: bytes, digest: str) -> list[bytes]:
    """Return the attributes that a token needs, and the time, which many have."""
    ess = sequence(sequence(sequence(octets(hashlib.sha256(certificate).digest()))))
    return [
        attribute("content type", oid("tst info")),
        attribute("message digest", octets(hashlib.new(digest, info).digest())),
        attribute("signing time", tlv(0x17, b"261122120000Z")),
        attribute("signing certificate v2", ess),
    ]


def make_token(
    signature: bytes,
    tsa: Entity,
    certificates: Sequence[bytes],
    *,
    gen_time: datetime | str = NOW,
    digest: str = "sha256",
    key: Any = None,
    info: bytes | None = None,
    attributes: Sequence[bytes] | None = None,
    in_order: bool = True,
    **parts: bytes,
) -> bytes:
    """Make a token.

    Args:
        signature: what is stamped.
        tsa: who stamps.
        certificates: what stands in the token.
        gen_time: when.
        digest: the hash of imprint and token.
        key: signs instead of the TSA's.
        info: another TSTInfo.
        attributes: other signed attributes.
        in_order: sort them, as DER demands.
        parts: replace parts by their names, as below and in `tst_info`; one that is empty goes.
    """
    own = {key: parts[key] for key in parts if key in _INFO_PARTS}
    content = info if info is not None else tst_info(signature, gen_time, digest, **own)
    found = attributes if attributes is not None else signed_attributes(content, tsa.der, digest)
    joined = b"".join(sorted(found) if in_order else found)
    identifier, value = raw_signature(key or tsa.key, tlv(0x31, joined), digest)
    names = der.issuer_and_serial(der.split(tsa.der).tbs)
    signer = {
        "signer_version": integer(1),
        "sid": sequence(names),
        "digest_algorithm": hash_identifier(digest),
        "attributes": tlv(0xA0, joined),
        "signature_algorithm": identifier,
        "signature": octets(value),
        "unsigned": b"",
    }
    one = sequence(*(parts.get(key, value) for key, value in signer.items()))
    cms = {
        "version": integer(3),
        "digests": tlv(0x31, hash_identifier(digest)),
        "content": sequence(oid("tst info"), tlv(0xA0, octets(content))),
        "certificate_set": tlv(0xA0, *certificates),
        "crls": b"",
        "signers": tlv(0x31, one),
        "cms_more": b"",
    }
    inside = sequence(*(parts.get(key, value) for key, value in cms.items()))
    return sequence(oid("signed data"), tlv(0xA0, inside))


_INFO_PARTS = {
    "info_version",
    "policy",
    "imprint",
    "serial",
    "accuracy",
    "ordering",
    "nonce",
    "tsa_name",
    "extensions",
    "info_more",
}


# --- tokens in envelopes --------------------------------------------------------------------


def signatures(envelope: bytes) -> list[bytes]:
    """Return the signature of each block."""
    return [cbor.decode(block).value[3] for block in blocks_in(envelope)]


def with_tokens(envelope: bytes, *tokens: bytes | None) -> bytes:
    """Put a token into each block, or take it out."""

    def put(token: bytes | None, block: list[Any]) -> None:
        block[1] = {key: value for key, value in block[1].items() if key != TOKEN}
        if token is not None:
            block[1][TOKEN] = token

    blocks = [
        altered_block(block, partial(put, token))
        for block, token in zip(blocks_in(envelope), tokens, strict=True)
    ]
    return with_blocks(envelope, *blocks)


def stamped(pki: Any, tsa: Tsa, *, crls: Sequence[bytes] | None = None, **more: Any) -> bytes:
    """Sign with a PKI, with the CRLs of both and a token; `more` goes to `make_token`."""
    envelope = sign_with(pki, crls=(*pki.crls, *tsa.crls) if crls is None else crls)
    return with_tokens(envelope, tsa.stamp(*signatures(envelope), **more))


def token_in(envelope: bytes) -> bytes:
    """Return the token of the first block."""
    token: bytes = cbor.decode(blocks_in(envelope)[0]).value[1][TOKEN]
    return token


def certificates_of(token: bytes) -> list[bytes]:
    """Return the certificates in a token."""
    cms = parts(parts(parts(token)[1])[0])
    return parts(cms[3])
