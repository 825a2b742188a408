"""Certification paths and CRLs against implementations that others wrote.

We may refuse what they accept, for reasons that are listed; never the reverse, unless it is
listed here as theirs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto

from fwsign.errors import FwsignError
from fwsign.x509.chain import check_dates, validate_path
from fwsign.x509.revocation import CrlReader
from support import (
    CODE_SIGNING,
    NOW,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    key_usage,
    leaf_extensions,
    make_crl,
    make_pki,
    name,
    new_key,
    tlv,
)


class Case(NamedTuple):
    """A root, an issuing CA and a leaf; what is not given is as `fwsign pki` writes it."""

    root: Any = None
    issuing: Any = None
    leaf: Any = None
    names: tuple[Any, Any, Any] = ("Root", "Issuing", "release")
    more: tuple[dict[str, Any], ...] = ({}, {}, {})
    keys: tuple[str, str, str] = ("p256", "p256", "p256")

    def make(self) -> list[Entity]:
        """Make the path, from the leaf to the root."""
        own = (
            self.root or ca_extensions(),
            self.issuing or ca_extensions(path_length=0),
            self.leaf or leaf_extensions(),
        )
        path: list[Entity] = []
        for index, extensions in enumerate(own):
            subject, key = self.names[index], KEYS_OF[self.keys[index]][index]
            subject = name(subject) if isinstance(subject, str) else subject
            more, extra = dict(self.more[index]), []
            if more.pop("critical_identifiers", False):
                extra = critical_identifiers(key, path)
                more["identifiers"] = False
            issuer = path[-1] if path else None
            path.append(certify(key, subject, issuer, [*extensions, *extra], **more))
        return path[::-1]


ALGORITHMS = (
    *("p256", "p384", "p521", "ed25519", "ed448", "rsa1024", "rsa2048", "rsa3072"),
    *("secp256k1", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"),
)
KEYS_OF = {alg: [new_key(alg) for _ in range(3)] for alg in ALGORITHMS}


def critical_identifiers(key: Any, path: Sequence[Entity]) -> list[tuple[Any, bool]]:
    above = (path[-1].key if path else key).public_key()
    subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(above)
    return [(subject, False), (authority, True)]


def swapped(extensions: Any, *instead: tuple[x509.ExtensionType, bool]) -> Any:
    """Replace extensions of the same kinds."""
    kinds = {part.oid for part, _ in instead}
    return [*(own for own in extensions if own[0].oid not in kinds), *instead]


def only(extensions: Any, *kinds: type[x509.ExtensionType]) -> Any:
    return [own for own in extensions if not isinstance(own[0], kinds)]


LEAF, CA = leaf_extensions(), ca_extensions()
UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
ODD = x509.UnrecognizedExtension(UNKNOWN, b"\5\0")
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(UNKNOWN, None)])
ANY, SERVER = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.SERVER_AUTH
NAMELESS = x509.Name([])
FALSE_CA = (x509.BasicConstraints(ca=False, path_length=None), True)


def dns(*domains: str) -> tuple[x509.ExtensionType, bool]:
    names: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    return x509.SubjectAlternativeName(names), False


def subtree(*permitted: str, excluded: Sequence[str] = ()) -> Any:
    within = [x509.DNSName(domain) for domain in permitted] or None
    without = [x509.DNSName(domain) for domain in excluded] or None
    return [*CA, (x509.NameConstraints(within, without), True)]


def raw_subtree(*limits: bytes) -> Any:
    whole = tlv(0x30, tlv(0xA0, tlv(0x30, tlv(0x82, VENDOR.encode()), *limits)))
    return [*CA, (x509.UnrecognizedExtension(x509.NameConstraints.oid, whole), True)]


def eku(*usages: Any, critical: bool = True) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage(list(usages)), critical


def usage(*names: str, critical: bool = True) -> tuple[x509.ExtensionType, bool]:
    return key_usage(*names), critical


CASES = {
    "good": Case(),
    "unknown critical, leaf": Case(leaf=[*LEAF, (ODD, True)]),
    "unknown critical, CA": Case(issuing=[*CA, (ODD, True)]),
    "unknown critical, root": Case(root=[*CA, (ODD, True)]),
    "unknown, leaf": Case(leaf=[*LEAF, (ODD, False)]),
    "policies critical": Case(issuing=[*CA, (POLICIES, True)]),
    "policies": Case(leaf=[*LEAF, (POLICIES, False)]),
    "no identifiers, leaf": Case(more=({}, {}, {"identifiers": False})),
    "no identifiers, CA": Case(more=({}, {"identifiers": False}, {})),
    "no identifiers, root": Case(more=({"identifiers": False}, {}, {})),
    "critical identifiers, leaf": Case(more=({}, {}, {"critical_identifiers": True})),
    "critical identifiers, CA": Case(more=({}, {"critical_identifiers": True}, {})),
    "critical identifiers, root": Case(more=({"critical_identifiers": True}, {}, {})),
    "nameless leaf": Case(names=("Root", "Issuing", NAMELESS)),
    "nameless leaf for nobody": Case(leaf=leaf_extensions(()), names=("R", "I", NAMELESS)),
    "nameless CA": Case(names=("Root", NAMELESS, "release")),
    "nameless root": Case(names=(NAMELESS, "Issuing", "release")),
    "self-issued CA": Case(names=("Root", "Root", "release")),
    "no alternative names": Case(leaf=swapped(LEAF, dns())),
    "empty DNS name": Case(leaf=swapped(LEAF, dns(""))),
    "permitted": Case(issuing=subtree(VENDOR)),
    "permitted, below": Case(issuing=subtree("example")),
    "permitted, other": Case(issuing=subtree("other.example")),
    "permitted by root": Case(root=subtree("other.example")),
    "permitted, wildcard": Case(issuing=subtree(VENDOR), leaf=swapped(LEAF, dns("*.acme.example"))),
    "permitted, dot at the end": Case(
        issuing=subtree(VENDOR), leaf=swapped(LEAF, dns("acme.example."))
    ),
    "permitted, other case": Case(issuing=subtree("ACME.example")),
    "excluded": Case(issuing=subtree(excluded=[VENDOR])),
    "excluded, below": Case(issuing=subtree(excluded=["example"])),
    "excluded, other": Case(issuing=subtree(excluded=["other.example"])),
    "excluded in permitted": Case(issuing=subtree("example", excluded=[VENDOR])),
    "minimum": Case(issuing=raw_subtree(tlv(0x80, b"\1"))),
    "maximum": Case(issuing=raw_subtree(tlv(0x81, b"\0"))),
    "CA false, leaf": Case(leaf=swapped(LEAF, FALSE_CA)),
    "CA true, leaf": Case(
        leaf=swapped(LEAF, CA[0], usage("digital_signature", "key_cert_sign")),
        issuing=ca_extensions(path_length=1),
    ),
    "no basic constraints, leaf": Case(leaf=only(LEAF, x509.BasicConstraints)),
    "no basic constraints, CA": Case(issuing=only(CA, x509.BasicConstraints)),
    "CA false, CA": Case(issuing=swapped(CA, FALSE_CA)),
    "basic constraints not critical, CA": Case(issuing=ca_extensions(critical=False)),
    "basic constraints not critical, root": Case(root=ca_extensions(critical=False)),
    "path length of root": Case(root=ca_extensions(path_length=0)),
    "no key usage, leaf": Case(leaf=only(LEAF, x509.KeyUsage)),
    "no key usage, CA": Case(issuing=only(CA, x509.KeyUsage)),
    "no key usage, root": Case(root=only(CA, x509.KeyUsage)),
    "key usage not critical": Case(leaf=swapped(LEAF, usage("digital_signature", critical=False))),
    "keyCertSign, leaf": Case(leaf=swapped(LEAF, usage("digital_signature", "key_cert_sign"))),
    "no digitalSignature": Case(leaf=swapped(LEAF, usage("key_encipherment"))),
    "no keyCertSign, CA": Case(issuing=swapped(CA, usage("crl_sign"))),
    "no keyCertSign, root": Case(root=swapped(CA, usage("crl_sign"))),
    "no EKU": Case(leaf=only(LEAF, x509.ExtendedKeyUsage)),
    "EKU server": Case(leaf=swapped(LEAF, eku(SERVER))),
    "EKU any": Case(leaf=swapped(LEAF, eku(ANY))),
    "EKU both": Case(leaf=swapped(LEAF, eku(SERVER, CODE_SIGNING))),
    "EKU not critical": Case(leaf=swapped(LEAF, eku(CODE_SIGNING, critical=False))),
    "EKU server, CA": Case(issuing=[*CA, eku(SERVER)]),
    "EKU code signing, CA": Case(issuing=[*CA, eku(CODE_SIGNING)]),
    "expired leaf": Case(more=({}, {}, {"days": (-9, -1)})),
    "expired CA": Case(more=({}, {"days": (-9, -1)}, {})),
    "expired root": Case(more=({"days": (-9, -1)}, {}, {})),
    "future leaf": Case(more=({}, {}, {"days": (1, 9)})),
    "SHA-224": Case(more=({}, {}, {"algorithm": hashes.SHA224()})),
    "SHA3-256": Case(more=({}, {}, {"algorithm": hashes.SHA3_256()})),
    "SHA-512": Case(more=({}, {}, {"algorithm": hashes.SHA512()})),
    **{f"{alg} leaf": Case(keys=("p256", "p256", alg)) for alg in ALGORITHMS},
    **{f"{alg} CA": Case(keys=("p256", alg, "p256")) for alg in ALGORITHMS},
    **{f"{alg} root": Case(keys=(alg, "p256", "p256")) for alg in ALGORITHMS},
}

STRICTER = {
    "untrusted.algorithm": "kinds and sizes of keys, and hashes, are a closed list",
    "untrusted.criticality": "the profile strict demands what RFC 5280 demands of CAs",
    "untrusted.ca-as-leaf": "a CA does not sign releases",
    "untrusted.eku": "only for code signing, through the CAs too",
    "untrusted.extension": "certificate policies are not processed",
    "untrusted.key-usage": "key usage must be there",
    "untrusted.key-identifier": "key identifiers must be there",
    "malformed.certificate": "a leaf for nobody",
    "untrusted.name-constraint": "cryptography does not see minimum and maximum",
}
"""Codes of ours under which another verifier may accept."""

THEIRS = {
    "expired root": "the dates of an anchor do not count for us (RFC 5937)",
    "ed25519 CA": "cryptography's verifier has no Ed25519 CAs",
    "ed25519 root": "cryptography's verifier has no Ed25519 CAs",
}
"""Cases that we accept and another refuses, and why."""


def ours(path: Sequence[Entity], crls: Sequence[bytes] = ()) -> str | None:
    try:
        found = validate_path([entity.der for entity in path[:-1]], [path[-1].anchor])
        check_dates(found, NOW)
        if crls:
            reader = CrlReader("strict")
            reader.check(reader.collect(found, crls).issued, NOW)
    except FwsignError as error:
        return error.code
    return None


def openssl(path: Sequence[Entity], crls: Sequence[bytes] = ()) -> str | None:
    flags = crypto.X509StoreFlags.X509_STRICT
    store = crypto.X509Store()
    leaf, *above = (crypto.X509.from_cryptography(entity.certificate) for entity in path)
    store.add_cert(above[-1])
    for crl in crls:
        store.add_crl(x509.load_der_x509_crl(crl))
    if crls:
        flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)
    store.set_time(NOW.replace(tzinfo=None))
    try:
        crypto.X509StoreContext(store, leaf, above[:-1]).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return None


def demand_code_signing(_: Any, __: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
    if found is None or CODE_SIGNING not in found:
        raise ValueError("not for code signing")


def pyca(path: Sequence[Entity]) -> str | None:
    anything = verification.ExtensionPolicy.permit_all()
    some = verification.Criticality.AGNOSTIC
    leaf_policy = anything.require_present(x509.ExtendedKeyUsage, some, demand_code_signing)
    ca_policy = anything.require_present(x509.BasicConstraints, some, None)
    leaf, *above = (entity.certificate for entity in path)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([above[-1]]))
        .time(NOW)
        .extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, above[:-1])
    except verification.VerificationError as error:
        return str(error)
    return None


@pytest.mark.parametrize("case", CASES)
def test_we_accept_no_path_that_another_verifier_refuses(case: str) -> None:
    path = CASES[case].make()
    verdict, others = ours(path), [openssl(path), pyca(path)]
    if verdict is None:
        refusing = [other for other in others if other is not None]
        assert (refusing == []) is (case not in THEIRS)
    elif None in others:
        assert verdict in STRICTER


def test_the_oracles_accept_and_refuse() -> None:
    good, bad = CASES["good"].make(), CASES["expired leaf"].make()
    assert (ours(good), openssl(good), pyca(good)) == (None, None, None)
    assert None not in (ours(bad), openssl(bad), pyca(bad))


def test_every_exception_is_needed() -> None:
    verdicts = {case: ours(made.make()) for case, made in CASES.items()}
    assert {verdict for verdict in verdicts.values() if verdict} >= STRICTER.keys()
    assert [case for case in THEIRS if verdicts[case] is not None] == []


# --- revocation -----------------------------------------------------------------------------

PKI = make_pki()
PATH = [PKI.leaf, PKI.issuing, PKI.root]
OTHER = make_pki(common="Other")
POINT = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)


def crls_of(**issuing: Any) -> list[bytes]:
    return [make_crl(PKI.issuing, **issuing), make_crl(PKI.root)]


CRLS = {
    "good": crls_of(),
    "revoked leaf": crls_of(revoked=[PKI.leaf]),
    "revoked leaf, no reason": crls_of(revoked=[PKI.leaf], reason=None),
    "revoked CA": [make_crl(PKI.issuing), make_crl(PKI.root, [PKI.issuing])],
    "other revoked": crls_of(revoked=[OTHER.leaf]),
    "missing": [make_crl(PKI.root)],
    "missing, root's": [make_crl(PKI.issuing)],
    "stale": crls_of(days=(-9, -1)),
    "forged": crls_of(signer=OTHER.issuing),
    "of another": [make_crl(OTHER.issuing), make_crl(PKI.root)],
    "unknown critical": crls_of(extensions=[(ODD, True)]),
    "unknown": crls_of(extensions=[(ODD, False)]),
    "delta": crls_of(extensions=[(x509.DeltaCRLIndicator(1), True)]),
    "distribution point": crls_of(extensions=[(POINT, True)]),
    "no number": crls_of(number=None),
}
STRICTER_CRLS = {
    "no number": "an old one could not be told from a new one",
    "delta": "delta CRLs refuse; pyOpenSSL takes one for a complete CRL",
    "distribution point": "only complete CRLs are used",
}


@pytest.mark.parametrize("case", CRLS)
def test_we_accept_no_crls_that_openssl_refuses(case: str) -> None:
    verdict, other = ours(PATH, CRLS[case]), openssl(PATH, CRLS[case])
    assert verdict is not None or other is None
    if verdict is not None and other is None:
        assert case in STRICTER_CRLS


HERE = x509.UniformResourceIdentifier("http://acme.example/crl")
ELSEWHERE = x509.UniformResourceIdentifier("http://acme.example/crl/2")
AT_HERE = x509.IssuingDistributionPoint([HERE], None, False, False, None, False, False)


def named(*names: x509.GeneralName) -> list[Entity]:
    """Make a path whose leaf names a distribution point for its CRL."""
    point = x509.CRLDistributionPoints([x509.DistributionPoint(list(names), None, None, None)])
    own = [*leaf_extensions(), (point, False)]
    return [certify(new_key(), name("release"), PKI.issuing, own), PKI.issuing, PKI.root]


@pytest.mark.parametrize("names", [(HERE,), (ELSEWHERE, HERE), (ELSEWHERE,)])
def test_openssl_matches_distribution_points_as_we_do(names: tuple[x509.GeneralName, ...]) -> None:
    path = named(*names)
    for revoked in ((), (path[0],)):
        crls = crls_of(revoked=revoked, extensions=[(AT_HERE, True)])
        good = HERE in names and not revoked
        assert [one(path, crls) is None for one in (ours, openssl)] == [good, good]


def test_where_a_certificate_names_no_distribution_point_we_take_what_step_ca_writes() -> None:
    crls = crls_of(extensions=[(AT_HERE, True)])
    assert ours(PATH, crls) is None
    assert "scope" in (openssl(PATH, crls) or "")
    assert ours(PATH, crls_of(revoked=[PKI.leaf], extensions=[(AT_HERE, True)])) is not None


# --- damage ---------------------------------------------------------------------------------


@given(st.data())
def test_no_damaged_certificate_is_accepted(draw: st.DataObject) -> None:
    which = draw.draw(st.integers(0, 1))
    chain = [PKI.leaf.der, PKI.issuing.der]
    data = bytearray(chain[which])
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at // 8] ^= 1 << at % 8
    chain[which] = bytes(data)
    with pytest.raises(FwsignError):
        validate_path(chain, [PKI.root.anchor])
