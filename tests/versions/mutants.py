"""Certificates, CRLs and keys with every kind of field, and mutants of them.

usage: mutants.py COUNT >MUTANTS        COUNT mutants of each, the same each time
"""

import ipaddress
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    SubjectInformationAccessOID,
)

from mutation import Dice, close_der, mutate_der, open_der

Parts = Sequence[tuple[x509.ExtensionType, bool]]

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2055, 1, 1, tzinfo=UTC)
KEY = ec.derive_private_key(7, ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.RSAPublicNumbers(65537, (1 << 2048) - 1942289)  # of no use but to be parsed
IDENTIFIER = x509.ObjectIdentifier("1.2.3")
NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Açme"),
        x509.NameAttribute(NameOID.COMMON_NAME, "ca"),
        x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.c"),
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "dc"),
    ]
)
ADDRESS = x509.UniformResourceIdentifier("http://a/b")
GENERAL: tuple[x509.GeneralName, ...] = (
    x509.DNSName("a.example"),
    x509.RFC822Name("a@b.c"),
    ADDRESS,
    x509.IPAddress(ipaddress.ip_address("192.0.2.4")),
    x509.IPAddress(ipaddress.ip_address("::1")),
    x509.DirectoryName(NAME),
    x509.RegisteredID(IDENTIFIER),
    x509.OtherName(IDENTIFIER, b"\x05\x00"),
)
SUBTREES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("a.example"),
    x509.DNSName(""),
    x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
    x509.DirectoryName(NAME),
)
POINT = x509.DistributionPoint(GENERAL[:3], None, None, None)
POINTS = (
    x509.DistributionPoint(
        GENERAL[:2],
        None,
        frozenset([x509.ReasonFlags.key_compromise]),
        [x509.DirectoryName(NAME)],
    ),
    x509.DistributionPoint(
        None,
        x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "x")]),
        None,
        None,
    ),
    POINT,
)
USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=True,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
NOTICE = x509.UserNotice(x509.NoticeReference("org", [1, 2]), "text")
PROFESSION = x509.ProfessionInfo(None, ["x"], [IDENTIFIER], "7", b"ab")
EXTENSIONS: Parts = (
    (x509.BasicConstraints(ca=True, path_length=3), True),
    (USAGE, True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, IDENTIFIER]), True),
    (x509.SubjectAlternativeName(GENERAL), False),
    (x509.NameConstraints(SUBTREES, SUBTREES[:1]), True),
    (x509.SubjectKeyIdentifier(b"12345"), False),
    (x509.AuthorityKeyIdentifier(b"12345", [x509.DirectoryName(NAME)], 77), False),
    (x509.CRLDistributionPoints(POINTS), False),
    (x509.IssuerAlternativeName(GENERAL), False),
    (x509.FreshestCRL([POINT]), False),
    (
        x509.AuthorityInformationAccess(
            [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, ADDRESS)]
        ),
        False,
    ),
    (
        x509.SubjectInformationAccess(
            [x509.AccessDescription(SubjectInformationAccessOID.CA_REPOSITORY, ADDRESS)]
        ),
        False,
    ),
    (
        x509.CertificatePolicies([x509.PolicyInformation(IDENTIFIER, ["http://cps", NOTICE])]),
        False,
    ),
    (x509.PolicyConstraints(1, 2), True),
    (x509.InhibitAnyPolicy(3), True),
    (x509.OCSPNoCheck(), False),
    (x509.TLSFeature([x509.TLSFeatureType.status_request]), False),
    (x509.PrecertPoison(), True),
    (x509.MSCertificateTemplate(IDENTIFIER, 1, 2), False),
    (x509.PrivateKeyUsagePeriod(START.replace(tzinfo=None), END.replace(tzinfo=None)), False),
    (
        x509.Admissions(x509.DirectoryName(NAME), [x509.Admission(None, None, [PROFESSION])]),
        False,
    ),
    (x509.UnrecognizedExtension(IDENTIFIER, b"\x05\x00"), False),
)


