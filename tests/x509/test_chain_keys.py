"""Certification paths: kinds of keys, anchors, dates, and what the compat profile forgives."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.roles import Profile
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    Entity,
    ca_extensions,
    certify,
    der,
    key_usage,
    leaf_extensions,
    make_ca,
    make_leaf,
    make_pki,
    name,
    new_key,
    refused,
)

PKI = make_pki()
KEY = new_key()
ALLOWED = ("p256", "p384", "p521", "ed25519", "ml-dsa-65", "ml-dsa-87", "rsa3072")
SECOND = timedelta(seconds=1)


def validate(*path: Entity | Anchor, profile: Profile = "strict") -> CertificationPath:
    """Validate a path given from the leaf to the anchor."""
    chain = [entity.der for entity in path[:-1] if isinstance(entity, Entity)]
    last = path[-1]
    return validate_path(
        chain, [last.anchor if isinstance(last, Entity) else last], profile=profile
    )


def bare(entity: Entity) -> Anchor:
    return Anchor.from_public_key(der(entity.key.public_key()))


# --- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALLOWED)
def test_allowed_kinds_of_keys_everywhere(alg: str) -> None:
    pki = make_pki(alg)
    assert validate(pki.leaf, pki.issuing, pki.root)


def test_rsa_2048_is_allowed_for_cas() -> None:
    root = make_ca(alg="rsa2048")
    assert validate(make_leaf(root), root)


@pytest.mark.parametrize(
    ("alg", "shown"),
    [
        ("rsa2048", "RSA-2048"),
        ("rsa1024", "RSA-1024"),
        ("secp256k1", "secp256k1"),
        ("ml-dsa-44", "MLDSA44"),
        ("ed448", "Ed448"),
    ],
)
def test_other_keys_of_leaves_are_refused(alg: str, shown: str) -> None:
    leaf = make_leaf(PKI.root, alg=alg)
    words = f'the key of "release" is {shown}, expected P-256', "RSA of 3072 bits or more"
    with refused("untrusted.algorithm", *words) as caught:
        validate(leaf, PKI.root)
    assert caught.value.found == shown


@pytest.mark.parametrize("alg", ["rsa1024", "secp256k1", "ml-dsa-44", "ed448"])
@pytest.mark.parametrize("where", ["CA", "anchor", "bare anchor"])
def test_other_keys_of_issuers_are_refused(alg: str, where: str) -> None:
    root = make_ca(alg="p256" if where == "CA" else alg)
    ca = make_ca("Issuing", root, alg if where == "CA" else "p256")
    anchor = bare(root) if where == "bare anchor" else root.anchor
    unsigned = (where, alg) == ("bare anchor", "secp256k1")  # nothing verifies under such a key
    with refused("untrusted.no-anchor" if unsigned else "untrusted.algorithm"):
        validate(make_leaf(ca), ca, anchor)


def test_rsa_1024_of_an_issuer_is_refused_and_named() -> None:
    root = make_ca(alg="rsa1024")
    words = 'the key of "Root" is RSA-1024', "RSA of 2048 bits or more"
    with refused("untrusted.algorithm", *words):
        validate(make_leaf(root), root)


def test_a_bare_rsa_1024_key_issues_nothing() -> None:
    root = make_ca(alg="rsa1024")
    with refused("untrusted.algorithm", 'the key of "RSA-1024 key" is RSA-1024'):
        validate(make_leaf(root), bare(root))


def test_certificates_signed_with_short_hashes_are_refused() -> None:
    leaf = certify(KEY, name("release"), PKI.root, leaf_extensions(), algorithm=hashes.SHA224())
    with refused("untrusted.algorithm", "signature algorithm 30", "is not allowed"):
        validate(leaf, PKI.root)


# --- anchors --------------------------------------------------------------------------------


def test_a_bare_key_is_an_anchor() -> None:
    path = validate(PKI.leaf, PKI.issuing, bare(PKI.root))
    assert (path.anchor.name, path.anchor.spki) == ("P-256 key", PKI.root.anchor.spki)
    assert path.keys[-1] == path.anchor.spki


def test_a_bare_key_ends_the_path_at_what_it_signed() -> None:
    assert len(validate(PKI.leaf, PKI.issuing, bare(PKI.issuing)).certificates) == 1
    with refused("untrusted.no-anchor", 'the anchors are "P-256 key"'):
        validate(PKI.leaf, PKI.issuing, bare(PKI.leaf))


def test_a_certificate_without_authority_key_identifier_under_a_bare_key_is_refused() -> None:
    leaf = certify(KEY, name("release"), PKI.root, leaf_extensions(), identifiers=False)
    with refused("untrusted.key-identifier", "names issuer key none, the issuer has none"):
        validate(leaf, bare(PKI.root))


def test_a_path_of_a_bare_key_alone() -> None:
    path = CertificationPath((), bare(PKI.root))
    assert (path.name, path.vendors, path.keys) == ("P-256 key", (), (PKI.root.anchor.spki,))


def test_vendors_of_an_anchor_that_is_a_bare_key_apply() -> None:
    anchor = Anchor.from_public_key(der(PKI.root.key.public_key()), ["other.example"])
    with refused("untrusted.name-constraint", 'anchor "P-256 key" permits "other.example"'):
        validate(PKI.leaf, PKI.issuing, anchor)


@pytest.mark.parametrize(
    "data",
    [b"", b"key", der(KEY.public_key())[:-1], der(KEY.public_key()) + b"\0"],
    ids=["nothing", "no key", "cut", "more"],
)
def test_what_is_no_public_key_cannot_be_pinned(data: bytes) -> None:
    with refused("malformed.certificate", "not a public key: "):
        Anchor.from_public_key(data)


def test_anchors_from_pem() -> None:
    certificate = PKI.root.certificate.public_bytes(Encoding.PEM)
    key = PKI.root.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert Anchor.from_pem(certificate, ["a.b"]) == PKI.root.anchor._replace(vendors=("a.b",))
    pinned = Anchor.from_pem(key, ["a.b"])
    assert (pinned.spki, pinned.certificate) == (PKI.root.anchor.spki, None)
    assert pinned.vendors == ("a.b",)


def test_several_certificates_in_a_pem_file_are_refused() -> None:
    pem = PKI.root.certificate.public_bytes(Encoding.PEM)
    with refused("malformed.certificate", "2 certificates to pin, expected one"):
        Anchor.from_pem(pem + pem)


def test_anchors_are_equal_that_pin_the_same() -> None:
    """Also with versions of cryptography whose keys cannot be compared."""
    one, other = Anchor.from_certificate(PKI.root.der), Anchor.from_certificate(PKI.root.der)
    assert one._replace(key=object()) == other
    assert hash(one._replace(key=object())) == hash(other)
    for different in (other._replace(vendors=("a.b",)), other._replace(certificate=None)):
        assert one != different
    assert one != Anchor.from_certificate(PKI.issuing.der)
    assert (one != other, one != tuple(one)) == (False, True)


def test_one_certificate_or_one_key_is_pinned() -> None:
    certificate = PKI.root.certificate.public_bytes(Encoding.PEM)
    key = PKI.root.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for pem in (key + key, certificate + key):
        with refused("malformed.certificate", "2 certificates and public keys to pin"):
            Anchor.from_pem(pem)
    other = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert Anchor.from_pem(b"Acme\n" + other + certificate) == PKI.root.anchor
    assert Anchor.from_pem(certificate.replace(b" CERT", b" X509 CERT")) == PKI.root.anchor
    assert Anchor.from_pem(key.replace(b"\n", b"\r\n")).spki == PKI.root.anchor.spki


@pytest.mark.parametrize(
    "body", [b"", b"?", b"A", b"AAA=A", b"MIIB: x\n\nAAAA", b"AAAA\n-----BEGIN CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("label", [b"CERTIFICATE", b"PUBLIC KEY"])
def test_damaged_pem_cannot_be_pinned(label: bytes, body: bytes) -> None:
    pem = b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, body, label)
    with refused("malformed.certificate"):
        Anchor.from_pem(pem)
    good = PKI.root.certificate.public_bytes(Encoding.PEM)
    with refused("malformed.certificate"):
        Anchor.from_pem(good + pem)


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PUBLIC KEY-----\n", PKI.root.der])
def test_what_is_no_pem_file_cannot_be_pinned(data: bytes) -> None:
    with refused("malformed.certificate", "not a PEM file to pin: "):
        Anchor.from_pem(data)


def test_an_anchors_own_dates_do_not_count() -> None:
    for days in ((-100, -50), (50, 100)):
        root = make_ca(days=days)
        check_dates(validate(make_leaf(root), root), NOW)


# --- dates ----------------------------------------------------------------------------------

PATH = validate(PKI.leaf, PKI.issuing, PKI.root)
FIRST, LAST = NOW - 10 * DAY, NOW + 365 * DAY


@pytest.mark.parametrize("at", [FIRST, NOW, LAST])
def test_certificates_are_valid_from_their_first_to_their_last_second(at: datetime) -> None:
    check_dates(PATH, at)


def test_an_expired_leaf_is_refused() -> None:
    words = 'certificate "release" expired 2027-11-22 12:00:00, it is 2027-11-22 12:00:01'
    with refused("stale.certificate", words) as caught:
        check_dates(PATH, LAST + SECOND)
    assert caught.value.expected == f"a time until {LAST.isoformat()}"
    assert caught.value.found == (LAST + SECOND).isoformat()
    with refused("stale.certificate", 'certificate "release" expired 2027-11-22, it is 2027-11-23'):
        check_dates(PATH, LAST + 86400 * SECOND)


def test_a_leaf_that_is_not_valid_yet_is_refused() -> None:
    words = f'certificate "release" is valid from {FIRST.isoformat()}, it is 2026-11-12T11:59:59'
    with refused("stale.not-yet-valid", words) as caught:
        check_dates(PATH, FIRST - SECOND)
    assert caught.value.expected == f"a time from {FIRST.isoformat()}"


def test_with_a_clock_that_is_known_to_be_wrong_the_beginning_is_not_judged() -> None:
    check_dates(PATH, FIRST - SECOND, not_before=False)
    with refused("stale.certificate"):
        check_dates(PATH, LAST + SECOND, not_before=False)


def test_an_expired_intermediate_is_refused() -> None:
    ca = make_ca("Issuing", PKI.root, days=(-10, -1))
    with refused("stale.certificate", 'certificate "Issuing" expired 2026-11-21'):
        check_dates(validate(make_leaf(ca), ca, PKI.root), NOW)


# --- compat ---------------------------------------------------------------------------------

Own = Sequence[tuple[x509.ExtensionType, bool]]
LOOSE = leaf_extensions((), usages=())
EKU = x509.ExtendedKeyUsage([CODE_SIGNING])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CA = (x509.BasicConstraints(ca=True, path_length=None), True)


def both(leaf: Entity, ca: Entity, code: str, what: str) -> None:
    """Strict refuses with a code; compat accepts, and names what it forgave."""
    with refused(code, what):
        validate(leaf, ca)
    assert validate(leaf, ca, profile="compat").forgiven == (what,)


def test_compat_forgives_basic_constraints_that_are_not_critical() -> None:
    root = make_ca(critical=False)
    what = 'basicConstraints of CA "Root" is not critical'
    both(make_leaf(root), root, "untrusted.criticality", what)


def test_compat_forgives_a_leafs_extended_key_usage_that_is_not_critical() -> None:
    leaf = make_leaf(PKI.root, extensions=[*LOOSE, (EKU, False)])
    what = 'extended key usage of "release" is not critical'
    both(leaf, PKI.root, "untrusted.criticality", what)


def test_compat_forgives_a_cas_extended_key_usage_that_is_not_critical() -> None:
    root = certify(KEY, name("Root"), None, [*ca_extensions(), (EKU, False)])
    what = 'extended key usage of "Root" is not critical'
    both(make_leaf(root), root, "untrusted.criticality", what)


def test_compat_forgives_a_ca_without_key_usage() -> None:
    root = certify(KEY, name("Root"), None, [CA])
    both(make_leaf(root), root, "untrusted.key-usage", 'CA "Root" has no key usage')


def test_compat_names_everything_that_it_forgave() -> None:
    root = certify(KEY, name("Root"), None, [(CA[0], False)])
    ca = make_ca("Issuing", root, critical=False)
    leaf = make_leaf(ca, extensions=[*LOOSE, (EKU, False)])
    assert validate(leaf, ca, root, profile="compat").forgiven == (
        'basicConstraints of CA "Issuing" is not critical',
        'basicConstraints of CA "Root" is not critical',
        'CA "Root" has no key usage',
        'extended key usage of "release" is not critical',
    )


def ca_of(*extensions: Any) -> Entity:
    return certify(KEY, name("Root"), None, extensions)


@pytest.mark.parametrize(
    ("code", "leaf", "root"),
    [
        ("untrusted.issuer", (), ca_of((key_usage("key_cert_sign"), True))),
        ("untrusted.key-usage", (), ca_of(CA, (key_usage("crl_sign"), True))),
        ("untrusted.eku", (), ca_of(CA, (key_usage("key_cert_sign"), True), (SERVER, False))),
        ("untrusted.key-usage", [(EKU, True)], PKI.root),
        ("untrusted.eku", [(key_usage("digital_signature"), True)], PKI.root),
        ("untrusted.eku", [*LOOSE, (SERVER, False)], PKI.root),
        ("untrusted.ca-as-leaf", [CA, *LOOSE[1:], (EKU, False)], PKI.root),
        ("untrusted.algorithm", (), make_ca(alg="rsa1024")),
        ("untrusted.no-anchor", (), make_ca("Other")),
        ("untrusted.name-constraint", (), make_ca(permitted=["other.example"])),
    ],
)
def test_compat_forgives_nothing_else(code: str, leaf: Own, root: Entity) -> None:
    issuer = PKI.root if code == "untrusted.no-anchor" else root
    with refused(code):
        validate(make_leaf(issuer, extensions=leaf or None), root, profile="compat")


def test_compat_demands_key_identifiers_too() -> None:
    leaf = certify(KEY, name("release"), PKI.root, leaf_extensions(), identifiers=False)
    with refused("untrusted.key-identifier"):
        validate(leaf, PKI.root, profile="compat")
