"""Certification paths: each rule of RFC 5280 that we hold, broken once."""

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.x509.chain import CertificationPath, validate_path
from fwsign.x509.roles import Profile
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    key_usage,
    leaf_extensions,
    make_ca,
    make_leaf,
    make_pki,
    name,
    new_key,
    parts,
    refused,
    tlv,
)

PKI = make_pki()
KEY = new_key()
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
Own = Sequence[tuple[x509.ExtensionType, bool]]


def validate(*path: Entity, profile: Profile = "strict") -> CertificationPath:
    """Validate a path given from the leaf to the anchor."""
    chain = [entity.der for entity in path[:-1]]
    return validate_path(chain, [path[-1].anchor], profile=profile)


def without(kind: type[x509.ExtensionType], extensions: Own, *instead: Any) -> Own:
    """Leave an extension out, or put another in its place."""
    return [*(own for own in extensions if not isinstance(own[0], kind)), *instead]


def issuing(extensions: Own, issuer: Entity = PKI.root, **more: Any) -> tuple[Entity, Entity]:
    """Make an issuing CA of these extensions, and a leaf that it issued."""
    ca = certify(KEY, name("Issuing"), issuer, extensions, **more)
    return make_leaf(ca), ca


def leaf(extensions: Own) -> Entity:
    return make_leaf(PKI.issuing, key=KEY, extensions=extensions)


# --- the path as such -----------------------------------------------------------------------


def test_a_path_of_three() -> None:
    path = validate(PKI.leaf, PKI.issuing, PKI.root)
    assert [certificate.name for certificate in path.certificates] == ["release", "Issuing"]
    assert path.keys == tuple(entity.anchor.spki for entity in (PKI.leaf, PKI.issuing, PKI.root))
    assert (path.name, path.vendors, path.forgiven) == ("release", (VENDOR,), ())


def test_vendors_are_the_domains_among_the_names() -> None:
    own = make_leaf(PKI.root, vendors=["acme.example", "*.b.example", "C.example", "d", "e.f"])
    assert validate(own, PKI.root).vendors == ("acme.example", "e.f")


def test_an_intermediate_can_be_an_anchor() -> None:
    assert validate(PKI.leaf, PKI.issuing).certificates[0].name == "release"


def test_certificates_behind_the_anchors_own_are_not_looked_at() -> None:
    chain = [PKI.leaf.der, PKI.issuing.der, PKI.root.der, b"no certificate"]
    path = validate_path(chain, [PKI.root.anchor])
    assert len(path.certificates) == 2


def test_of_several_anchors_the_one_that_issued_is_taken() -> None:
    others = [make_ca("Other").anchor, make_ca("Root").anchor]
    path = validate_path([PKI.leaf.der, PKI.issuing.der], [*others, PKI.root.anchor])
    assert path.anchor == PKI.root.anchor


def test_a_path_to_no_anchor_is_refused() -> None:
    words = 'the path ends at issuer "Root", the anchors are "Acme CA", "Other CA"'
    anchors = [make_ca("Acme CA").anchor, make_ca("Other CA").anchor]
    with refused("untrusted.no-anchor", words) as caught:
        validate_path([PKI.leaf.der, PKI.issuing.der], anchors)
    assert (caught.value.expected, caught.value.found) == ('"Acme CA", "Other CA"', "Root")


def test_a_missing_intermediate_is_refused() -> None:
    with refused("untrusted.no-anchor", 'the path ends at issuer "Issuing"'):
        validate(PKI.leaf, PKI.root)


def test_a_self_signed_certificate_in_the_chain_is_no_anchor() -> None:
    evil = make_ca("Evil")
    with refused("untrusted.no-anchor", 'ends at issuer "Evil"'):
        validate(make_leaf(evil), evil, PKI.root)


