"""The rules of paths, for each use of the leaf: one validator, and one verdict everywhere."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.pki.paths.purpose import PURPOSES, Purpose, judge
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.stamp import judge_token
from fwsign.x509.chain import validate_path
from fwsign.x509.roles import CONFIG_SIGNING, Profile, Use
from support import (
    NOW,
    VENDOR,
    Entity,
    Extensions,
    Pki,
    ca_extensions,
    certify,
    key_usage,
    make_ca,
    name,
    new_key,
    refused,
    sign_with,
    verify,
)
from tsa_kit import TIME_STAMPING, make_token

EKU = ExtendedKeyUsageOID
ROOT = make_ca()
ISSUING = make_ca("Issuing", ROOT, path_length=0, permitted=[VENDOR])
OIDS: Mapping[Use, x509.ObjectIdentifier] = {
    "codeSigning": EKU.CODE_SIGNING,
    "configSigning": CONFIG_SIGNING,
    "timeStamping": EKU.TIME_STAMPING,
    "serverAuth": EKU.SERVER_AUTH,
    "clientAuth": EKU.CLIENT_AUTH,
}
TLS: tuple[Use, ...] = ("serverAuth", "clientAuth")
SIGNING: tuple[Use, ...] = ("codeSigning", "configSigning", "timeStamping")
EVERY = (*SIGNING, *TLS)
"""The uses of keys that sign; `tests/x509/test_group_roles.py` has those of groups."""
SIGNATURE = b"signature"
ACCESS = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP,
            x509.UniformResourceIdentifier("http://acme.example"),
        )
    ]
)
ANY = EKU.ANY_EXTENDED_KEY_USAGE


def leaf_of(
    use: Use,
    *,
    alg: str = "p256",
    issuer: Entity = ISSUING,
    basic: bool | None = False,
    usage: Sequence[str] | None = ("digital_signature",),
    usages: Sequence[Any] | None = None,
    critical: bool = True,
    names: Sequence[x509.GeneralName] = (x509.DNSName(VENDOR),),
    more: Extensions = (),
    key: Any = None,
) -> Entity:
    """Make a leaf for a use, one thing of which is odd."""
    own: list[tuple[x509.ExtensionType, bool]] = [*more]
    if basic is not None:
        own.append((x509.BasicConstraints(ca=basic, path_length=None), True))
    if usage is not None:
        own.append((key_usage(*usage), True))
    wanted = [OIDS[use]] if usages is None else usages
    if wanted:
        own.append((x509.ExtendedKeyUsage(wanted), critical))
    if names:
        own.append((x509.SubjectAlternativeName(names), False))
    return certify(key or new_key(alg), name("leaf"), issuer, own)


class Odd(NamedTuple):
    """An odd leaf, who takes it (the others refuse with the code), and what the refusal says."""

    how: dict[str, Any]
    takes: Sequence[str]
    code: str
    words: str


CASES = {
    "plain": Odd({}, EVERY, "", ""),
    "P-384": Odd({"alg": "p384"}, EVERY, "", ""),
    "RSA-3072": Odd({"alg": "rsa3072"}, EVERY, "", ""),
    "RSA-2048": Odd({"alg": "rsa2048"}, TLS, "untrusted.algorithm", "is RSA-2048, expected P-256"),
    "RSA-1024": Odd({"alg": "rsa1024"}, (), "untrusted.algorithm", "is RSA-1024, expected P-256"),
    "secp256k1": Odd({"alg": "secp256k1"}, (), "untrusted.algorithm", "is secp256k1, expected"),
    "ML-DSA-44": Odd({"alg": "ml-dsa-44"}, (), "untrusted.algorithm", "is MLDSA44, expected"),
    "a CA": Odd({"basic": True}, (), "untrusted.ca-as-leaf", '"leaf" is a CA, it may not sign'),
    "no basicConstraints": Odd({"basic": None}, EVERY, "", ""),
    "no key usage": Odd({"usage": None}, TLS, "untrusted.key-usage", "must have digitalSignature"),
    "key usage without digitalSignature": Odd(
        {"usage": ["key_encipherment"]}, (), "untrusted.key-usage", "must have digitalSignature"
    ),
    "keyCertSign": Odd(
        {"usage": ["digital_signature", "key_cert_sign"]},
        (),
        "untrusted.key-usage",
        "and not keyCertSign",
    ),
    "no extended key usage": Odd({"usages": ()}, (), "untrusted.eku", "is none, expected "),
    "another extended key usage": Odd(
        {"usages": [EKU.EMAIL_PROTECTION]}, (), "untrusted.eku", "is 1.3.6.1.5.5.7.3.4, expected"
    ),
    "any extended key usage": Odd({"usages": [ANY]}, (), "untrusted.eku", "is for any use"),
    "extended key usage that is not critical": Odd(
        {"critical": False}, TLS, "untrusted.criticality", 'usage of "leaf" is not critical'
    ),
    "critical authorityInfoAccess": Odd(
        {"more": [(ACCESS, True)]}, (), "untrusted.extension", "extension 1.3.6.1.5.5.7.1.1"
    ),
    "no subject alternative name": Odd(
        {"names": ()},
        ("codeSigning", "configSigning", "timeStamping", "clientAuth"),
        "untrusted.vendor",
        "names no DNS name and no IP address",
    ),
    "an address alone": Odd(
        {"names": [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]}, EVERY, "", ""
    ),
    "a mail address alone": Odd(
        {"names": [x509.RFC822Name("ci@acme.example")]},
        ("codeSigning", "configSigning", "timeStamping", "clientAuth"),
        "untrusted.vendor",
        "names no DNS name",
    ),
    "a name that the CA does not permit": Odd(
        {"names": [x509.DNSName("evil.example")]},
        (),
        "untrusted.name-constraint",
        'certificate "leaf" is for "evil.example"',
    ),
}


def verdict(leaf: Entity, use: Use, profile: Profile = "strict") -> str:
    """Return what the validator says of a leaf: a code, or nothing."""
    try:
        validate_path([leaf.der, ISSUING.der], [ROOT.anchor], use=use, profile=profile)
    except FwsignError as error:
        return error.code
    return ""


def judged(leaf: Entity, purpose: Purpose, profile: Profile = "strict") -> str:
    """Return what `pki verify --purpose` says of a leaf."""
    try:
        judge([leaf.der, ISSUING.der], [ROOT.anchor], purpose=purpose, at=NOW, profile=profile)
    except FwsignError as error:
        return error.code
    return ""


def stamped(leaf: Entity, profile: Profile = "strict") -> str:
    """Return what a device says of a token by a leaf."""
    policy = DevicePolicy(tsa_anchors=(ROOT.anchor,), profile=profile)
    token = make_token(SIGNATURE, leaf, [leaf.der, ISSUING.der])
    reader = policy.crl_reader()
    stamp = judge_token(token, SIGNATURE, policy, reader, stapled=(), known=NOW, at_hand=False)
    refusal = stamp.refusal
    return refusal.code if refusal else ""


@pytest.mark.parametrize("use", EVERY)
@pytest.mark.parametrize("case", CASES)
def test_each_use_takes_the_leaves_that_are_for_it(case: str, use: Use) -> None:
    odd = CASES[case]
    leaf = leaf_of(use, **odd.how)
    if use in odd.takes:
        assert validate_path([leaf.der, ISSUING.der], [ROOT.anchor], use=use).name == "leaf"
        return
    with refused(odd.code, odd.words):
        validate_path([leaf.der, ISSUING.der], [ROOT.anchor], use=use)


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("purpose", [one for one in PURPOSES if PURPOSES[one] in EVERY])
@pytest.mark.parametrize("case", CASES)
def test_pki_verify_never_says_more_than_the_validator(
    case: str, purpose: Purpose, profile: Profile
) -> None:
    leaf = leaf_of(PURPOSES[purpose], **CASES[case].how)
    expected = verdict(leaf, PURPOSES[purpose], profile)
    found = judged(leaf, purpose, profile)
    if purpose in ("codesign", "channel", "timestamp"):
        assert found == expected
    else:  # cryptography's own verifier may refuse more
        assert found == expected or (expected == "" and found == "untrusted.issuer")


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("case", [case for case in CASES if case != "ML-DSA-44"])
def test_pki_verify_says_of_a_tsa_what_devices_say(case: str, profile: Profile) -> None:
    leaf = leaf_of("timeStamping", **CASES[case].how)
    assert judged(leaf, "timestamp", profile) == stamped(leaf, profile)


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case].how.get("alg")])
def test_pki_verify_says_of_a_signer_what_devices_say(case: str, profile: Profile) -> None:
    leaf = leaf_of("codeSigning", **CASES[case].how)
    pki = Pki(ROOT, ISSUING, leaf)
    expected = judged(leaf, "codesign", profile)
    pins = {ROOT.anchor.spki: (VENDOR,)}
    try:
        verify(sign_with(pki, crls=()), [ROOT], profile=profile, pinned_vendors=pins)
        found = ""
    except FwsignError as error:
        found = error.code
    vendorless = {"an address alone": "", "a mail address alone": ""}
    assert found == vendorless.get(case, expected)


def test_a_dsa_key_stamps_nothing() -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505 - it is to be refused
    leaf = leaf_of("timeStamping", key=key)
    for use in SIGNING:
        with refused("untrusted.algorithm", 'the key of "leaf" is DSA, expected P-256'):
            validate_path([leaf_of(use, key=key).der, ISSUING.der], [ROOT.anchor], use=use)
    assert judged(leaf, "timestamp") == "untrusted.algorithm"


@pytest.mark.parametrize("use", EVERY)
def test_each_use_refuses_the_leaves_of_the_others(use: Use) -> None:
    for other in set(OIDS) - {use}:
        assert verdict(leaf_of(other), use) == "untrusted.eku"


ALONE: tuple[Use, ...] = ("configSigning", "timeStamping")


def test_only_channels_and_time_stamps_need_their_usage_alone() -> None:
    for use, wanted in OIDS.items():
        both = leaf_of(use, usages=[wanted, EKU.EMAIL_PROTECTION])
        assert verdict(both, use) == ("untrusted.eku" if use in ALONE else "")
    leaf = leaf_of("timeStamping", usages=[TIME_STAMPING, EKU.CODE_SIGNING])
    with refused("untrusted.eku", "is 1.3.6.1.5.5.7.3.8, 1.3.6.1.5.5.7.3.3", "timeStamping alone"):
        validate_path([leaf.der, ISSUING.der], [ROOT.anchor], use="timeStamping")


def test_compat_forgives_a_signer_what_it_never_forgives_others() -> None:
    lax = {use: leaf_of(use, critical=False) for use in SIGNING}
    assert verdict(lax["codeSigning"], "codeSigning", "compat") == ""
    for use in ALONE:
        assert verdict(lax[use], use, "compat") == "untrusted.criticality"
    notes = validate_path(
        [lax["codeSigning"].der, ISSUING.der], [ROOT.anchor], profile="compat"
    ).forgiven
    assert notes == ('extended key usage of "leaf" is not critical',)


# --- CAs ------------------------------------------------------------------------------------


def below(ca: Entity, use: Use, *above: Entity, anchor: Entity = ROOT) -> None:
    leaf = leaf_of(use, issuer=ca)
    validate_path([leaf.der, *(one.der for one in (ca, *above))], [anchor.anchor], use=use)


def odd_ca(*more: tuple[x509.ExtensionType, bool], **how: Any) -> Entity:
    return certify(new_key(), name("Odd"), ROOT, [*ca_extensions(**how), *more])


@pytest.mark.parametrize("use", EVERY)
def test_a_ca_for_another_use_is_refused(use: Use) -> None:
    words = {
        "codeSigning": "code signing",
        "configSigning": "channels",
        "timeStamping": "time stamping",
        "serverAuth": "TLS servers",
        "clientAuth": "TLS clients",
    }
    for other in set(OIDS) - {use}:
        with refused("untrusted.eku", f'CA "Odd" may not issue for {words[use]}'):
            below(odd_ca((x509.ExtendedKeyUsage([OIDS[other]]), True)), use)
    below(odd_ca((x509.ExtendedKeyUsage([ANY]), True)), use)
    below(odd_ca((x509.ExtendedKeyUsage([OIDS[use]]), True)), use)


@pytest.mark.parametrize("use", EVERY)
def test_the_usage_of_a_ca_must_be_critical_for_what_devices_obey(use: Use) -> None:
    ca = odd_ca((x509.ExtendedKeyUsage([OIDS[use]]), False))
    if use in ("codeSigning", "configSigning"):
        with refused("untrusted.criticality", 'extended key usage of "Odd" is not critical'):
            below(ca, use)
    else:
        below(ca, use)


@pytest.mark.parametrize("use", EVERY)
def test_rules_of_cas_hold_for_each_use(use: Use) -> None:
    with refused("untrusted.extension", "1.3.6.1.5.5.7.1.1"):
        below(odd_ca((ACCESS, True)), use)
    with refused("untrusted.criticality", 'basicConstraints of CA "Odd" is not critical'):
        below(odd_ca(critical=False), use)
    with refused("untrusted.path-length", 'CA "Root" allows 0 CAs below it, the path has 1'):
        root = make_ca(path_length=0)
        below(make_ca("Issuing", root), use, anchor=root)
    with refused("untrusted.issuer", 'certificate "leaf" is not a CA, but has issued another'):
        below(leaf_of(use), use, ISSUING)
    with refused("untrusted.key-usage", 'CA "Bare" has no key usage'):
        below(certify(new_key(), name("Bare"), ROOT, ca_extensions()[:1]), use)
    with refused("untrusted.key-usage", 'CA "Odd" lacks keyCertSign'):
        own = [ca_extensions()[0], (key_usage("crl_sign"), True)]
        below(certify(new_key(), name("Odd"), ROOT, own), use)
    with refused("untrusted.algorithm", 'the key of "Weak" is RSA-1024', "RSA of 2048 bits"):
        below(make_ca("Weak", ROOT, "rsa1024"), use)
    below(make_ca("Old", ROOT, "rsa2048"), use)


@pytest.mark.parametrize("use", EVERY)
def test_an_anchor_limited_to_vendors_limits_each_use(use: Use) -> None:
    leaf = leaf_of(use)
    chain = [leaf.der, ISSUING.der]
    limited = ROOT.anchor._replace(vendors=("other.example",))
    with refused("untrusted.name-constraint", 'anchor "Root" permits "other.example"'):
        validate_path(chain, [limited], use=use)
    validate_path(chain, [ROOT.anchor._replace(vendors=(VENDOR,))], use=use)
