"""Revocation lists: which ones count, and what they say about a path."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, validate_path
from fwsign.x509.crl import parse_crl
from fwsign.x509.revocation import CrlReader
from fwsign.x509.roles import Profile
from support import (
    DAY,
    NOW,
    Entity,
    certify,
    der,
    key_usage,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    name,
    new_key,
    parts,
    refused,
    resign,
    tlv,
)

PKI = make_pki()
PATH = validate_path([PKI.leaf.der, PKI.issuing.der], [PKI.root.anchor])
ROOT_CRL = make_crl(PKI.root)
SECOND = timedelta(seconds=1)


def judge(
    *crls: bytes,
    profile: Profile = "strict",
    now: datetime = NOW,
    signed_at: datetime | None = None,
    path: CertificationPath = PATH,
) -> list[str]:
    """Judge a path by these CRLs; return what was forgiven."""
    reader = CrlReader(profile)
    issued, forgiven = reader.collect(path, crls)
    reader.check(issued, now, signed_at)
    return list(forgiven)


def issuing_crl(*revoked: Entity, **more: Any) -> bytes:
    return make_crl(PKI.issuing, revoked, **more)


# --- which CRLs count -----------------------------------------------------------------------


def test_fresh_crls_of_every_issuer() -> None:
    assert judge(*PKI.crls) == []


def test_the_order_of_crls_does_not_matter() -> None:
    assert judge(*reversed(PKI.crls)) == []


@pytest.mark.parametrize(("missing", "below"), [("Issuing", "release"), ("Root", "Issuing")])
def test_a_missing_crl_is_refused(missing: str, below: str) -> None:
    crls = [issuing_crl() if missing == "Root" else ROOT_CRL]
    words = f'no CRL of "{missing}", the issuer of "{below}"'
    with refused("stale.crl-missing", words) as caught:
        judge(*crls)
    assert (caught.value.expected, caught.value.found) == (f'a CRL of "{missing}"', "none")


def test_crls_of_other_issuers_are_not_used() -> None:
    other = make_ca("Other")
    assert judge(*PKI.crls, make_crl(other, [PKI.leaf])) == []
    with refused("stale.crl-missing", 'no CRL of "Issuing"'):
        judge(make_crl(other), ROOT_CRL)


def test_crls_of_another_ca_of_the_same_name_are_not_used() -> None:
    other = make_ca("Issuing")
    assert judge(*PKI.crls, make_crl(other, [PKI.leaf])) == []


def without_key_identifier(crl: bytes) -> list[bytes]:
    *tbs, extensions = parts(parts(crl)[0])
    number = parts(parts(extensions)[0])[1]
    return [*tbs, tlv(0xA0, tlv(0x30, number))]


def test_a_crl_without_key_identifier_is_known_by_its_name() -> None:
    assert judge(issuing_crl(), resign(without_key_identifier(ROOT_CRL), PKI.root.key)) == []


def test_a_crl_of_another_ca_that_names_no_key_is_a_forgery() -> None:
    with refused("tampered.crl", 'the signature of the CRL of "Root" does not verify'):
        judge(issuing_crl(), resign(without_key_identifier(ROOT_CRL), new_key()))


def test_a_forged_crl_is_refused() -> None:
    forged = issuing_crl(signer=PKI.leaf)
    with refused("tampered.crl", 'the signature of the CRL of "Issuing" does not verify'):
        judge(forged, ROOT_CRL)


def test_key_usage_of_the_issuer_must_have_crl_sign() -> None:
    own = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (key_usage("key_cert_sign"), True),
    ]
    root = certify(new_key(), name("Root"), None, own)
    path = validate_path([make_leaf(root).der], [root.anchor])
    with refused("untrusted.key-usage", 'key usage of CA "Root" lacks cRLSign'):
        judge(make_crl(root), path=path)


def test_an_issuer_without_key_usage_may_sign_crls() -> None:
    own = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    root = certify(new_key(), name("Root"), None, own)
    path = validate_path([make_leaf(root).der], [root.anchor], profile="compat")
    assert judge(make_crl(root), path=path, profile="compat") == []


def test_crls_of_an_anchor_that_is_a_bare_key() -> None:
    anchor = Anchor.from_public_key(der(PKI.root.key.public_key()))
    path = validate_path([PKI.leaf.der, PKI.issuing.der], [anchor])
    assert judge(*PKI.crls, path=path) == []
    with refused("untrusted.revoked", 'certificate "Issuing" revoked'):
        judge(issuing_crl(), make_crl(PKI.root, [PKI.issuing]), path=path)
    with refused("stale.crl-missing", 'no CRL of "P-256 key", the issuer of "Issuing"'):
        judge(issuing_crl(), path=path)


def test_a_bare_key_that_signs_by_itself_needs_no_crl() -> None:
    path = CertificationPath((), Anchor.from_public_key(der(PKI.root.key.public_key())))
    assert judge(ROOT_CRL, path=path) == []


def test_the_same_crl_twice_is_one() -> None:
    issued = CrlReader("strict").collect(PATH, [ROOT_CRL, ROOT_CRL, issuing_crl()]).issued
    assert [len(one.crls) for one in issued] == [1, 1]


# --- form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"CRL", PKI.leaf.der, ROOT_CRL[:-1], ROOT_CRL + b"\0"])
def test_what_is_no_crl_is_refused(data: bytes) -> None:
    with refused("malformed.crl", "not a CRL: "):
        parse_crl(data)


def test_a_crl_that_is_not_used_must_be_a_crl_too() -> None:
    with refused("malformed.crl"):
        judge(*PKI.crls, b"CRL")


def surgery(at: int, *elements: bytes, crl: bytes = ROOT_CRL) -> bytes:
    """Replace an element of the root's CRL: version, algorithm, issuer, two times, extensions."""
    tbs = parts(parts(crl)[0])
    return resign([*tbs[:at], *elements, *tbs[at + 1 :]], PKI.root.key)


