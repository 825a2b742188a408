# SPDX-License-Identifier: Apache-2.0
"""Lint rules about a single certificate and its dates."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fwsign.format.algorithms import CERTIFICATE_ALGORITHMS, PATH_KEYS
from fwsign.format.cose import MIN_RSA_BITS, allowed_rsa_size, key_kind, key_name
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys.asn1 import elements
from fwsign.keys.published import is_published
from fwsign.pki.lint.der import GENERALIZED_TIME
from fwsign.pki.lint.files import Seen
from fwsign.pki.lint.rules import Finding, found
from fwsign.pki.profiles import short_third
from fwsign.pki.view.words import shown_serial
from fwsign.spans import plain_span
from fwsign.x509.certificate import MAX_SERIAL_BITS
from fwsign.x509.constraints import is_domain
from fwsign.x509.roles import CONFIG_SIGNING, MIN_CA_RSA_BITS, Use

CA_LONG: Final = timedelta(days=20 * 366)
LEAF_LONG: Final = timedelta(days=3 * 366)
CA_SOON: Final = timedelta(days=365)
LEAF_SOON: Final = timedelta(days=90)
SHORT_SERIAL: Final = 8  # octets: RFC 5280 asks for unique, the CA/Browser Forum for 64 random bits

_LAST_UTC_TIME = 2049
_KNOWN = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_ALGORITHM_NAMES = {
    "1.2.840.113549.1.1.4": "MD5 with RSA",
    "1.2.840.113549.1.1.5": "SHA-1 with RSA",
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.2.840.10045.4.1": "SHA-1 with ECDSA",
}


def signs_code(certificate: Seen) -> bool:
    """Tell whether a leaf counts as a signer: it is one, or has no other purpose."""
    usages = certificate.usages
    return (not usages and not certificate.is_group) or bool(
        {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {*usages}
    )


def judged_for(certificate: Seen) -> Use | None:
    """Return the use that devices judge a leaf for; None if they never see it."""
    if signs_code(certificate):
        return "codeSigning"
    if certificate.is_group:
        return "keyAgreement"
    return "configSigning" if CONFIG_SIGNING in certificate.usages else None


def check(
    certificate: Seen, *, above: bool, now: datetime, renewed: bool = False
) -> Iterator[Finding]:
    """Find the faults of a certificate itself.

    Args:
        certificate: a certificate that is not revoked.
        above: whether it is a CA here, or claims to be one and is not a signer.
        now: the time to judge at.
        renewed: whether one with the same name is here that ends later, or other CAs have taken
            over.
    """
    for rule in (_form, _key, _published, _signature, _extensions):
        for code, message in rule(certificate, above):
            yield found(code, certificate.name, certificate.file, message)
    dates = () if renewed else _dates(certificate, above, now)
    for code, message in (*dates, *_lifetime(certificate, above)):
        yield found(code, certificate.name, certificate.file, message)
    for code, message in _authority(certificate) if above else _leaf(certificate):
        yield found(code, certificate.name, certificate.file, message)


_Said = Iterator[tuple[str, str]]


def _form(certificate: Seen, above: bool) -> _Said:
    del above
    version, fields = certificate.parsed.version, certificate.fields
    if version is not x509.Version.v3:
        yield "lint.version", f"version {version.name}, expected v3"
    least = 0 if certificate.is_root else 1  # devices pin roots, and accept 0 there
    if not least <= fields.serial < 1 << MAX_SERIAL_BITS:
        yield "lint.serial", f"serial number {shown_serial(fields.serial)}"
    elif fields.serial_size < SHORT_SERIAL:
        yield "lint.serial-short", f"serial number {shown_serial(fields.serial)}"
    dates = (certificate.parsed.not_valid_before_utc, certificate.parsed.not_valid_after_utc)
    for time, date in zip(fields.times, dates, strict=False):
        if time.tag == GENERALIZED_TIME and date.year <= _LAST_UTC_TIME:
            yield "lint.time-encoding", f"{date:%Y-%m-%d} is a GeneralizedTime, expected UTCTime"


def _key(certificate: Seen, above: bool) -> _Said:
    least = MIN_CA_RSA_BITS if above or not signs_code(certificate) else MIN_RSA_BITS
    expected = f"{', '.join(PATH_KEYS)}; RSA of {least} bits or more"
    try:
        key = certificate.parsed.public_key()
        if key_kind(key) not in PATH_KEYS or not allowed_rsa_size(key, least):
            yield "lint.key", f"the key is {key_name(key)}, expected {expected}"
    except (UnsupportedAlgorithm, *PARSE_ERRORS) as error:
        yield "lint.key", f"the key cannot be used: {error}"


def _published(certificate: Seen, above: bool) -> _Said:
    del above
    if certificate.spki and (whose := is_published(certificate.spki)):
        yield "lint.published-key", f"the key is {whose}, whose private half is published"


def _signature(certificate: Seen, above: bool) -> _Said:
    del above
    fields = elements(elements(certificate.der)[0].content)
    head = bytes([fields[1].tag, len(fields[1].content)])
    if head + fields[1].content not in CERTIFICATE_ALGORITHMS:
        oid = certificate.parsed.signature_algorithm_oid.dotted_string
        code = "lint.root-signature-weak" if certificate.is_root else "lint.signature-weak"
        yield code, f"signed with {_ALGORITHM_NAMES.get(oid, oid)}"


def _extensions(certificate: Seen, above: bool) -> _Said:
    del above
    for fault in certificate.extensions.faults:
        yield "lint.extension", fault
    for extension in certificate.extensions.each:
        if extension.critical and extension.oid not in _KNOWN:
            yield "lint.critical-extension", f"critical extension {extension.oid.dotted_string}"
    if not certificate.is_root and certificate.key_identifiers[1] is None:
        yield "lint.aki-absent", "no authority key identifier"
    extended = certificate.extension(x509.ExtendedKeyUsage)
    # TLS certificates never have it critical, and a CA for TLS is above no signer.
    if signs_code(certificate) and extended is not None and not extended.critical:
        yield "lint.eku-criticality", "extended key usage is not critical"


def _dates(certificate: Seen, above: bool, now: datetime) -> _Said:
    first, last = certificate.parsed.not_valid_before_utc, certificate.parsed.not_valid_after_utc
    soon = short_third(first, last) or (CA_SOON if above else LEAF_SOON)
    if now > last:
        code = "lint.root-expired" if certificate.is_root and above else "lint.expired"
        yield code, f"expired {last:%Y-%m-%d}, it is {now:%Y-%m-%d}"
    elif last - now < soon:
        yield "lint.expires-soon", f"expires {last:%Y-%m-%d}, in {plain_span(last - now)}"
    if now < first:
        yield "lint.not-yet-valid", f"valid from {first:%Y-%m-%d}, it is {now:%Y-%m-%d}"


def _lifetime(certificate: Seen, above: bool) -> _Said:
    first, last = certificate.parsed.not_valid_before_utc, certificate.parsed.not_valid_after_utc
    if last - first > (CA_LONG if above else LEAF_LONG) and (above or signs_code(certificate)):
        code = "lint.ca-long-lived" if above else "lint.leaf-long-lived"
        yield code, f"valid for {(last - first).days // 365} years"


def _authority(ca: Seen) -> _Said:
    basic = ca.extension(x509.BasicConstraints)
    if basic is not None and basic.value.ca and not basic.critical:
        yield "lint.ca-criticality", "basicConstraints is not critical"
    usage = ca.extension(x509.KeyUsage)
    if usage is None:
        yield "lint.ca-key-usage-absent", "no key usage"
    elif not usage.value.key_cert_sign:
        yield "lint.ca-cert-sign", "key usage lacks keyCertSign"
    if usage is not None and not usage.value.crl_sign:
        yield "lint.ca-crl-sign", "key usage lacks cRLSign"
    if ca.key_identifiers[0] is None:
        yield "lint.ski-absent", "no subject key identifier"
    constraints = ca.extension(x509.NameConstraints)
    if constraints is None:
        return
    if not constraints.critical:
        yield "lint.constraints-criticality", "name constraints are not critical"
    value = constraints.value
    for base in (*(value.permitted_subtrees or ()), *(value.excluded_subtrees or ())):
        dotted = isinstance(base, x509.DNSName) and base.value.startswith(".")
        if dotted or not isinstance(base, (x509.DNSName, x509.DirectoryName)):
            yield "lint.constraints-kind", f"a name constraint on {base.value}"


def _leaf(leaf: Seen) -> _Said:
    if not signs_code(leaf):
        return  # certificates for TLS or time stamps are the business of other programs
    if leaf.is_ca:
        yield "lint.ca-as-leaf", "a CA with digitalSignature and codeSigning, and nothing below it"
    elif leaf.is_root:
        yield "lint.self-signed-leaf", "it has issued itself"
    usage = leaf.extension(x509.KeyUsage)
    if usage is None:
        yield "lint.leaf-key-usage", "no key usage, expected digitalSignature"
    elif not usage.value.digital_signature or (usage.value.key_cert_sign and not leaf.is_ca):
        yield "lint.leaf-key-usage", "key usage must have digitalSignature and not keyCertSign"
    if not leaf.usages:
        yield "lint.eku-absent", "no extended key usage, expected codeSigning"
    elif ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in leaf.usages:
        yield "lint.eku-any", "extended key usage is any, expected codeSigning"
    yield from _vendors(leaf)


def _vendors(leaf: Seen) -> _Said:
    alternative = leaf.extension(x509.SubjectAlternativeName)
    names = alternative.value.get_values_for_type(x509.DNSName) if alternative else []
    if not any(names):
        yield "lint.vendor-absent", "no dNSName: it may sign for no vendor"
    for name in names:
        if name and not is_domain(name):
            yield "lint.vendor-name", f'dNSName "{name}" is not a lower-case domain'
