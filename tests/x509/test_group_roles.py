"""The certificate of a group of devices: its key agrees on keys, and does nothing else."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.x509.chain import CertificationPath, validate_path
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    certify,
    key_usage,
    make_ca,
    make_leaf,
    name,
    new_key,
    refused,
)

ROOT = make_ca()


def group(*usages: str, extended: Any = None, issuer: Entity = ROOT, ca: bool = False) -> Entity:
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (x509.SubjectAlternativeName([x509.DNSName(VENDOR)]), False),
    ]
    if usages:
        extensions.append((key_usage(*usages), True))
    if extended:
        extensions.append((x509.ExtendedKeyUsage([extended]), False))
    return make_leaf(issuer, "gateways", extensions=extensions)


def judged(leaf: Entity, *above: Entity, use: Any = "keyAgreement") -> CertificationPath:
    return validate_path([leaf.der, *(one.der for one in above)], [ROOT.anchor], use=use)


def test_a_group_of_the_pki() -> None:
    path = judged(group("key_agreement"))
    assert (path.name, path.vendors, path.forgiven) == ("gateways", (VENDOR,), ())


@pytest.mark.parametrize("other", ["digital_signature", "key_cert_sign", "key_encipherment"])
def test_a_key_that_does_more_is_no_groups(other: str) -> None:
    words = 'key usage of "gateways" must be keyAgreement and nothing else'
    for usages in (("key_agreement", other), (other,), ()):
        with refused("untrusted.key-usage", words):
            judged(group(*usages))


@pytest.mark.parametrize("extended", [CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_a_group_has_no_extended_key_usage(extended: Any) -> None:
    with refused("untrusted.eku", f"is {extended.dotted_string}, expected none for encryption"):
        judged(group("key_agreement", extended=extended))


def test_a_ca_is_no_group() -> None:
    with refused("untrusted.ca-as-leaf", '"gateways" is a CA'):
        judged(group("key_agreement", ca=True))


@pytest.mark.parametrize("use", ["codeSigning", "configSigning", "timeStamping", "clientAuth"])
def test_a_group_is_nothing_else(use: Any) -> None:
    leaf = group("key_agreement")
    with refused("untrusted.key-usage", "must have digitalSignature"):
        judged(leaf, use=use)


def test_a_ca_that_is_limited_to_signers_may_issue_for_groups() -> None:
    """The leaf has no extended key usage that a limit could withhold."""
    extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
        (x509.ExtendedKeyUsage([CODE_SIGNING]), True),
    ]
    issuing = certify(new_key(), name("Issuing"), ROOT, extensions)
    assert judged(group("key_agreement", issuer=issuing), issuing).name == "gateways"


def test_the_group_of_another_root_is_refused() -> None:
    with refused("untrusted.no-anchor", 'the path ends at issuer "Other"'):
        judged(group("key_agreement", issuer=make_ca("Other")))