def test_a_crl_without_next_update_is_refused() -> None:
    with refused("malformed.crl", "a CRL without the time of its next update"):
        parse_crl(surgery(4))


@pytest.mark.parametrize("profile", ["strict", "compat"])
def test_crls_of_version_1_are_refused(profile: Profile) -> None:
    with refused("malformed.crl", "not a CRL: no element of type 0x02"):
        judge(issuing_crl(), surgery(0), profile=profile)


@pytest.mark.parametrize("version", [0, 2])
def test_crls_of_other_versions_are_refused(version: int) -> None:
    with refused("malformed.crl", f"not a CRL: {version} is not a valid CRL version"):
        parse_crl(surgery(0, tlv(2, bytes([version]))))


def test_unused_bits_in_the_signature_are_refused() -> None:
    tbs, algorithm, signature = parts(ROOT_CRL)
    with refused("malformed.crl", "a signature with unused bits"):
        parse_crl(tlv(0x30, tbs, algorithm, tlv(3, b"\1", signature[3:])))


def test_algorithms_that_differ_inside_and_outside_are_refused() -> None:
    tbs, _, signature = parts(ROOT_CRL)
    other = bytes.fromhex("300a06082a8648ce3d040303")
    with refused("malformed.crl", "signature algorithms inside and outside differ"):
        parse_crl(tlv(0x30, tbs, other, signature))


def test_a_sha1_crl_is_refused() -> None:
    sha1 = bytes.fromhex("300906072a8648ce3d0401")
    tbs = parts(surgery(1, sha1))[0]
    with refused("untrusted.algorithm", "is not allowed"):
        judge(issuing_crl(), tlv(0x30, tbs, sha1, parts(ROOT_CRL)[2]))


def test_the_same_extension_twice_is_refused() -> None:
    (inner,) = parts(parts(parts(ROOT_CRL)[0])[-1])
    found = parts(inner)
    with refused("malformed.crl", "not a CRL: Duplicate"):
        parse_crl(surgery(5, tlv(0xA0, tlv(0x30, *found, found[0]))))


