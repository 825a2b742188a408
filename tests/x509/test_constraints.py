"""Name constraints: DNS and directory names, permitted and excluded, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import MAX_ATTRIBUTES, parse_certificate
from fwsign.x509.chain import validate_path
from fwsign.x509.constraints import MAX_NAMES, MAX_SUBTREES, dns_names, is_domain, within_domain
from support import (
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_leaf,
    name,
    new_key,
    refused,
    tlv,
)

ROOT = make_ca()
KEY = new_key()
ROOT_ISSUING = make_ca("Unconstrained", ROOT)


def dns(*domains: str) -> list[x509.GeneralName]:
    return [x509.DNSName(domain) for domain in domains]


def directory(**attributes: str) -> list[x509.GeneralName]:
    kinds = {"o": NameOID.ORGANIZATION_NAME, "cn": NameOID.COMMON_NAME, "c": NameOID.COUNTRY_NAME}
    pairs = [x509.NameAttribute(kinds[key], value) for key, value in attributes.items()]
    return [x509.DirectoryName(x509.Name(pairs))]


def constrained(
    permitted: Sequence[x509.GeneralName] | None,
    excluded: Sequence[x509.GeneralName] | None = None,
    *,
    critical: bool = True,
) -> Entity:
    """Make an issuing CA with name constraints."""
    found = x509.NameConstraints(permitted, excluded)
    own = [*ca_extensions(), (found, critical)]
    return certify(KEY, name("Issuing"), ROOT, own)


def leaf_of(issuing: Entity, *names: x509.GeneralName, subject: x509.Name | None = None) -> Entity:
    own = leaf_extensions(())
    if names:
        own.append((x509.SubjectAlternativeName(list(names)), False))
    return certify(KEY, name("release") if subject is None else subject, issuing, own)


def organised(written: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, written)])


def check(issuing: Entity, leaf: Entity, *above: Entity, anchor: Anchor | None = None) -> None:
    chain = [entity.der for entity in (leaf, issuing, *above)]
    validate_path(chain, [anchor or ROOT.anchor])


@pytest.mark.parametrize(
    ("permitted", "domain"),
    [
        ("acme.example", "acme.example"),
        ("acme.example", "gateways.acme.example"),
        ("ACME.example", "acme.EXAMPLE"),
        ("", "acme.example"),
        ("example", "acme.example"),
    ],
)
def test_permitted_dns_names(permitted: str, domain: str) -> None:
    issuing = constrained(dns(permitted))
    check(issuing, leaf_of(issuing, *dns(domain)))


@pytest.mark.parametrize(
    "domain",
    ["other.example", "notacme.example", "example", "", "acme.example.", "acme.example.evil"],
)
def test_dns_names_that_are_not_permitted_are_refused(domain: str) -> None:
    issuing = constrained(dns("acme.example"))
    words = f'CA "Issuing" permits "acme.example", certificate "release" is for "{domain}"'
    with refused("untrusted.name-constraint", words) as caught:
        check(issuing, leaf_of(issuing, *dns("acme.example", domain)))
    assert (caught.value.expected, caught.value.found) == ('"acme.example"', f'"{domain}"')


def test_one_of_several_permitted_names_is_enough() -> None:
    issuing = constrained(dns("acme.example", "other.example"))
    check(issuing, leaf_of(issuing, *dns("other.example", "acme.example")))


@pytest.mark.parametrize("domain", ["secret.acme.example", "A.Secret.acme.example"])
def test_excluded_dns_names_are_refused(domain: str) -> None:
    issuing = constrained(dns("acme.example"), dns("secret.ACME.example"))
    words = f'permits "acme.example", certificate "release" is for "{domain}"'
    with refused("untrusted.name-constraint", words):
        check(issuing, leaf_of(issuing, *dns(domain)))


def test_excluded_dns_names_alone() -> None:
    issuing = constrained(None, dns("evil.example"))
    check(issuing, leaf_of(issuing, *dns("acme.example")))
    with refused("untrusted.name-constraint", 'CA "Issuing" permits other names'):
        check(issuing, leaf_of(issuing, *dns("evil.example")))


def test_dns_constraints_do_not_bind_other_kinds_of_names() -> None:
    issuing = constrained(dns("acme.example"))
    check(issuing, leaf_of(issuing, x509.RFC822Name("ci@other.example")))
    check(issuing, leaf_of(issuing))


def test_constraints_that_are_not_critical_bind_too() -> None:
    issuing = constrained(dns("acme.example"), critical=False)
    with refused("untrusted.name-constraint"):
        check(issuing, leaf_of(issuing, *dns("other.example")))


def test_directory_names_permit_those_that_begin_with_them() -> None:
    issuing = constrained(directory(o="Acme"))
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme"),
            x509.NameAttribute(NameOID.COMMON_NAME, "release"),
        ]
    )
    check(issuing, leaf_of(issuing, subject=subject))


@pytest.mark.parametrize("written", ["ACME  gateways", " acme Gateways ", "Acme Gateways"])
def test_case_and_spaces_do_not_tell_directory_names_apart(written: str) -> None:
    issuing = constrained(None, directory(o="Acme Gateways"))
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, written)])
    with refused("untrusted.name-constraint", "permits other names, certif"):
        check(issuing, leaf_of(issuing, subject=subject))


def test_directory_names_that_are_not_permitted_are_refused() -> None:
    issuing = constrained(directory(o="Other"))
    words = 'CA "Issuing" permits "O=Other", certificate "release" is for "O=Acme,CN=release"'
    with refused("untrusted.name-constraint", words):
        check(issuing, leaf_of(issuing))


def test_directory_names_in_the_alternative_name_are_bound_too() -> None:
    issuing = constrained(None, directory(cn="evil"))
    with refused("untrusted.name-constraint", 'is for "CN=evil"'):
        check(issuing, leaf_of(issuing, *directory(cn="evil")))


def test_an_empty_subject_is_no_name_to_judge() -> None:
    issuing = constrained(directory(o="Other"))
    check(issuing, leaf_of(issuing, *dns(VENDOR), subject=x509.Name([])))


@pytest.mark.parametrize(
    "base",
    [
        x509.RFC822Name("acme.example"),
        x509.UniformResourceIdentifier("acme.example"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DNSName(".acme.example"),
    ],
)
def test_constraints_on_other_kinds_of_names_are_refused(base: x509.GeneralName) -> None:
    for issuing in (constrained([base]), constrained(None, [base])):
        words = 'CA "Issuing" has a name constraint that is not supported: <'
        with refused("untrusted.name-constraint", words) as caught:
            check(issuing, leaf_of(issuing))
        assert caught.value.expected == "a domain or a directory name"


@pytest.mark.parametrize(
    "base",
    [
        *("example.com.", "com.", "example.com ", "example.com\0", " example.com", "example..com"),
        *("-example.com", "exam ple.com", "example.com\n", "a" * 64 + ".com", "a." * 127 + "com"),
    ],
    ids=repr,
)
def test_dns_constraints_that_are_no_domain_are_refused(base: str) -> None:
    """Each of them, excluded, would let "example.com" pass, where others would not."""
    for issuing in (constrained(dns(base)), constrained(None, dns("other.example", base))):
        with refused("untrusted.name-constraint", "a name constraint that is not supported"):
            check(issuing, leaf_of(issuing, *dns("example.com")))


@pytest.mark.parametrize(
    "odd",
    ["evil.example.", "evil.example\0", "evil.example ", "", "*", "*.*.example", "evil..example"],
)
def test_dns_names_that_cannot_be_compared_are_refused(odd: str) -> None:
    issuing = constrained(None, dns("evil.example"))
    with refused("untrusted.name-constraint", 'CA "Issuing" permits other names', f'for "{odd}"'):
        check(issuing, leaf_of(issuing, *dns("acme.example", odd)))


@pytest.mark.parametrize(
    ("wildcard", "fine"),
    [
        ("*.acme.example", False),  # stands for secret.acme.example too
        ("*.example", False),  # a program that lets it stand for several labels finds it
        ("*.secret.acme.example", False),
        ("*.public.acme.example", True),
        ("*.other.example", True),
    ],
)
def test_a_wildcard_that_reaches_an_excluded_name_is_refused(wildcard: str, fine: bool) -> None:
    issuing = constrained(None, dns("secret.acme.example"))
    leaf = leaf_of(issuing, *dns(wildcard))
    if fine:
        check(issuing, leaf)
    else:
        with refused("untrusted.name-constraint", f'is for "{wildcard}"'):
            check(issuing, leaf)


@pytest.mark.parametrize(
    "written",
    ["Acme Gateways", "\uff21cme Gateways", "ACME\u00a0GATEWAYS", "Acme\u2003 Gateways"],
    ids=ascii,
)
def test_compatible_letters_do_not_tell_directory_names_apart(written: str) -> None:
    issuing = constrained(None, directory(o="acme gateways"))
    with refused("untrusted.name-constraint", "permits other names"):
        check(issuing, leaf_of(issuing, subject=organised(written)))
    issuing = constrained(directory(o="acme gateways"))
    check(issuing, leaf_of(issuing, subject=organised(written)))


@pytest.mark.parametrize(
    "letters", ["Ac\u00adme", "Acme\u200b", "\ufeffAcme", "Acme\ue000", "A\0cme"]
)
def test_directory_names_that_cannot_be_compared_are_refused(letters: str) -> None:
    issuing = constrained(None, directory(o="Acme"))
    with refused("untrusted.name-constraint", " has a name that cannot be compared: ") as caught:
        check(issuing, leaf_of(issuing, subject=organised(letters)))
    assert caught.value.expected == "printable text"
    issuing = constrained(None, directory(o=letters))
    with refused("untrusted.name-constraint", 'CA "Issuing" has a name that cannot be compared'):
        check(issuing, leaf_of(issuing))
    check(ROOT_ISSUING, leaf_of(ROOT_ISSUING, subject=organised(letters)))  # nobody compares it


def test_a_name_that_cannot_be_compared_is_refused_before_one_outside() -> None:
    issuing = constrained(directory(o="Acme"))
    outside, odd = organised("Other"), directory(o="Acme\u200b")
    with refused("untrusted.name-constraint", " has a name that cannot be compared: "):
        check(issuing, leaf_of(issuing, *odd, subject=outside))


def test_letters_of_other_scripts_can_be_compared() -> None:
    issuing = constrained(directory(o="M\u00fcller \u5de5\u696d"))
    check(issuing, leaf_of(issuing, subject=organised("MU\u0308LLER  \u5de5\u696d")))


def test_a_value_that_is_no_text_is_refused() -> None:
    identifier = x509.NameAttribute(
        NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1", _type=_ASN1Type.BitString
    )
    issuing = constrained(None, directory(o="Acme"))
    with refused("untrusted.name-constraint", "cannot be compared: b'"):
        check(issuing, leaf_of(issuing, subject=x509.Name([identifier])))


@pytest.mark.parametrize("limit", [tlv(0x80, b"\1"), tlv(0x81, b"\0")], ids=["min", "max"])
def test_subtrees_with_a_minimum_or_maximum_are_refused(limit: bytes) -> None:
    subtree = tlv(0x30, tlv(0x82, VENDOR.encode()), limit)
    content = tlv(0x30, tlv(0xA0, subtree))
    own = x509.UnrecognizedExtension(x509.NameConstraints.oid, content)
    issuing = certify(KEY, name("Issuing"), ROOT, [*ca_extensions(), (own, True)])
    words = 'CA "Issuing" has name constraints with a minimum or maximum'
    with refused("untrusted.name-constraint", words):
        check(issuing, leaf_of(issuing, *dns(VENDOR)))


@pytest.mark.parametrize("limit", [tlv(0x80, b"\1"), tlv(0x81, b"\0")], ids=["min", "max"])
def test_the_bytes_of_another_extension_do_not_hide_a_minimum(limit: bytes) -> None:
    """A search for what was parsed, over the whole certificate, would find it there."""
    subtree = tlv(0x82, VENDOR.encode())
    real = x509.UnrecognizedExtension(
        x509.NameConstraints.oid, tlv(0x30, tlv(0xA0, tlv(0x30, subtree, limit)))
    )
    decoy = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.2.3.4"), tlv(0x30, tlv(0xA0, tlv(0x30, subtree)))
    )
    for own in ([(real, True), (decoy, False)], [(decoy, False), (real, True)]):
        issuing = certify(KEY, name("Issuing"), ROOT, [*ca_extensions(), *own])
        with refused("untrusted.name-constraint", "with a minimum or maximum"):
            check(issuing, leaf_of(issuing, *dns(VENDOR)))


def test_names_and_constraints_are_counted() -> None:
    """Comparing all with all would cost seconds."""
    many = dns(*(f"a{number}.example" for number in range(MAX_NAMES + 1)))
    issuing = constrained(many[:-1])
    check(issuing, leaf_of(issuing, *many[:-1]))
    words = (
        f'certificate "release" has {MAX_NAMES + 1} names under constraints, at most {MAX_NAMES}'
    )
    with refused("malformed.size", words):
        check(issuing, leaf_of(issuing, *many))
    check(ROOT_ISSUING, leaf_of(ROOT_ISSUING, *many))  # nobody compares them
    issuing = constrained(None, many)
    words = f'CA "Issuing" has {MAX_SUBTREES + 1} name constraints, at most {MAX_SUBTREES} are'
    with refused("malformed.size", words):
        check(issuing, leaf_of(issuing))


def test_attributes_of_a_name_under_constraints_are_counted() -> None:
    def organised_in(count: int) -> list[x509.GeneralName]:
        kind = NameOID.ORGANIZATIONAL_UNIT_NAME
        units = [x509.NameAttribute(kind, str(number)) for number in range(count)]
        return [x509.DirectoryName(x509.Name(units))]

    issuing = constrained(None, directory(o="Other"))
    check(issuing, leaf_of(issuing, *organised_in(MAX_ATTRIBUTES)))
    words = f"has a name of {MAX_ATTRIBUTES + 1} attributes, at most {MAX_ATTRIBUTES} are allowed"
    with refused("malformed.size", words):
        check(issuing, leaf_of(issuing, *organised_in(MAX_ATTRIBUTES + 1)))


def test_constraints_of_a_ca_bind_the_cas_below_it() -> None:
    issuing = constrained(None, directory(cn="Evil"))
    good, evil = make_ca("Good", issuing), make_ca("Evil", issuing)
    check(good, make_leaf(good), issuing)
    with refused("untrusted.name-constraint", 'certificate "Evil" is for "O=Acme,CN=Evil"'):
        check(evil, make_leaf(evil), issuing)


def test_constraints_of_every_ca_hold_together() -> None:
    issuing = constrained(dns("acme.example"))
    sub = certify(new_key(), name("Sub"), issuing, ca_extensions(permitted=["example"]))
    check(sub, make_leaf(sub), issuing)
    with refused("untrusted.name-constraint", 'CA "Issuing" permits "acme.example"'):
        check(sub, make_leaf(sub, vendors=["other.example"]), issuing)


def test_constraints_of_the_anchor_hold() -> None:
    root = make_ca(permitted=["acme.example"])
    issuing = make_ca("Issuing", root)
    check(issuing, make_leaf(issuing), anchor=root.anchor)
    with refused("untrusted.name-constraint", 'CA "Root" permits "acme.example"'):
        check(issuing, make_leaf(issuing, vendors=["other.example"]), anchor=root.anchor)


def test_an_anchor_enrolled_with_vendors_is_trusted_for_these_only() -> None:
    issuing = make_ca("Issuing", ROOT)
    anchor = Anchor.from_certificate(ROOT.der, ["acme.example", "b.example"])
    for vendor in ("acme.example", "x.b.example"):
        check(issuing, make_leaf(issuing, vendors=[vendor]), anchor=anchor)
    words = 'anchor "Root" permits "acme.example", "b.example", certificate "release" is for'
    with refused("untrusted.name-constraint", words, '"c.example"'):
        check(issuing, make_leaf(issuing, vendors=["c.example"]), anchor=anchor)


def test_constraints_of_a_leaf_say_nothing() -> None:
    own: Any = [*leaf_extensions(), (x509.NameConstraints(dns("other.example"), None), True)]
    leaf = make_leaf(ROOT, extensions=own)
    validate_path([leaf.der], [ROOT.anchor])


def test_an_unconstrained_ca_may_issue_for_any_name() -> None:
    issuing = make_ca("Issuing", ROOT)
    check(issuing, leaf_of(issuing, *dns("any.example"), *directory(cn="any")))


@pytest.mark.parametrize("name_", ["a.b", "acme.example", "xn--bcher-kva.example", "1.b2"])
def test_domains(name_: str) -> None:
    assert is_domain(name_)


@pytest.mark.parametrize(
    "name_",
    [
        *("", "acme", "Acme.example", "*.acme.example", "acme.example.", ".a.b", "a..b", "-a.b"),
        *(
            "1.2",
            "ab--c.example",
            "a-.b",
            "a_b.c",
            "ä.b",
            "a.b\n",
            "a" * 64 + ".b",
            ".".join(["a"] * 127) + ".a",
        ),
    ],
)
def test_names_that_are_no_domain(name_: str) -> None:
    assert not is_domain(name_)


@pytest.mark.parametrize(
    ("name_", "domain", "within"),
    [
        ("a.b", "a.b", True),
        ("x.a.b", "a.b", True),
        ("xa.b", "a.b", False),
        ("b", "a.b", False),
        ("A.b", "a.B", True),
        ("anything", "", True),
    ],
)
def test_within_domain(name_: str, domain: str, within: bool) -> None:
    assert within_domain(name_, domain) is within


def test_dns_names_are_returned_as_they_stand_there() -> None:
    leaf = leaf_of(ROOT, *dns("*.Acme.example", "b"), *directory(cn="x"))
    assert dns_names(parse_certificate(leaf.der)) == ["*.Acme.example", "b"]
    assert dns_names(parse_certificate(leaf_of(ROOT).der)) == []