def test_names_must_chain() -> None:
    other = make_ca("Other", PKI.root)
    words = 'certificate "release" was issued by "Issuing", but "Other" follows it'
    with refused("untrusted.issuer", words) as caught:
        validate(PKI.leaf, other, PKI.root)
    assert (caught.value.expected, caught.value.found) == ("Issuing", "Other")


def test_names_chain_as_they_are_without_case_folding() -> None:
    upper = certify(PKI.issuing.key, name("ISSUING"), PKI.root, ca_extensions())
    with refused("untrusted.issuer", '"ISSUING" follows it'):
        validate(PKI.leaf, upper, PKI.root)


def test_a_certificate_may_appear_once() -> None:
    loop = certify(KEY, name("Loop"), None, ca_extensions())
    with refused("untrusted.duplicate", 'certificate "Loop" is in the path twice'):
        validate(make_leaf(loop), loop, loop, PKI.root)


def test_a_leaf_of_another_issuer_of_the_same_name_is_refused() -> None:
    forged = make_leaf(PKI.issuing._replace(key=KEY))
    with refused("untrusted.key-identifier", "names issuer key"):
        validate(forged, PKI.issuing, PKI.root)


def forge(victim: Entity, issuer: Entity) -> Entity:
    """Sign what an issuer would have issued with another key, and the issuer's identifier."""
    own = [(part.value, part.critical) for part in victim.certificate.extensions]
    thief = issuer._replace(key=KEY)
    return certify(victim.key, victim.certificate.subject, thief, own, identifiers=False)


def test_a_forged_signature_is_refused() -> None:
    words = 'the signature of certificate "release" does not verify under the key of "Issuing"'
    with refused("tampered.certificate", words):
        validate(forge(PKI.leaf, PKI.issuing), PKI.issuing, PKI.root)


def test_a_forged_intermediate_is_refused() -> None:
    with refused("tampered.certificate", 'certificate "Issuing" does not verify', '"Root"'):
        validate(PKI.leaf, forge(PKI.issuing, PKI.root), PKI.root)


def test_a_flipped_bit_under_the_signature_is_refused() -> None:
    tbs, algorithm, signature = parts(PKI.leaf.der)
    changed = tlv(0x30, tbs.replace(b"release", b"rElease"), algorithm, signature)
    with refused("tampered.certificate", 'certificate "rElease" does not verify'):
        validate_path([changed, PKI.issuing.der], [PKI.root.anchor])


# --- key identifiers ------------------------------------------------------------------------


def identified(authority: Any, subject: Any = None) -> Entity:
    """Make a leaf with these key identifiers and no others."""
    own: list[Any] = [(part, False) for part in (authority, subject) if part is not None]
    extensions = [*leaf_extensions(), *own]
    return certify(KEY, name("release"), PKI.issuing, extensions, identifiers=False)


def test_authority_key_identifier_is_required_and_must_match() -> None:
    other = x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key())
    serial_only = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name("Root"))], 1)
    for authority, shown in ((None, "none"), (serial_only, "none"), (other, "the issuer has")):
        with refused("untrusted.key-identifier", f"{shown}") as caught:
            validate(identified(authority), PKI.issuing, PKI.root)
        assert caught.value.message.startswith('certificate "release" names issuer key ')


def test_an_issuer_without_subject_key_identifier_is_refused() -> None:
    key = PKI.root.key.public_key()
    authority = (x509.AuthorityKeyIdentifier.from_issuer_public_key(key), False)
    own = [*ca_extensions(), authority]
    ca = certify(KEY, name("Issuing"), PKI.root, own, identifiers=False)
    with refused("untrusted.key-identifier", 'certificate "release" names', "issuer has none"):
        validate(make_leaf(ca), ca, PKI.root)


def test_an_anchor_without_subject_key_identifier_is_refused() -> None:
    root = certify(KEY, name("Root"), None, ca_extensions(), identifiers=False)
    with refused("untrusted.key-identifier", "the issuer has none"):
        validate(make_leaf(root), root)