def test_a_negative_number_is_refused() -> None:
    (inner,) = parts(parts(parts(ROOT_CRL)[0])[-1])
    negative = [own.replace(b"\4\3\2\1\1", b"\4\3\2\1\xff") for own in parts(inner)]
    with refused("malformed.crl", "not a CRL: "):
        parse_crl(surgery(5, tlv(0xA0, tlv(0x30, *negative))))


def test_a_number_of_more_than_20_bytes_is_refused() -> None:
    assert parse_crl(issuing_crl(number=(1 << 159) - 1)).number == (1 << 159) - 1
    with refused("malformed.crl", "expected at most 20 bytes"):
        parse_crl(issuing_crl(number=1 << 159))


# --- freshness and numbers ------------------------------------------------------------------


def test_a_crl_is_fresh_until_its_next_update() -> None:
    crls = issuing_crl(days=(-1, 1)), ROOT_CRL
    judge(*crls, now=NOW + DAY)
    words = 'CRL of "Issuing" was to be replaced by 2026-11-23, it is 2026-11-23'
    with refused("stale.crl", words) as caught:
        judge(*crls, now=NOW + DAY + SECOND)
    assert caught.value.found == f"one until {(NOW + DAY).isoformat()}"
    assert caught.value.expected == f"a CRL for {(NOW + DAY + SECOND).isoformat()}"


def test_a_stale_crl_is_refused_whenever_the_signature_was_made() -> None:
    with refused("stale.crl"):
        judge(issuing_crl(days=(-9, -1)), ROOT_CRL, signed_at=NOW - 5 * DAY)


def test_a_rolled_back_crl_is_ignored() -> None:
    new, old = issuing_crl(PKI.leaf, number=5), issuing_crl(number=4)
    for crls in ((new, old), (old, new)):
        with refused("untrusted.revoked", 'certificate "release" revoked'):
            judge(*crls, ROOT_CRL)


def test_lower_numbers_are_ignored_even_where_stale_or_revoking() -> None:
    old = issuing_crl(PKI.leaf, number=4, days=(-9, -1))
    assert judge(old, issuing_crl(number=5), ROOT_CRL) == []


def test_numbers_count_and_not_times() -> None:
    late = issuing_crl(number=4, days=(0, 60))
    with refused("untrusted.revoked"):
        judge(late, issuing_crl(PKI.leaf, number=5, days=(-2, 30)), ROOT_CRL)


@pytest.mark.parametrize("turned", [False, True])
def test_of_equal_numbers_with_different_content_revoked_in_either_is_revoked(
    turned: bool,
) -> None:
    for days in ((-1, 30), (-9, -1)):
        both = [issuing_crl(number=5, days=days), issuing_crl(PKI.leaf, number=5)]
        with refused("untrusted.revoked"):
            judge(*(reversed(both) if turned else both), ROOT_CRL)


def test_revoked_outranks_a_stale_or_missing_list_of_another_issuer() -> None:
    revoking = make_crl(PKI.root, [PKI.issuing])
    for crls in ([issuing_crl(days=(-9, -1)), revoking], [revoking]):
        with refused("untrusted.revoked", 'certificate "Issuing" revoked'):
            judge(*crls)


def test_a_crl_without_number_is_refused_by_strict() -> None:
    words = 'CRL of "Root" has no number, so an old one cannot be told from a new one'
    with refused("untrusted.crl", words):
        judge(issuing_crl(), make_crl(PKI.root, number=None))


def test_compat_forgives_a_crl_without_number_and_names_it() -> None:
    crls = issuing_crl(), make_crl(PKI.root, number=None)
    assert judge(*crls, profile="compat") == ['CRL of "Root" has no number']


@pytest.mark.parametrize("number", [None, 9])
@pytest.mark.parametrize("turned", [False, True])
def test_without_numbers_this_update_orders_crls(number: int | None, turned: bool) -> None:
    old = issuing_crl(number=number, days=(-9, -5))
    new = issuing_crl(PKI.leaf, number=None, days=(-2, 30))
    with refused("untrusted.revoked"):
        judge(*((new, old) if turned else (old, new)), ROOT_CRL, profile="compat")
