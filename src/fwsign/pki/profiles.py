# SPDX-License-Identifier: Apache-2.0
"""The certificates and CRLs that fwsign makes (RFC 5280), as values: no files here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import Failed
from fwsign.pki.directory import ISSUING, ROOT, common_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fwsign.keys import PrivateKey, PublicKey

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_Extensions = tuple[tuple[x509.ExtensionType, bool], ...]

ROOT_LIFETIME: Final = timedelta(days=7305)  # 20 years: devices pin it, and are hard to reach
ISSUING_LIFETIME: Final = timedelta(days=3652)  # 10 years
SIGNER_LIFETIME: Final = timedelta(days=730)  # 2 years
CRL_LIFETIMES: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        ROOT: timedelta(days=400),  # its key is offline: once a year, and a month to do it
        ISSUING: timedelta(days=90),
    }
)
BACKDATED: Final = timedelta(hours=1)  # for verifiers whose clock is behind

# ITU-T X.509: entries stay on the CRL when their certificate has expired.
EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")

_NO_USAGE: Final = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}
_CA_USAGE: Final = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})
_SIGNER_USAGE: Final = x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True})


class Authority(NamedTuple):
    """A CA that can sign: its certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: PrivateKey


def utc(now: datetime) -> datetime:
    """Return a time in UTC and whole seconds, the finest that certificates carry.

    Raises:
        Failed: `state.clock`: without a zone, or outside 1970 to 9899.
    """
    if now.tzinfo is None:
        raise Failed(
            "state.clock",
            f"the time {now.isoformat()} has no zone",
            expected="a time with a zone",
            found=now.isoformat(),
        )
    # Certificates begin with 1950 (RFC 5280 s.4.1.2.5) and Python's time ends with 9999.
    if not 1970 <= now.year < 9900:
        raise Failed(
            "state.clock",
            f"the time {now.isoformat()} cannot be",
            expected="a year from 1970 to 9899",
            found=now.year,
        )
    return now.astimezone(UTC).replace(microsecond=0)


def root_certificate(key: PrivateKey, org: str, now: datetime) -> x509.Certificate:
    """Make the certificate that devices pin: self-signed, 20 years, no path length limit.

    Without one, a later CA level needs no new root. It names no authority key, as RFC 5280
    s.4.2.1.1 allows for self-signed certificates.
    """
    name = _name(org, f"{org} Root CA")
    public_key = key.public_key()
    return _certificate(
        name,
        public_key,
        (now - BACKDATED, now + ROOT_LIFETIME),
        (name, key),
        (
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_CA_USAGE, True),
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        ),
    )


def issuing_certificate(
    public_key: PublicKey, org: str, vendor: str, issuer: Authority, now: datetime
) -> x509.Certificate:
    """Make the certificate of the CA that issues signers: 10 years, one vendor, nothing below.

    It has no extended key usage, so that it can issue for more than code signing.

    Source: RFC 5280 s.4.2.1.9 (path length), s.4.2.1.10 (name constraints are critical).
    """
    permitted = [x509.DNSName(vendor)]
    return _certificate(
        _name(org, f"{org} Issuing CA"),
        public_key,
        (now - BACKDATED, min(now + ISSUING_LIFETIME, issuer.certificate.not_valid_after_utc)),
        (issuer.certificate.subject, issuer.key),
        (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_CA_USAGE, True),
            (x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), True),
            *_key_identifiers(public_key, issuer),
        ),
    )


def signer_certificate(
    public_key: PublicKey,
    name: str,
    vendors: Sequence[str],
    period: tuple[datetime, datetime],
    issuer: Authority,
) -> x509.Certificate:
    """Make a signer's certificate: code signing, for the vendors in its dNSName SANs.

    Args:
        public_key: the signer's.
        name: becomes the CN; O is that of the issuer.
        vendors: domains as `fwsign.names.vendor_domain` returns them.
        period: notBefore and notAfter.
        issuer: the CA.

    Source: RFC 5280 s.4.2.1.3, s.4.2.1.12.
    """
    orgs = issuer.certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    return _certificate(
        _name(str(orgs[0].value) if orgs else None, name),
        public_key,
        period,
        (issuer.certificate.subject, issuer.key),
        (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_SIGNER_USAGE, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), True),
            (x509.SubjectAlternativeName([x509.DNSName(vendor) for vendor in vendors]), False),
            *_key_identifiers(public_key, issuer),
        ),
    )


def revocation_list(
    issuer: Authority,
    number: int,
    lifetime: timedelta,
    entries: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> x509.CertificateRevocationList:
    """Make a CRL of everything that a CA has issued, expired certificates included.

    Args:
        issuer: the CA.
        number: cRLNumber, higher than that of every CRL before.
        lifetime: from thisUpdate, which is `now`, to nextUpdate.
        entries: all certificates that are revoked.
        now: from `utc`.

    Source: RFC 5280 s.5; expiredCertsOnCRL: ITU-T X.509.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(_authority_key(issuer), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_expired_since(issuer.certificate.not_valid_before_utc), critical=False)
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, _signature_hash(issuer.key))


def revoked_entry(serial: int, reason: str, now: datetime) -> x509.RevokedCertificate:
    """Make the entry of a CRL for one certificate.

    Args:
        serial: the certificate's serial number.
        reason: a name of RFC 5280 s.5.3.1; "unspecified" is written as no reason, as it says.
        now: from `utc`.
    """
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    flag = x509.ReasonFlags(reason)
    if flag is not x509.ReasonFlags.unspecified:
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()


def permitted_vendors(issuer: x509.Certificate) -> tuple[str, ...]:
    """Return the domains within which a CA may issue; none means that it has no such limit."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    names = constraints.permitted_subtrees or []
    return tuple(name.value for name in names if isinstance(name, x509.DNSName))


def _certificate(
    subject: x509.Name,
    public_key: PublicKey,
    period: tuple[datetime, datetime],
    issuer: tuple[x509.Name, PrivateKey],
    extensions: _Extensions,
) -> x509.Certificate:
    issuer_name, key = issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public_key)
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .serial_number(x509.random_serial_number())  # 159 random bits
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, _signature_hash(key))


def _name(org: str | None, common: str) -> x509.Name:
    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common)]
    if org is not None:
        parts.insert(0, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, org))
    return x509.Name(parts)


def _key_identifiers(public_key: PublicKey, issuer: Authority) -> _Extensions:
    # Method 1 of RFC 5280 s.4.2.1.2: SHA-1, where nothing depends on its strength.
    subject_key = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return ((subject_key, False), (_authority_key(issuer), False))


def _authority_key(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    try:
        extension = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise Failed(
            "state.pki",
            f'the certificate of the CA "{common_name(issuer.certificate)}" '
            "has no subject key identifier",
            expected="a subject key identifier",
            found="none",
        ) from error
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)


def _expired_since(begin: datetime) -> x509.UnrecognizedExtension:
    time = begin.strftime("%Y%m%d%H%M%SZ").encode()  # GeneralizedTime, RFC 5280 s.4.1.2.5.2
    return x509.UnrecognizedExtension(EXPIRED_CERTS_ON_CRL, bytes((0x18, len(time))) + time)


def _signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, rsa.RSAPrivateKey):
        return hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
    return None  # Ed25519 and ML-DSA bring their own