def test_a_leaf_needs_no_subject_key_identifier() -> None:
    key = PKI.issuing.key.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    assert validate(identified(authority), PKI.issuing, PKI.root)


@pytest.mark.parametrize("which", [0, 1])
def test_key_identifiers_must_not_be_critical(which: int) -> None:
    key = PKI.issuing.key.public_key()
    both = [
        x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key),
    ]
    own: Any = [(part, index == which) for index, part in enumerate(both)]
    extensions = [*leaf_extensions(), *own]
    critical = certify(KEY, name("release"), PKI.issuing, extensions, identifiers=False)
    with refused("untrusted.extension", "has the critical extension 2.5.29."):
        validate(critical, PKI.issuing, PKI.root)


# --- CAs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extensions",
    [
        without(x509.BasicConstraints, ca_extensions()),
        without(
            x509.BasicConstraints,
            ca_extensions(),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ),
    ],
    ids=["none", "CA false"],
)
def test_basic_constraints_of_an_issuer(extensions: Own) -> None:
    with refused("untrusted.issuer", 'certificate "Issuing" is not a CA, but has issued another'):
        validate(*issuing(extensions), PKI.root)


def test_a_leaf_cannot_issue() -> None:
    with refused("untrusted.issuer", 'certificate "release" is not a CA'):
        validate(make_leaf(PKI.leaf, "below"), PKI.leaf, PKI.issuing, PKI.root)


def test_path_length_of_an_intermediate() -> None:
    sub = make_ca("Sub", PKI.issuing)
    words = 'CA "Issuing" allows 0 CAs below it, the path has 1'
    with refused("untrusted.path-length", words) as caught:
        validate(make_leaf(sub), sub, PKI.issuing, PKI.root)
    assert (caught.value.expected, caught.value.found) == ("0", "1")


def test_path_length_of_the_anchor_applies() -> None:
    root = make_ca(path_length=0)
    assert validate(make_leaf(root), root)
    ca = make_ca("Issuing", root)
    with refused("untrusted.path-length", 'CA "Root" allows 0 CAs below it, the path has 1'):
        validate(make_leaf(ca), ca, root)


def test_self_issued_cas_count_for_the_path_length() -> None:
    root = make_ca(path_length=0)
    rolled = make_ca("Root", root)
    with refused("untrusted.path-length"):
        validate(make_leaf(rolled), rolled, root)


def test_key_usage_of_a_ca_must_have_key_cert_sign() -> None:
    extensions = without(x509.KeyUsage, ca_extensions(), (key_usage("crl_sign"), True))
    with refused("untrusted.key-usage", 'key usage of CA "Issuing" lacks keyCertSign'):
        validate(*issuing(extensions), PKI.root)


def test_eku_of_a_ca_must_allow_code_signing() -> None:
    extensions = [*ca_extensions(), (x509.ExtendedKeyUsage([SERVER]), True)]
    with refused("untrusted.eku", 'CA "Issuing" may not issue for code signing'):
        validate(*issuing(extensions), PKI.root)


@pytest.mark.parametrize("usage", [CODE_SIGNING, ANY])
def test_eku_of_a_ca_may_be_code_signing_or_any(usage: Any) -> None:
    extensions = [*ca_extensions(), (x509.ExtendedKeyUsage([SERVER, usage]), True)]
    assert validate(*issuing(extensions), PKI.root)


def test_a_ca_without_a_name_is_refused() -> None:
    nameless = certify(KEY, x509.Name([]), PKI.root, ca_extensions())
    with refused("untrusted.issuer", "a CA without a name has issued a certificate"):
        validate(make_leaf(nameless), nameless, PKI.root)


# --- the leaf -------------------------------------------------------------------------------


def test_a_ca_as_leaf_is_refused() -> None:
    extensions = without(
        x509.BasicConstraints,
        leaf_extensions(),
        (x509.BasicConstraints(ca=True, path_length=None), True),
    )
    with refused("untrusted.ca-as-leaf", '"release" is a CA, it may not sign releases'):
        validate(leaf(extensions), PKI.issuing, PKI.root)