def main() -> None:
    """Print a plain certificate, then each original and its mutants, in hexadecimal."""
    count = int(sys.argv[1])
    print(certificate(KEY.public_key(), EXTENSIONS[:2]).hex())
    for number, (kind, data) in enumerate(originals()):
        print(kind, data.hex())
        for one in mutants(data, Dice((number, kind)), count):
            print(kind, one.hex())


def originals() -> Iterator[tuple[str, bytes]]:
    """Yield certificates, CRLs and keys."""
    yield "certificate", certificate(KEY.public_key(), EXTENSIONS[:8])
    yield "certificate", certificate(RSA.public_key(), EXTENSIONS[:3])
    yield "certificate", certificate(EDWARDS.public_key(), EXTENSIONS[3:4])
    for one in EXTENSIONS[3:]:
        yield "certificate", certificate(KEY.public_key(), [one])
    number: Parts = [(x509.CRLNumber(5), False)]
    authority: Parts = [(x509.AuthorityKeyIdentifier(b"12345", None, None), False)]
    for extensions, count in (
        (number, 0),
        ([*number, *authority], 3),
        ([*number, *authority], 4),
        ([*number, *authority], len(ENTRIES)),
        *(([*number, one], 2) for one in CRL_EXTENSIONS),
    ):
        yield "crl", crl(extensions, ENTRIES[:count])
    curves = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())
    keys = [ec.derive_private_key(7, curve).public_key() for curve in curves]
    every: tuple[Any, ...] = (*keys, EDWARDS.public_key(), RSA.public_key())
    for key in every:
        yield "key", key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def certificate(key: Any, extensions: Parts) -> bytes:
    """Return a certificate in DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key)
        .serial_number(0x1234)
        .not_valid_before(START)
        .not_valid_after(END)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def entry(serial: int, *extensions: tuple[x509.ExtensionType, bool]) -> x509.RevokedCertificate:
    """Return an entry of a CRL."""
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.build()


COMPROMISED = x509.CRLReason(x509.ReasonFlags.key_compromise)
ENTRIES = (
    entry(1),
    entry(2, (x509.CRLReason(x509.ReasonFlags.superseded), False)),
    entry(3, (COMPROMISED, False), (x509.InvalidityDate(START.replace(tzinfo=None)), False)),
    entry(4, (COMPROMISED, True)),
    entry(5, (x509.CertificateIssuer([x509.DirectoryName(NAME)]), True)),
    entry(0x1234, (x509.UnrecognizedExtension(IDENTIFIER, b"\x05\x00"), False)),
)
CRL_EXTENSIONS: Parts = (
    (
        x509.IssuingDistributionPoint(
            full_name=GENERAL[2:3],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        ),
        True,
    ),
    (x509.DeltaCRLIndicator(3), True),
    (x509.FreshestCRL([POINT]), False),
    (x509.IssuerAlternativeName(GENERAL), False),
    (
        x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.60"), b"\x18\x0f20200101000000Z"),
        False,
    ),
)


def crl(extensions: Parts, entries: Sequence[x509.RevokedCertificate]) -> bytes:
    """Return a CRL in DER."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(NAME)
    builder = builder.last_update(START).next_update(END)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    for one in entries:
        builder = builder.add_revoked_certificate(one)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def mutants(data: bytes, dice: Dice, count: int) -> Iterator[bytes]:
    """Yield mutants: half of them still DER, half with one other byte."""
    for number in range(count):
        if number % 2:
            at = dice.below(len(data))
            yield data[:at] + bytes([dice.below(256)]) + data[at + 1 :]
            continue
        tree = open_der(data)
        for _ in range(dice.pick((1, 1, 1, 2, 3))):
            mutate_der(tree, dice)
        yield close_der(tree)


if __name__ == "__main__":
    main()
