# SPDX-License-Identifier: Apache-2.0
"""Time-stamp tokens, which prove when a signature existed (RFC 3161, 5816, 9921).

A token is CMS SignedData (RFC 5652) by a time-stamping authority (TSA) over a TSTInfo. The rules
here are narrower than the RFCs: DER throughout, one signer, its certificate inside and named by a
digest in the signed attributes. Some signed fields are not needed here (policy, accuracy, ordering,
the name of the TSA): their form is checked and they are not interpreted. The fields that no
signature covers are fixed (versions, algorithms, identifiers), prove themselves (certificates), or
are ignored (attribute certificates). Certificates may have any order, since many TSAs do not sort
them.

Nothing is trusted here: `fwsign.verify.stamp` judges a token.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from fwsign.errors import Malformed, Tampered, Untrusted, check_limit
from fwsign.format import cbor
from fwsign.format.algorithms import DIGESTS, PKCS1
from fwsign.format.cose import MAX_CHAIN, PublicKey
from fwsign.x509 import der
from fwsign.x509.certificate import Certificate, parse_certificate, signature_valid
from fwsign.x509.der import OCTETS, OID, SEQUENCE, DerReader, Signed, single

TAG_0_PRIMITIVE, TAG_0, TAG_1, TAG_2, TAG_3 = 0x80, 0xA0, 0xA1, 0xA2, 0xA3

SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")
TST_INFO: Final = bytes.fromhex("2a864886f70d0109100104")
CONTENT_TYPE: Final = bytes.fromhex("2a864886f70d010903")
MESSAGE_DIGEST: Final = bytes.fromhex("2a864886f70d010904")
SIGNING_CERTIFICATE: Final = bytes.fromhex("2a864886f70d010910020c")
SIGNING_CERTIFICATE_V2: Final = bytes.fromhex("2a864886f70d010910022f")
_NEEDED: Final = {CONTENT_TYPE: "contentType", MESSAGE_DIGEST: "messageDigest"}
"""Signed attributes that must occur once, in addition to one that names the certificate."""
_NAMING: Final = (SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2)
"""Signed attributes that name the certificate; no others are interpreted."""

# RFC 5652 section 10.2.2: the other items of a certificate set, with the version of SignedData
# that each demands (section 5.1). That version is not signed, and not all TSAs write it.
_NO_CERTIFICATES: Final = {TAG_0: 3, TAG_1: 3, TAG_2: 4, TAG_3: 5}

Hash: TypeAlias = Callable[[bytes], Any]
"""A hash function of `hashlib`."""
# SHA-1 only finds a certificate in the token. The path and the signature prove that it is the right
# one, and neither uses SHA-1.
_SHA1: Final[Hash] = partial(hashlib.sha1, usedforsecurity=False)
_SHA2: Final = {1: hashlib.sha256, 2: hashlib.sha384, 3: hashlib.sha512}
HASHES: Final[Mapping[bytes, Hash]] = MappingProxyType(
    {  # RFC 5754 section 2: with NULL or without; both are in use
        bytes.fromhex(f"{head} 0609 6086480165030402 0{arc} {tail}"): function
        for arc, function in _SHA2.items()
        for head, tail in (("300b", ""), ("300d", "0500"))
    }
)
"""AlgorithmIdentifiers of SHA-256, SHA-384 and SHA-512, whole."""

_RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_RSA_WITH: Final[Mapping[Hash, bytes]] = {
    getattr(hashlib, one.function): PKCS1[one.name] for one in DIGESTS.values()
}
"""CMS may name rsaEncryption; digestAlgorithm then names the hash (RFC 3370 section 3.2)."""


class Token(NamedTuple):
    """A token with the right form and consistent parts; nothing is trusted yet.

    `certificates` are the TSA's own and those above it that are in the token.
    """

    gen_time: datetime
    hash: Hash
    imprint: bytes
    nonce: int | None
    certificates: tuple[bytes, ...]
    signed: Signed


def parse_token(data: bytes) -> Token:
    """Take a token apart, and check that its parts fit each other.

    Raises:
        Malformed: `malformed.token`, `malformed.certificate`, `malformed.size`.
        Tampered: `tampered.token` if the TSTInfo is not the signed one.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`, `untrusted.extension`.
    """
    try:
        return _parse(data)
    except ValueError as error:
        raise Malformed("malformed.token", f"time-stamp token: {error}") from None


def check_imprint(token: Token, signature: bytes) -> None:
    """Check that a token stamps a signature: its CBOR encoding with the head (RFC 9921 s.3.1).

    Raises:
        Tampered: `tampered.token`.
    """
    found = token.hash(cbor.byte_string_head(len(signature)) + signature).digest()
    if found != token.imprint:
        raise Tampered(
            "tampered.token",
            f"the time-stamp token is of another signature: that has digest "
            f"{token.imprint.hex()}, this one {found.hex()}",
            expected=found.hex(),
            found=token.imprint.hex(),
        )


def check_signature(token: Token, key: PublicKey) -> None:
    """Check a token's own signature, after the path of its key was validated.

    Raises:
        Tampered: `tampered.token`.
        Untrusted: `untrusted.algorithm`.
    """
    if not signature_valid(token.signed, key):
        raise Tampered("tampered.token", "the time-stamp token's own signature does not verify")


# --- CMS ------------------------------------------------------------------------------------


def _parse(data: bytes) -> Token:
    info = DerReader(single(data, SEQUENCE))
    _expect(info.content(OID), SIGNED_DATA, "its content is not SignedData")
    cms = DerReader(single(info.content(TAG_0), SEQUENCE))
    info.end()
    version = cms.integer()
    digests = _only(cms.content(der.SET), "digest algorithm")
    encapsulated = DerReader(cms.content(SEQUENCE))
    _expect(encapsulated.content(OID), TST_INFO, "what is signed is not a TSTInfo")
    content = single(encapsulated.content(TAG_0), OCTETS)
    encapsulated.end()
    certificates, demanded = _certificates(cms.optional(TAG_0))
    # RFC 5652 section 5.1: version 3, because the content is not id-data.
    _expect(version in {3, demanded}, True, "SignedData is not of version 3")
    signer = DerReader(single(_only(cms.content(der.SET), "signer, and no CRLs"), SEQUENCE))
    cms.end()
    return _signed_by(signer, digests, content, certificates)


def _certificates(content: bytes | None) -> tuple[list[bytes], int]:
    """Return the certificates, and the version of SignedData that the set demands."""
    found, count, version = [], 0, 3
    reader = DerReader(content or b"")
    while reader.more:
        count += 1
        check_limit(count, MAX_CHAIN, "more certificates in a time-stamp token")
        other = next((tag for tag in _NO_CERTIFICATES if reader.peek(tag)), None)
        if other is None:
            found.append(reader.whole(SEQUENCE))
        else:
            reader.content(other)
            version = max(version, _NO_CERTIFICATES[other])
    return found, version


def _signed_by(
    signer: DerReader, digests: bytes, content: bytes, certificates: Sequence[bytes]
) -> Token:
    """Read the SignerInfo (RFC 5652 section 5.3), and with it the TSTInfo."""
    version = signer.integer()
    key_identifier = signer.optional(TAG_0_PRIMITIVE)
    identifier = signer.content(SEQUENCE) if key_identifier is None else key_identifier
    _expect(version, 1 if key_identifier is None else 3, "a signer of the wrong version")
    algorithm = signer.whole(SEQUENCE)
    hashed = _hash(algorithm)
    _expect(_hash(digests), hashed, "two digest algorithms")
    attributes = signer.whole(TAG_0)
    signature_algorithm = signer.whole(SEQUENCE)
    signature = signer.content(OCTETS)
    signer.end()  # no unsigned attributes: none is needed, and anyone could add them
    signed = _signed_attributes(single(attributes, TAG_0))
    if single(signed[MESSAGE_DIGEST], OCTETS) != hashed(content).digest():
        raise Tampered("tampered.token", "the time-stamp token's content is not the signed one")
    data = _leaf(signed, certificates)
    leaf = parse_certificate(data)
    own = leaf.subject_key if key_identifier is not None else der.issuer_and_serial(leaf.signed.tbs)
    _expect(identifier, own, "its signer is not the certificate that it names")
    if signature_algorithm == _RSA:
        signature_algorithm = _RSA_WITH[hashed]
    # RFC 5652 section 5.4: the signature is over a SET OF, but the token has a [0] tag.
    parts = Signed(bytes([der.SET]) + attributes[1:], signature_algorithm, signature)
    return _tst_info(content, _chain(data, leaf, certificates), parts)


def _signed_attributes(content: bytes) -> dict[bytes, bytes]:
    """Return the values of the signed attributes, by attribute type."""
    whole: list[bytes] = []
    values: dict[bytes, bytes] = {}
    reader = DerReader(content)
    while reader.more:
        whole.append(reader.whole(SEQUENCE))
        attribute = DerReader(single(whole[-1], SEQUENCE))
        kind, value = attribute.content(OID), attribute.content(der.SET)
        attribute.end()
        if kind in values:
            raise ValueError("a signed attribute twice")
        values[kind] = value
    if whole != sorted(whole):
        raise ValueError("signed attributes that are not in the order of DER")
    for kind, words in _NEEDED.items():
        if kind not in values:
            raise ValueError(f"no signed attribute {words}")
    _expect(single(values[CONTENT_TYPE], OID), TST_INFO, "contentType is not TSTInfo")
    return values


def _leaf(attributes: Mapping[bytes, bytes], certificates: Sequence[bytes]) -> bytes:
    """Find the certificate that the signed attributes name (RFC 2634 section 5.4, RFC 5035).

    Either attribute suffices. If both are there, both must name the same certificate.
    """
    naming = [kind for kind in _NAMING if kind in attributes]
    if not naming:
        raise ValueError("no signed attribute signingCertificateV2 or signingCertificate")
    first, *others = (_named(kind, attributes[kind], certificates) for kind in naming)
    if others and others[0] != first:
        raise ValueError("signingCertificate and signingCertificateV2 name two certificates")
    return first


def _named(kind: bytes, values: bytes, certificates: Sequence[bytes]) -> bytes:
    """Find the certificate that an attribute names first.

    The digest alone identifies it. Issuer and serial number, digests of further certificates, and
    policies are checked for their form only.
    """
    named = DerReader(single(values, SEQUENCE))
    names = DerReader(named.content(SEQUENCE))
    named.optional(SEQUENCE)  # policies
    named.end()
    first = DerReader(names.content(SEQUENCE))
    while names.more:
        names.content(SEQUENCE)
    hashed = _SHA1 if kind == SIGNING_CERTIFICATE else hashlib.sha256
    if kind == SIGNING_CERTIFICATE_V2 and first.peek(SEQUENCE):
        hashed = _hash(first.whole(SEQUENCE))
    wanted = first.content(OCTETS)
    first.optional(SEQUENCE)  # issuer and serial number
    first.end()
    for data in certificates:
        if hashed(data).digest() == wanted:
            return data
    raise ValueError(f"no certificate with the digest {wanted.hex()} that its signer names")


def _chain(data: bytes, leaf: Certificate, certificates: Sequence[bytes]) -> tuple[bytes, ...]:
    """Order the certificates above a leaf, by name and key; leave out the ones that do not fit."""
    rest = []
    for item in certificates:
        with contextlib.suppress(Untrusted):  # an unneeded root may have the serial number 0
            if item != data:
                rest.append((item, parse_certificate(item)))
    chain, last = [data], leaf
    while above := next((item for item in rest if _is_issuer(item[1], last)), None):
        rest.remove(above)
        chain.append(above[0])
        last = above[1]
    return tuple(chain)


def _is_issuer(ca: Certificate, certificate: Certificate) -> bool:
    named = ca.subject == certificate.issuer
    return named and ca.subject_key == certificate.authority_key


# --- TSTInfo --------------------------------------------------------------------------------


def _tst_info(data: bytes, certificates: tuple[bytes, ...], signed: Signed) -> Token:
    """Read a TSTInfo (RFC 3161 section 2.4.2), and make the token of it."""
    info = DerReader(single(data, SEQUENCE))
    _expect(info.integer(), 1, "TSTInfo is not of version 1")
    info.content(OID)  # the policy, which only the TSA's customers need
    imprint = DerReader(info.content(SEQUENCE))
    hashed, digest = _hash(imprint.whole(SEQUENCE)), imprint.content(OCTETS)
    imprint.end()
    info.integer()  # serialNumber
    gen_time = der.generalized_time(info.content(der.GENERALIZED_TIME))
    info.optional(SEQUENCE)  # accuracy
    if info.optional(der.BOOLEAN) not in (None, b"\xff"):  # ordering; DER leaves out false
        raise ValueError("ordering is neither true nor absent")
    nonce = info.integer() if info.peek(der.INTEGER) else None
    info.optional(TAG_0)  # tsa: a name; a signed attribute identifies the certificate
    _check_extensions(DerReader(info.optional(TAG_1) or b""))
    info.end()
    return Token(gen_time, hashed, digest, nonce, certificates, signed)


def _check_extensions(reader: DerReader) -> None:
    while reader.more:
        extension = DerReader(reader.content(SEQUENCE))
        extension.content(OID)
        critical = extension.optional(der.BOOLEAN)
        extension.content(OCTETS)
        extension.end()
        if critical is not None:
            raise Untrusted(
                "untrusted.extension",
                "the time-stamp token has a critical extension, which this verifier does not know",
            )


# --- pieces ---------------------------------------------------------------------------------


def _expect(found: object, wanted: object, words: str) -> None:
    if found != wanted:
        raise ValueError(words)


def _only(values: bytes, words: str) -> bytes:
    """Return the one SEQUENCE of a SET OF."""
    reader = DerReader(values)
    whole = reader.whole(SEQUENCE)
    if reader.more:
        raise ValueError(f"more than one {words}")
    return whole


def _hash(identifier: bytes) -> Hash:
    if identifier not in HASHES:
        raise Untrusted(
            "untrusted.algorithm",
            f"digest algorithm {identifier.hex()} of a time-stamp token is not allowed",
            expected="SHA-256, SHA-384 or SHA-512",
            found=identifier.hex(),
        )
    return HASHES[identifier]