def test_a_leaf_needs_no_basic_constraints() -> None:
    extensions = without(x509.BasicConstraints, leaf_extensions())
    assert validate(leaf(extensions), PKI.issuing, PKI.root)


@pytest.mark.parametrize(
    "usage", [None, (), ("key_encipherment",), ("digital_signature", "key_cert_sign")]
)
def test_key_usage_of_a_leaf(usage: Sequence[str] | None) -> None:
    instead = [] if usage is None else [(key_usage(*usage), True)]
    extensions = without(x509.KeyUsage, leaf_extensions(), *instead)
    words = 'key usage of "release" must have digitalSignature and not keyCertSign'
    with refused("untrusted.key-usage", words):
        validate(leaf(extensions), PKI.issuing, PKI.root)


@pytest.mark.parametrize(
    ("usages", "found"), [((), "none"), ((SERVER,), "1.3.6.1.5.5.7.3.1")], ids=["none", "server"]
)
def test_a_leaf_that_is_not_for_code_signing_is_refused(usages: Any, found: str) -> None:
    words = f'extended key usage of "release" is {found}, expected codeSigning'
    with refused("untrusted.eku", words) as caught:
        validate(leaf(leaf_extensions(usages=usages)), PKI.issuing, PKI.root)
    assert (caught.value.expected, caught.value.found) == ("codeSigning", found)


@pytest.mark.parametrize("usages", [(ANY,), (CODE_SIGNING, ANY)])
def test_any_extended_key_usage_in_a_leaf_is_refused(usages: Any) -> None:
    with refused("untrusted.eku", '"release" is for any use, expected codeSigning'):
        validate(leaf(leaf_extensions(usages=usages)), PKI.issuing, PKI.root)


def test_a_leaf_may_be_for_code_signing_and_more() -> None:
    assert validate(leaf(leaf_extensions(usages=(SERVER, CODE_SIGNING))), PKI.issuing, PKI.root)


@pytest.mark.parametrize("names", [None, []], ids=["no subject", "no name"])
def test_a_leaf_for_nobody_is_refused(names: Any) -> None:
    own = leaf_extensions(())
    if names is not None:
        own.append((x509.SubjectAlternativeName(names), False))
    subject = x509.Name([]) if names is None else name("release")
    nobody = certify(KEY, subject, PKI.issuing, own)
    with refused("malformed.certificate", "a certificate without subject, or with no name"):
        validate(nobody, PKI.issuing, PKI.root)


# --- critical extensions --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["leaf", "CA", "anchor"])
def test_an_unknown_critical_extension_is_refused(where: str) -> None:
    extra: Any = [(UNKNOWN, True)]
    root = certify(KEY, name("R"), None, [*ca_extensions(), *(extra if where == "anchor" else ())])
    ca = certify(KEY, name("I"), root, [*ca_extensions(), *(extra if where == "CA" else ())])
    own = make_leaf(ca, extensions=[*leaf_extensions(), *(extra if where == "leaf" else ())])
    words = "has the critical extension 1.3.6.1.4.1.99999.1, which this verifier does not know"
    with refused("untrusted.extension", words) as caught:
        validate(own, ca, root)
    assert caught.value.found == "1.3.6.1.4.1.99999.1"


def test_a_critical_policy_extension_is_refused() -> None:
    policies = x509.CertificatePolicies([x509.PolicyInformation(UNKNOWN.oid, None)])
    with refused("untrusted.extension", "2.5.29.32"):
        validate(leaf([*leaf_extensions(), (policies, True)]), PKI.issuing, PKI.root)


def test_an_unknown_extension_that_is_not_critical_is_ignored() -> None:
    assert validate(leaf([*leaf_extensions(), (UNKNOWN, False)]), PKI.issuing, PKI.root)
