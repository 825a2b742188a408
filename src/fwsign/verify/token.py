# SPDX-License-Identifier: Apache-2.0
"""Time-stamp tokens, which prove when a signature existed (RFC 3161, 5816, 9921).

A token is CMS SignedData (RFC 5652) by a time-stamping authority (TSA) over a TSTInfo. The rules
here are narrower than the RFCs: DER throughout, one signer, its certificate inside and named by a
digest in the signed attributes. Some signed fields are not needed here (policy, accuracy, ordering,
the name of the TSA): their form is checked and they are not interpreted. The fields that no
signature covers are fixed (versions, algorithms, identifiers), prove themselves (certificates), or
are ignored (attribute certificates). Certificates may have any order, since many TSAs do not sort
them.

A token is not bound to its block: anyone can remove it, or replace it by other bytes. So a faulty
token counts like a missing one (docs/adr/0010).
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from fwsign.errors import FwsignError, Malformed, Tampered, Untrusted, check_limit
from fwsign.format import cbor
from fwsign.format.algorithms import DIGESTS, PKCS1
from fwsign.format.cose import MAX_CHAIN, PublicKey
from fwsign.verify.policy import DevicePolicy, refuse_example
from fwsign.x509 import der
from fwsign.x509.certificate import Certificate, parse_certificate, signature_valid
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.revocation import CrlReader, Issued, check_kept, updates

BOOLEAN, OCTETS, OID, SET = 0x01, 0x04, 0x06, 0x31
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
    signed: der.Signed


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
    outer = der.DerReader(data)
    info = der.DerReader(outer.content(der.SEQUENCE))
    outer.end()
    _expect(info.content(OID), SIGNED_DATA, "its content is not SignedData")
    explicit = der.DerReader(info.content(TAG_0))
    info.end()
    cms = der.DerReader(explicit.content(der.SEQUENCE))
    explicit.end()
    version = cms.integer()
    digests = _only(der.DerReader(cms.content(SET)), "digest algorithm")
    content = _content(der.DerReader(cms.content(der.SEQUENCE)))
    certificates, demanded = _certificates(cms.optional(TAG_0))
    # RFC 5652 section 5.1: version 3, because the content is not id-data.
    _expect(version in {3, demanded}, True, "SignedData is not of version 3")
    signer = der.DerReader(_only(der.DerReader(cms.content(SET)), "signer, and no CRLs"))
    cms.end()
    return _signed_by(der.DerReader(signer.content(der.SEQUENCE)), digests, content, certificates)


def _content(encapsulated: der.DerReader) -> bytes:
    _expect(encapsulated.content(OID), TST_INFO, "what is signed is not a TSTInfo")
    explicit = der.DerReader(encapsulated.content(TAG_0))
    encapsulated.end()
    content = explicit.content(OCTETS)
    explicit.end()
    return content


def _certificates(content: bytes | None) -> tuple[list[bytes], int]:
    """Return the certificates, and the version of SignedData that the set demands."""
    found, count, version = [], 0, 3
    reader = der.DerReader(content or b"")
    while reader.more:
        count += 1
        check_limit(count, MAX_CHAIN, "more certificates in a time-stamp token")
        other = next((tag for tag in _NO_CERTIFICATES if reader.peek(tag)), None)
        if other is None:
            found.append(reader.whole(der.SEQUENCE))
        else:
            reader.content(other)
            version = max(version, _NO_CERTIFICATES[other])
    return found, version


def _signed_by(
    signer: der.DerReader, digests: bytes, content: bytes, certificates: Sequence[bytes]
) -> Token:
    """Read the SignerInfo (RFC 5652 section 5.3), and with it the TSTInfo."""
    version = signer.integer()
    key_identifier = signer.optional(TAG_0_PRIMITIVE)
    identifier = signer.content(der.SEQUENCE) if key_identifier is None else key_identifier
    _expect(version, 1 if key_identifier is None else 3, "a signer of the wrong version")
    algorithm = signer.whole(der.SEQUENCE)
    hashed = _hash(algorithm)
    _expect(_hash(digests), hashed, "two digest algorithms")
    attributes = signer.whole(TAG_0)
    signature_algorithm = signer.whole(der.SEQUENCE)
    signature = signer.content(OCTETS)
    signer.end()  # no unsigned attributes: none is needed, and anyone could add them
    signed = _signed_attributes(der.DerReader(attributes).content(TAG_0))
    if _single(signed[MESSAGE_DIGEST], OCTETS) != hashed(content).digest():
        raise Tampered("tampered.token", "the time-stamp token's content is not the signed one")
    data = _leaf(signed, certificates)
    leaf = parse_certificate(data)
    own = leaf.subject_key if key_identifier is not None else _issuer_and_serial(leaf)
    _expect(identifier, own, "its signer is not the certificate that it names")
    if signature_algorithm == _RSA:
        signature_algorithm = _RSA_WITH[hashed]
    # RFC 5652 section 5.4: the signature is over a SET OF, but the token has a [0] tag.
    parts = der.Signed(bytes([SET]) + attributes[1:], signature_algorithm, signature)
    return _tst_info(content)._replace(certificates=_chain(data, leaf, certificates), signed=parts)


def _signed_attributes(content: bytes) -> dict[bytes, bytes]:
    """Return the values of the signed attributes, by attribute type."""
    whole: list[bytes] = []
    values: dict[bytes, bytes] = {}
    reader = der.DerReader(content)
    while reader.more:
        whole.append(reader.whole(der.SEQUENCE))
        attribute = der.DerReader(der.DerReader(whole[-1]).content(der.SEQUENCE))
        kind, value = attribute.content(OID), attribute.content(SET)
        attribute.end()
        if kind in values:
            raise ValueError("a signed attribute twice")
        values[kind] = value
    if whole != sorted(whole):
        raise ValueError("signed attributes that are not in the order of DER")
    for kind, words in _NEEDED.items():
        if kind not in values:
            raise ValueError(f"no signed attribute {words}")
    _expect(_single(values[CONTENT_TYPE], OID), TST_INFO, "contentType is not TSTInfo")
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
    named = der.DerReader(_single(values, der.SEQUENCE))
    names = der.DerReader(named.content(der.SEQUENCE))
    named.optional(der.SEQUENCE)  # policies
    named.end()
    first = der.DerReader(names.content(der.SEQUENCE))
    while names.more:
        names.content(der.SEQUENCE)
    hashed = _SHA1 if kind == SIGNING_CERTIFICATE else hashlib.sha256
    if kind == SIGNING_CERTIFICATE_V2 and first.peek(der.SEQUENCE):
        hashed = _hash(first.whole(der.SEQUENCE))
    wanted = first.content(OCTETS)
    first.optional(der.SEQUENCE)  # issuer and serial number
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


def _issuer_and_serial(certificate: Certificate) -> bytes:
    return der.issuer_and_serial(certificate.signed.tbs)


# --- TSTInfo --------------------------------------------------------------------------------


def _tst_info(data: bytes) -> Token:
    """Read a TSTInfo (RFC 3161 section 2.4.2)."""
    outer = der.DerReader(data)
    info = der.DerReader(outer.content(der.SEQUENCE))
    outer.end()
    _expect(info.integer(), 1, "TSTInfo is not of version 1")
    info.content(OID)  # the policy, which only the TSA's customers need
    imprint = der.DerReader(info.content(der.SEQUENCE))
    hashed, digest = _hash(imprint.whole(der.SEQUENCE)), imprint.content(OCTETS)
    imprint.end()
    info.integer()  # serialNumber
    gen_time = der.generalized_time(info.content(der.GENERALIZED_TIME))
    info.optional(der.SEQUENCE)  # accuracy
    if info.optional(BOOLEAN) not in (None, b"\xff"):  # ordering; DER leaves out false
        raise ValueError("ordering is neither true nor absent")
    nonce = info.optional(der.INTEGER)
    info.optional(TAG_0)  # tsa: a name; a signed attribute identifies the certificate
    _check_extensions(der.DerReader(info.optional(TAG_1) or b""))
    info.end()
    number = None if nonce is None else der.number(nonce)
    return Token(gen_time, hashed, digest, number, (), der.Signed(b"", b"", b""))


def _check_extensions(reader: der.DerReader) -> None:
    while reader.more:
        extension = der.DerReader(reader.content(der.SEQUENCE))
        extension.content(OID)
        critical = extension.optional(BOOLEAN)
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


def _only(reader: der.DerReader, words: str) -> bytes:
    """Return the one SEQUENCE of a SET OF."""
    whole = reader.whole(der.SEQUENCE)
    if reader.more:
        raise ValueError(f"more than one {words}")
    return whole


def _single(values: bytes, tag: int) -> bytes:
    """Return the content of the one value of an attribute."""
    reader = der.DerReader(values)
    content = reader.content(tag)
    reader.end()
    return content


def _hash(identifier: bytes) -> Hash:
    if identifier not in HASHES:
        raise Untrusted(
            "untrusted.algorithm",
            f"digest algorithm {identifier.hex()} of a time-stamp token is not allowed",
            expected="SHA-256, SHA-384 or SHA-512",
            found=identifier.hex(),
        )
    return HASHES[identifier]
