"""PKIs that easy-rsa, openssl and cfssl made, with the habits that these have."""

from datetime import UTC, datetime

import pytest
from cryptography import x509

from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.revocation import CrlReader
from fwsign.x509.roles import Profile
from support import der, refused, vectors

FOLDER = vectors() / "foreign-pki"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
pytestmark = pytest.mark.external


def certificate(name: str) -> bytes:
    return der(x509.load_pem_x509_certificate((FOLDER / name).read_bytes()))


def validated(*names: str, profile: Profile) -> CertificationPath:
    """Validate a path given from the leaf to the root, at the beginning of December."""
    chain = [certificate(name) for name in names]
    anchor = Anchor.from_certificate(chain[-1])
    path = validate_path(chain[:-1], [anchor], profile=profile)
    check_dates(path, DECEMBER)
    return path


EASYRSA = ("easyrsa-root/pki/issued/fw-signer-1.crt", "easyrsa-root/pki/ca.crt")
OPENSSL = ("openssl/s.pem", "openssl/r.pem")
CFSSL = ("cfssl/s.pem", "cfssl/i.pem", "cfssl/ca.pem")


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (EASYRSA, "untrusted.criticality", 'basicConstraints of CA "Acme Root" is not critical'),
        (OPENSSL, "untrusted.key-usage", 'CA "OS root" has no key usage'),
        (CFSSL, "untrusted.criticality", 'extended key usage of "fw-signer" is not critical'),
    ],
    ids=["easy-rsa 3.1.0", "openssl req -x509", "cfssl 1.2"],
)
def test_strict_refuses_foreign_pkis(names: tuple[str, ...], code: str, words: str) -> None:
    with refused(code, words):
        validated(*names, profile="strict")


@pytest.mark.parametrize(
    ("names", "forgiven"),
    [
        (
            EASYRSA,
            (
                'basicConstraints of CA "Acme Root" is not critical',
                'extended key usage of "fw-signer-1" is not critical',
            ),
        ),
        (
            OPENSSL,
            ('CA "OS root" has no key usage', 'extended key usage of "signer" is not critical'),
        ),
        (CFSSL, ('extended key usage of "fw-signer" is not critical',)),
    ],
    ids=["easy-rsa 3.1.0", "openssl req -x509", "cfssl 1.2"],
)
def test_compat_accepts_foreign_pkis_and_names_what_it_forgave(
    names: tuple[str, ...], forgiven: tuple[str, ...]
) -> None:
    assert validated(*names, profile="compat").forgiven == forgiven


def easyrsa_crl() -> bytes:
    return der(x509.load_pem_x509_crl((FOLDER / "easyrsa-root/pki/crl.pem").read_bytes()))


def test_compat_accepts_the_crl_of_easyrsa_and_names_what_it_forgave() -> None:
    path = validated(*EASYRSA, profile="compat")
    reader = CrlReader("compat")
    issued, forgiven = reader.collect(path, [easyrsa_crl()])
    reader.check(issued, DECEMBER)
    assert forgiven == ('CRL of "Acme Root" has no number',)


def test_strict_refuses_the_crl_of_easyrsa() -> None:
    path = validated(*EASYRSA, profile="compat")
    with refused("untrusted.crl", 'CRL of "Acme Root" has no number'):
        CrlReader("strict").collect(path, [easyrsa_crl()])


def test_the_crl_of_easyrsa_goes_stale() -> None:
    path = validated(*EASYRSA, profile="compat")
    reader = CrlReader("compat")
    issued = reader.collect(path, [easyrsa_crl()]).issued
    with refused("stale.crl", 'CRL of "Acme Root" was to be replaced by 2027-05-21'):
        reader.check(issued, datetime(2027, 6, 1, tzinfo=UTC))


def test_cfssl_leaves_without_a_name_have_no_vendor() -> None:
    assert validated(*CFSSL, profile="compat").vendors == ()
