"""Attacks on certification paths: who signed, and who let them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.keys.pem import encode
from fwsign.x509.anchor import Anchor
from hostile import bare, block_of, close, counted, encoded, judge, refused_at, spki
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    Pki,
    absent,
    ca_extensions,
    certify,
    key_usage,
    leaf_extensions,
    make_block,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    name,
    new_key,
    parts,
    refused,
    resign,
    sign_with,
    signed_digest,
    tlv,
    verify,
    with_serial,
)

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def signed(leaf: Entity, *above: Entity | bytes, crls: Sequence[bytes] = ()) -> bytes:
    """Sign with a leaf and put certificates behind it."""
    content = encoded()
    chain = [leaf.der, *(one if isinstance(one, bytes) else one.der for one in above)]
    return close(content, make_block(signed_digest(content), leaf.key, chain, crls))


# --- the leaf -------------------------------------------------------------------------------


def test_ca_as_leaf_is_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.ca-as-leaf", '"Issuing" is a CA'):
        verify(signed(pki.issuing), [pki.root])


def test_root_as_leaf_is_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.ca-as-leaf", '"Root" is a CA'):
        verify(signed(pki.root), [pki.root])


def test_ca_that_calls_itself_no_ca_cannot_issue(pki: Pki) -> None:
    fake = certify(new_key(), name("Fake"), pki.issuing, leaf_extensions())
    with refused_at(3, "untrusted.issuer", '"Fake" is not a CA'):
        verify(signed(make_leaf(fake), fake, pki.issuing), [pki.root])


def test_leaf_without_eku_is_refused(pki: Pki) -> None:
    leaf = make_leaf(pki.issuing, usages=())
    with refused_at(3, "untrusted.eku", 'usage of "release" is none, expected codeSigning'):
        verify(signed(leaf, pki.issuing), [pki.root])


@pytest.mark.parametrize(
    "usages",
    [
        [ExtendedKeyUsageOID.SERVER_AUTH],
        [ExtendedKeyUsageOID.TIME_STAMPING],
        [ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.OCSP_SIGNING],
        [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        [CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
    ],
)
def test_leaf_for_another_use_is_refused(pki: Pki, usages: list[Any]) -> None:
    leaf = make_leaf(pki.issuing, usages=usages)
    with refused_at(3, "untrusted.eku", "expected codeSigning"):
        verify(signed(leaf, pki.issuing), [pki.root])


@pytest.mark.parametrize(
    "bits", [("content_commitment",), ("digital_signature", "key_cert_sign"), ("crl_sign",)]
)
def test_leaf_with_wrong_key_usage_is_refused(pki: Pki, bits: tuple[str, ...]) -> None:
    extensions = [(x509.ExtendedKeyUsage([CODE_SIGNING]), True), (key_usage(*bits), True)]
    leaf = make_leaf(pki.issuing, extensions=extensions)
    with refused_at(3, "untrusted.key-usage", '"release" must have digitalSignature'):
        verify(signed(leaf, pki.issuing), [pki.root])


def test_rsa_2048_leaf_is_refused(pki: Pki) -> None:
    leaf = make_leaf(pki.issuing, alg="rsa2048")
    blamed = Entity(new_key(), leaf.certificate)
    with refused_at(3, "untrusted.algorithm", "RSA-2048", "RSA of 3072 bits or more"):
        verify(signed(blamed, pki.issuing), [pki.root])


@pytest.mark.parametrize("alg", ["secp256k1", "ml-dsa-44", "rsa1024"])
def test_leaf_of_another_kind_of_key_is_refused(pki: Pki, alg: str) -> None:
    leaf = Entity(new_key(), make_leaf(pki.issuing, alg=alg).certificate)
    with refused_at(3, "untrusted.algorithm", 'the key of "release" is'):
        verify(signed(leaf, pki.issuing), [pki.root])


@pytest.mark.parametrize("alg", ["rsa1024", "ml-dsa-44"])
def test_weak_ca_is_refused(pki: Pki, alg: str) -> None:
    weak = make_ca("Weak", pki.root, alg)
    with refused_at(3, "untrusted.algorithm"):
        verify(signed(make_leaf(weak), weak), [pki.root])


def test_sha1_certificate_is_refused(pki: Pki) -> None:
    tbs = parts(parts(pki.leaf.der)[0])
    sha1 = bytes.fromhex("300906072a8648ce3d0401")
    tbs[2] = sha1
    whole = tlv(0x30, *tbs)
    leaf = tlv(0x30, whole, sha1, tlv(3, b"\0", b"\x30\x06\x02\x01\x01\x02\x01\x01"))
    content = encoded()
    block = make_block(signed_digest(content), pki.leaf.key, [leaf, pki.issuing.der])
    with refused_at(3, "untrusted.algorithm", "is not allowed"):
        judge(pki, content, block)


def test_serial_number_of_20_bytes_with_the_top_bit_is_refused(pki: Pki) -> None:
    tbs = parts(parts(pki.leaf.der)[0])
    tbs[1] = tlv(2, b"\0\xff", bytes(19))
    content, leaf = encoded(), resign(tbs, pki.issuing.key)
    block = make_block(signed_digest(content), pki.leaf.key, [leaf, pki.issuing.der])
    with refused_at(3, "untrusted.serial", "is not a positive number of at most 20 bytes"):
        judge(pki, content, block)


@pytest.mark.parametrize("serial", [b"\0", b"\xff", b"\x80\0"])
def test_serial_number_that_is_not_positive_is_refused(pki: Pki, serial: bytes) -> None:
    # cryptography warns of these, which here is an error.
    tbs = parts(parts(pki.leaf.der)[0])
    tbs[1] = tlv(2, serial)
    content, leaf = encoded(), resign(tbs, pki.issuing.key)
    block = make_block(signed_digest(content), pki.leaf.key, [leaf, pki.issuing.der])
    with pytest.raises(FwsignError) as caught:
        judge(pki, content, block)
    assert caught.value.code in ("malformed.certificate", "untrusted.serial")


def test_a_root_with_serial_number_0_may_be_pinned_and_a_ca_below_it_may_not_have_it(
    pki: Pki,
) -> None:
    zero = with_serial(pki.root, b"\0")
    pem = encode("CERTIFICATE", zero)
    for anchor in (Anchor.from_certificate(zero), Anchor.from_pem(pem)):
        judge(pki, encoded(), block_of(pki, encoded()), anchors=[anchor])
    issuing = with_serial(pki.issuing, b"\0", pki.root)
    content = encoded()
    block = make_block(signed_digest(content), pki.leaf.key, [pki.leaf.der, issuing])
    for anchors in ([pki.root.anchor], [Anchor.from_certificate(zero)]):
        with refused_at(3, "untrusted.serial", "serial number 0 is not a positive number"):
            judge(pki, content, block, anchors=anchors)
    # Pinned itself, it is an anchor like any other.
    judge(pki, content, block_of(pki, content), anchors=[Anchor.from_certificate(issuing)])


@pytest.mark.parametrize("serial", [b"\xff", b"\0\xff" + bytes(19)])
def test_other_serial_numbers_that_rfc_5280_forbids_are_not_pinned(pki: Pki, serial: bytes) -> None:
    with refused("untrusted.serial", "is not a natural number of at most 20 bytes"):
        Anchor.from_certificate(with_serial(pki.root, serial))


DEBIAN = Path("/etc/ssl/certs")


def test_every_root_of_debian_can_be_pinned() -> None:
    found = sorted(DEBIAN.glob("*.pem"))
    if len(found) < 100:
        absent("the package ca-certificates is not installed")
    for one in found:
        assert Anchor.from_pem(one.read_bytes()).certificate is not None, one


@pytest.mark.parametrize("common", [b"", b"x" * 65])
def test_name_that_cryptography_warns_of_is_refused_where_warnings_are_errors(
    pki: Pki, common: bytes
) -> None:
    tbs = parts(parts(pki.leaf.der)[0])
    attribute = tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, common))
    tbs[5] = tlv(0x30, tlv(0x31, attribute))
    content, leaf = encoded(), resign(tbs, pki.issuing.key)
    block = make_block(signed_digest(content), pki.leaf.key, [leaf, pki.issuing.der])
    with refused_at(3, "malformed.certificate", "Attribute's length must be"):
        judge(pki, content, block)


def test_unsigned_change_of_a_certificate_is_refused(pki: Pki) -> None:
    for entity in (pki.leaf, pki.issuing):
        raw = entity.der.replace(b"Acme", b"Evil")
        chain = [pki.leaf.der, pki.issuing.der]
        chain[chain.index(entity.der)] = raw
        content = encoded()
        block = make_block(signed_digest(content), pki.leaf.key, chain)
        with pytest.raises(FwsignError) as caught:
            judge(pki, content, block)
        assert caught.value.code in ("tampered.certificate", "untrusted.issuer")


# --- the chain ------------------------------------------------------------------------------


def test_stranger_with_the_name_of_a_ca_is_refused(pki: Pki) -> None:
    stranger = Entity(new_key(), pki.issuing.certificate)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(pki.issuing.key.public_key())
    extensions = [*leaf_extensions(), (identifier, False)]
    leaf = certify(new_key(), name("release"), stranger, extensions, identifiers=False)
    with refused_at(3, "tampered.certificate", 'does not verify under the key of "Issuing"'):
        verify(signed(leaf, pki.issuing), [pki.root])


def test_root_of_the_same_name_is_refused(pki: Pki) -> None:
    twin = make_pki()
    with refused_at(3, "untrusted.no-anchor", 'ends at issuer "Root", the anchors are "Root"'):
        verify(sign_with(twin), [pki.root])


def test_roots_of_one_name_are_told_apart_by_key(pki: Pki) -> None:
    twin = make_pki()
    for anchors in ([pki.root, twin.root], [twin.root, pki.root]):
        assert counted(verify(sign_with(twin), anchors)) == {spki(twin.leaf.key)}
        assert counted(verify(sign_with(pki), anchors)) == {spki(pki.leaf.key)}


def test_root_brought_along_is_not_trusted(pki: Pki) -> None:
    other = make_pki(common="Other ")
    with refused_at(3, "untrusted.no-anchor"):
        verify(signed(other.leaf, other.issuing, other.root), [pki.root])


def test_anchor_smuggled_into_x5chain_changes_nothing(pki: Pki) -> None:
    release = verify(signed(pki.leaf, pki.issuing, pki.root), [pki.root])
    path = release.signers[0].path
    assert path is not None
    assert len(path.certificates) == 2


def test_certificates_behind_the_path_are_not_looked_at(pki: Pki) -> None:
    verify(signed(pki.leaf, pki.issuing, b"junk", make_ca("Other")), [pki.root])


def test_certificates_in_another_order_are_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.issuer", 'was issued by "Issuing", but "Root" follows it'):
        verify(signed(pki.leaf, pki.root, pki.issuing), [pki.root])


def test_certificate_twice_is_refused() -> None:
    stray = make_ca("Stray")
    with refused_at(3, "untrusted.duplicate", '"Stray" is in the path twice'):
        verify(signed(make_leaf(stray), stray, stray), [make_ca("Root")])


def test_path_longer_than_a_ca_allows_is_refused(pki: Pki) -> None:
    lower = make_ca("Lower", pki.issuing)
    with refused_at(3, "untrusted.path-length", 'CA "Issuing" allows 0 CAs below it'):
        verify(signed(make_leaf(lower), lower, pki.issuing), [pki.root])


def test_path_length_of_an_anchor_counts() -> None:
    root = make_ca("Root", path_length=0)
    middle = make_ca("Issuing", root)
    with refused_at(3, "untrusted.path-length", 'CA "Root" allows 0'):
        verify(signed(make_leaf(middle), middle), [root])


def test_self_issued_ca_counts_for_the_path_length() -> None:
    root = make_ca("Root", path_length=0)
    again = certify(new_key(), name("Root"), root, ca_extensions())
    with refused_at(3, "untrusted.path-length"):
        verify(signed(make_leaf(again), again), [root])


def test_unknown_critical_extension_is_refused(pki: Pki) -> None:
    leaf = make_leaf(pki.issuing, extensions=[*leaf_extensions(), (UNKNOWN, True)])
    with refused_at(3, "untrusted.extension", "1.2.3.4"):
        verify(signed(leaf, pki.issuing), [pki.root])


def test_cross_signed_root_leads_old_devices_to_the_old_root(pki: Pki) -> None:
    old = make_ca("Old root")
    cross = certify(pki.root.key, name("Root"), old, ca_extensions())
    envelope = signed(pki.leaf, pki.issuing, cross)
    for anchors in ([old], [pki.root], [old, pki.root]):
        assert counted(verify(envelope, anchors)) == {spki(pki.leaf.key)}
    narrow = certify(pki.root.key, name("Root"), old, ca_extensions(permitted=["other.example"]))
    with refused_at(3, "untrusted.name-constraint", 'CA "Root" permits'):
        verify(signed(pki.leaf, pki.issuing, narrow), [old])


def test_an_intermediate_as_anchor_keeps_its_rules(pki: Pki) -> None:
    verify(signed(pki.leaf), [pki.issuing])
    lower = make_ca("Lower", pki.issuing)
    with refused_at(3, "untrusted.path-length"):
        verify(signed(make_leaf(lower), lower), [pki.issuing])


def test_a_leaf_as_anchor_is_no_ca(pki: Pki) -> None:
    with refused_at(3, "untrusted.issuer", "is not a CA"):
        verify(signed(make_leaf(pki.leaf)), [pki.leaf])
    with refused_at(3, "untrusted.no-anchor"):
        verify(signed(pki.leaf), [pki.leaf])


# --- domains --------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["other.example", "cme.example", "x.acme.example", "acme"])
def test_signer_outside_its_domain_is_refused(pki: Pki, domain: str) -> None:
    middle = make_ca("Team", pki.root, permitted=[domain])
    with refused_at(3, "untrusted.name-constraint", 'CA "Team" permits', VENDOR):
        verify(signed(make_leaf(middle), middle), [pki.root])


@pytest.mark.parametrize("domain", ["acme.example", "example", "ACME.Example"])
def test_signer_inside_its_domain_is_accepted(pki: Pki, domain: str) -> None:
    middle = make_ca("Team", pki.root, permitted=[domain])
    verify(signed(make_leaf(middle), middle), [pki.root])


def test_a_second_name_outside_the_domain_is_refused(pki: Pki) -> None:
    middle = make_ca("Team", pki.root, permitted=[VENDOR])
    leaf = make_leaf(middle, vendors=[VENDOR, "other.example"])
    with refused_at(3, "untrusted.name-constraint", "other.example"):
        verify(signed(leaf, middle), [pki.root])


def test_excluded_domain_is_refused(pki: Pki) -> None:
    limit = x509.NameConstraints(None, [x509.DNSName("example")])
    middle = certify(new_key(), name("Team"), pki.root, [*ca_extensions(), (limit, True)])
    with refused_at(3, "untrusted.name-constraint", "permits other names"):
        verify(signed(make_leaf(middle), middle), [pki.root])


def test_constraint_that_cannot_be_judged_is_refused(pki: Pki) -> None:
    limit = x509.NameConstraints([x509.RFC822Name("acme.example")], None)
    middle = certify(new_key(), name("Team"), pki.root, [*ca_extensions(), (limit, True)])
    with refused_at(3, "untrusted.name-constraint", "not supported"):
        verify(signed(make_leaf(middle), middle), [pki.root])


def test_anchor_outside_its_domain_is_refused(pki: Pki) -> None:
    anchor = Anchor.from_certificate(pki.root.der, ["other.example"])
    with refused_at(3, "untrusted.name-constraint", 'anchor "Root" permits "other.example"'):
        verify(sign_with(pki), [anchor])
    verify(
        sign_with(pki),
        [
            Anchor.from_certificate(pki.root.der, ["other.example", "example.x"])._replace(
                vendors=(VENDOR,)
            )
        ],
    )


# --- bare keys ------------------------------------------------------------------------------


def test_bare_key_needs_a_pinned_vendor() -> None:
    key, content = new_key(), encoded()
    block = make_block(signed_digest(content), key)
    with refused_at(8, "untrusted.vendor", '"P-256 key" may sign for no vendor'):
        verify(close(content, block), [bare(key)])
    release = verify(close(content, block), [bare(key)], pinned_vendors={spki(key): (VENDOR,)})
    assert release.vendor == VENDOR
    with refused_at(8, "untrusted.vendor", "may sign for other.example"):
        verify(close(content, block), [bare(key)], pinned_vendors={spki(key): ("other.example",)})


def test_bare_key_outside_its_domain_is_refused() -> None:
    key, content = new_key(), encoded()
    block, pins = make_block(signed_digest(content), key), {spki(key): (VENDOR,)}
    with refused_at(8, "untrusted.vendor", "may sign for no vendor"):
        verify(close(content, block), [bare(key, ["other.example"])], pinned_vendors=pins)


def test_another_bare_key_is_refused() -> None:
    content = encoded()
    block = make_block(signed_digest(content), new_key())
    with refused_at(3, "tampered.signature"):
        verify(close(content, block), [bare(new_key())])
    with refused_at(3, "untrusted.no-anchor", "no bare P-256 key is pinned"):
        verify(close(content, block), [bare(new_key("ed25519"))])


def test_block_of_a_bare_key_that_is_not_pinned_is_not_counted() -> None:
    old, new, content = new_key(), new_key(), encoded()
    blocks = [make_block(signed_digest(content), key) for key in (new, old)]
    pins = {spki(old): (VENDOR,)}
    release = verify(close(content, *blocks), [bare(old)], pinned_vendors=pins)
    assert [one.refusal.code if one.refusal else None for one in release.signers] == [
        "tampered.signature",
        None,
    ]


def test_each_bare_key_is_tried(pki: Pki) -> None:
    key, content = new_key(), encoded()
    anchors = [pki.root.anchor, bare(new_key("rsa2048")), bare(new_key()), bare(key)]
    block = make_block(signed_digest(content), key)
    verify(close(content, block), anchors, pinned_vendors={spki(key): (VENDOR,)})


def test_an_rsa_key_too_short_to_sign_does_not_hide_a_longer_one() -> None:
    key, content = new_key("rsa3072"), encoded()
    block, short = make_block(signed_digest(content), key), bare(new_key("rsa2048"))
    verify(close(content, block), [short, bare(key)], pinned_vendors={spki(key): (VENDOR,)})
    with refused_at(3, "untrusted.no-anchor"):
        verify(close(content, block), [short])


def test_bare_key_issues_certificates(pki: Pki) -> None:
    envelope = signed(make_leaf(pki.root), crls=[make_crl(pki.root)])
    assert verify(envelope, [bare(pki.root.key)]).unchecked == ()
    with refused_at(3, "untrusted.no-anchor"):
        verify(envelope, [bare(new_key())])


def test_weak_bare_key_does_not_issue(pki: Pki) -> None:
    weak = Entity(new_key("rsa1024"), pki.root.certificate)
    with refused_at(3, "untrusted.algorithm", "RSA-1024"):
        verify(signed(make_leaf(weak)), [bare(weak.key)])


@pytest.mark.parametrize(
    ("limits", "passes"),
    [
        ((["other.example"], None), False),
        (([VENDOR], None), True),
        (([""], None), True),
        ((None, [VENDOR]), False),
        ((None, ["example"]), False),
        ((None, ["other.example"]), True),
        (None, True),
    ],
    ids=str,
)
def test_a_pin_of_the_root_does_not_lift_a_cas_name_constraints(
    limits: tuple[list[str] | None, list[str] | None] | None, passes: bool
) -> None:
    """A leaf without dNSName has no name for the constraint to refuse; its pinned vendor is one."""
    root = make_ca()
    own: list[Any] = ca_extensions()
    if limits:
        bases = [None if one is None else [x509.DNSName(name_) for name_ in one] for one in limits]
        own.append((x509.NameConstraints(*bases), True))
    middle = certify(new_key(), name("Middle"), root, own)
    issuing = make_ca("Issuing", middle)
    leaf = make_leaf(issuing, vendors=())
    envelope = make_envelope(make_manifest(), [(leaf, [issuing, middle], ())])
    pins = {spki(root.key): (VENDOR,)}
    if passes:
        assert verify(envelope, [root], pinned_vendors=pins).vendor == VENDOR
    else:
        with refused_at(8, "untrusted.vendor", '"release" may sign for no vendor'):
            verify(envelope, [root], pinned_vendors=pins)
    # Whoever pins the CA itself, or one below it, says what it may do.
    for key in (middle.key, issuing.key, leaf.key):
        pins = {spki(root.key): ("other.example",), spki(key): (VENDOR,)}
        assert verify(envelope, [root], pinned_vendors=pins).vendor == VENDOR
