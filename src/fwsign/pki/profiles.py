# SPDX-License-Identifier: Apache-2.0
"""The certificates of CAs (RFC 5280), as values without files; `leaves` has the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import Failed
from fwsign.format.cose import HASHES, Hash, kind_of
from fwsign.pki.certificates import common_name
from fwsign.pki.subjects import authority_name
from fwsign.x509 import der
from fwsign.x509.certificate import signature_valid
from fwsign.x509.roles import CONFIG_SIGNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.keys import PrivateKey, PublicKey

Extensions = tuple[tuple[x509.ExtensionType, bool], ...]

ROOT_LIFETIME: Final = timedelta(days=7305)  # 20 years: devices that pin it are hard to reach
ISSUING_LIFETIME: Final = timedelta(days=3652)  # 10 years
NO_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280 s.4.1.2.5: the notAfter of a certificate without an end date."""
SHORT_LIVED: Final = timedelta(days=10)
"""At most so long live certificates that are renewed often by design, as CRLs are."""
SHORT_SHARE: Final = 3
"""They end soon in the last third of their time."""
BACKDATED: Final = timedelta(hours=1)  # for verifiers whose clock is behind

NO_USAGE: Final = {
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
_CA_USAGE: Final = x509.KeyUsage(**{**NO_USAGE, "key_cert_sign": True, "crl_sign": True})


class CaLimits(NamedTuple):
    """The limits of an issuing CA: domains for dNSNames, extended key usages; none: no limit."""

    permitted: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = ()


SIGNING: Final = CaLimits(
    (), (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING, CONFIG_SIGNING)
)
"""A CA of signers, time stampers and channels, before its domains are known."""
TLS_ONLY: Final = CaLimits((), (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH))
"""An issuing CA of TLS servers and clients. It has no domains: mbedTLS, which many devices have,
reads no certificate with critical name constraints. Its usages keep it from signing code."""


class Authority(NamedTuple):
    """A CA that can sign: its certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey


def utc(now: datetime) -> datetime:
    """Return a time in UTC and whole seconds, the precision of certificates.

    Raises:
        Failed: `state.clock`: it has no zone, or is outside 1970 to 9899.
    """
    if now.tzinfo is None:
        raise Failed(
            "state.clock",
            f"the time {now.isoformat()} has no zone",
            expected="a time with a zone",
            found=now.isoformat(),
        )
    # Times in certificates begin in 1950 (RFC 5280 s.4.1.2.5), and Python's end in 9999.
    if not 1970 <= now.year < 9900:
        raise Failed(
            "state.clock",
            f"the time {now.isoformat()} is not possible",
            expected="a year from 1970 to 9899",
            found=now.year,
        )
    return now.astimezone(UTC).replace(microsecond=0)


def root_certificate(
    key: PrivateKey, org: str, now: datetime, *, number: int = 1, permitted: Sequence[str] = ()
) -> x509.Certificate:
    """Make the certificate that devices pin: self-signed, 20 years, no path length limit.

    Without that limit, a later CA level needs no new root. It has no authority key identifier,
    as RFC 5280 s.4.2.1.1 allows for self-signed certificates.

    Args:
        key: the root's key.
        org: the O, and with "Root CA" the CN.
        now: from `utc`.
        number: the root's number; from the second on the CN ends with it.
        permitted: the domains that limit dNSNames, if it issues leaves itself.
    """
    name = authority_name(org, "Root CA", number)
    public_key = key.public_key()
    return build_certificate(
        name,
        public_key,
        (now - BACKDATED, now + ROOT_LIFETIME),
        (name, key),
        (
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_CA_USAGE, True),
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
            # RFC 5280 s.4.2.1.10 has them critical, but mbedTLS reads no such certificate, and TLS
            # servers and clients are below this one, too. Our verifier obeys them in any case.
            *_constraints(permitted, critical=False),
        ),
    )


def crossed_certificate(
    root: x509.Certificate, issuer: Authority, now: datetime
) -> x509.Certificate:
    """Certify a root by another root, for devices that pin only the other one.

    Like a root it has no path length limit: it may certify the next root in its turn.
    """
    public_key: PublicKey = root.public_key()  # type: ignore[assignment]
    return build_certificate(
        root.subject,
        public_key,
        (begin(issuer.certificate, now), _end(ROOT_LIFETIME, issuer, now)),
        (issuer.certificate.subject, issuer.key),
        (
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_CA_USAGE, True),
            *key_identifiers(public_key, issuer),
        ),
    )


def issuing_certificate(
    public_key: PublicKey,
    subject: x509.Name,
    limits: CaLimits,
    issuer: Authority,
    now: datetime,
    *,
    end: datetime | None = None,
    more: Extensions = (),
) -> x509.Certificate:
    """Make the certificate of an issuing CA: 10 years, and no CA below.

    Args:
        public_key: the issuing CA's public key.
        subject: see `issuing_name`.
        limits: the domains and uses that it may issue for.
        issuer: a root.
        now: from `utc`.
        end: notAfter; None: 10 years from now, or with the issuer.
        more: more extensions, see `fwsign.pki.extras`.

    Source: RFC 5280 s.4.2.1.9 (path length), s.4.2.1.10 (name constraints are critical).
    """
    return build_certificate(
        subject,
        public_key,
        (begin(issuer.certificate, now), end or _end(ISSUING_LIFETIME, issuer, now)),
        (issuer.certificate.subject, issuer.key),
        (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_CA_USAGE, True),
            *limiting(limits),
            *key_identifiers(public_key, issuer),
            *more,
        ),
    )


def limits_of(issuer: x509.Certificate | x509.CertificateSigningRequest) -> CaLimits:
    """Return the domains and the extended key usages that limit a CA, or that a request names."""
    return CaLimits(permitted_vendors(issuer), usages_of(issuer))


def usages_of(
    issuer: x509.Certificate | x509.CertificateSigningRequest,
) -> tuple[x509.ObjectIdentifier, ...]:
    """Return the extended key usages that limit a CA; none means that it has no such limit."""
    try:
        return tuple(issuer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return ()


def _constraints(permitted: Sequence[str], *, critical: bool) -> Extensions:
    subtrees = [x509.DNSName(domain) for domain in permitted]
    return ((x509.NameConstraints(subtrees, None), critical),) if subtrees else ()


def limiting(limits: CaLimits) -> Extensions:
    """Return the extensions that limit an issuing CA."""
    # Critical above signers, as devices demand; not for TLS, where some stacks refuse it.
    critical = ExtendedKeyUsageOID.CODE_SIGNING in limits.usages
    usages = ((x509.ExtendedKeyUsage(limits.usages), critical),) if limits.usages else ()
    return (*_constraints(limits.permitted, critical=True), *usages)


def short_third(begin: datetime, end: datetime) -> timedelta | None:
    """Return the last third of a short-lived certificate's time; None for any other one."""
    life = end - begin
    return life / SHORT_SHARE if life <= SHORT_LIVED + BACKDATED else None


def begin(issuer: x509.Certificate, now: datetime) -> datetime:
    """Return the notBefore of a new certificate: an hour ago, but not before its issuer's."""
    return max(now - BACKDATED, issuer.not_valid_before_utc)


def permitted_vendors(
    issuer: x509.Certificate | x509.CertificateSigningRequest,
) -> tuple[str, ...]:
    """Return the domains that limit a CA; none means that it has no such limit."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    names = constraints.permitted_subtrees or []
    return tuple(name.value for name in names if isinstance(name, x509.DNSName))


def build_certificate(
    subject: x509.Name,
    public_key: PublicKey,
    period: tuple[datetime, datetime],
    issuer: tuple[x509.Name, PrivateKey],
    extensions: Extensions,
) -> x509.Certificate:
    """Make a certificate with a random serial number.

    Args:
        subject: the holder's name.
        public_key: the holder's public key.
        period: notBefore and notAfter, the later one.
        issuer: the issuer's name and key.
        extensions: each with its criticality.

    Raises:
        Failed: `state.pki`: the period is empty.
    """
    issuer_name, key = issuer
    _refuse_empty(period)
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
    made = builder.sign(key, signature_hash(key))
    refuse_wrong_signature(made.public_bytes(Encoding.DER), key)
    return made


def refuse_wrong_signature(data: bytes, key: PrivateKey, *, crl: bool = False) -> None:
    """Refuse a new certificate or CRL whose signature is wrong, as by a token that fails.

    Raises:
        Failed: `key.failed`.
    """
    try:
        good = signature_valid(der.split(data, crl=crl), key.public_key())
    except ValueError:
        good = False
    if not good:
        raise wrong_signature("CRL" if crl else "certificate")


def wrong_signature(what: str) -> Failed:
    """Return the refusal of a new certificate, request or CRL that its key signed wrongly."""
    return Failed(
        "key.failed",
        f"the key made a wrong signature: the new {what} does not verify",
        expected=f"a {what} that verifies",
        found="a wrong signature",
    )


def _refuse_empty(period: tuple[datetime, datetime]) -> None:
    """Refuse a certificate that would never be valid, whoever asked for it."""
    begin, end = period
    if end <= begin:
        raise Failed(
            "state.pki",
            f"a certificate would end {end:%Y-%m-%d %H:%M}, before it begins, "
            f"{begin:%Y-%m-%d %H:%M}",
            expected=f"after {begin:%Y-%m-%d %H:%M}",
            found=f"{end:%Y-%m-%d %H:%M}",
        )


def _end(lifetime: timedelta, issuer: Authority, now: datetime) -> datetime:
    return min(now + lifetime, issuer.certificate.not_valid_after_utc)


def key_identifiers(public_key: PublicKey, issuer: Authority) -> Extensions:
    """Return the extensions that identify a certificate's key and its issuer's key."""
    # Method 1 of RFC 5280 s.4.2.1.2 is SHA-1; nothing depends on its strength here.
    subject_key = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return ((subject_key, False), (authority_key(issuer), False))


def authority_key(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    """Return the extension that identifies an issuer's key.

    Raises:
        Failed: `state.pki`: the issuer's certificate has no key identifier.
    """
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


def signature_hash(key: PrivateKey) -> Hash | None:
    """Return the hash for a key; None for Ed25519 and ML-DSA, which have their own."""
    kind = kind_of(key.public_key())
    return HASHES.get(kind.digest) if kind else None
