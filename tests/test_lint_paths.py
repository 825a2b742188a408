"""Each rule about certificates together has its test here, named after it."""

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from lint_kit import CA_USAGE, ca, codes, crls, fill, findings, leaf, make_pki, said
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    name,
    new_key,
)

PKI = make_pki()
GOOD: tuple[Entity | bytes, ...] = (PKI.root, PKI.issuing, *crls(PKI.root, PKI.issuing), PKI.leaf)


def below_a_new_ca(tmp_path: Path, extensions: Any, **more: Any) -> list[str]:
    """Return what is found where a CA of these extensions has issued a signer."""
    issuing = ca(PKI.root, "Other Issuing", extensions, **more)
    signer = leaf(issuing)
    return codes(fill(tmp_path, *GOOD, issuing, *crls(issuing), signer))


def test_signature(tmp_path: Path) -> None:
    other = Entity(new_key(), PKI.issuing.certificate)
    forged = certify(new_key(), name("forged"), other, leaf_extensions(), days=(-10, 700))
    found = codes(fill(tmp_path, *GOOD, forged))
    assert "signature" in found or "issuer-absent" in found
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(PKI.issuing.key.public_key())
    ski = x509.SubjectKeyIdentifier.from_public_key(other.key.public_key())
    extensions = [*leaf_extensions(), (aki, False), (ski, False)]
    forged = certify(
        new_key(), name("forged"), other, extensions, days=(-10, 700), identifiers=False
    )
    assert codes(fill(tmp_path / "b", *GOOD, forged)) == ["signature"]


def test_issuer_absent(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, PKI.leaf)) == ["issuer-absent"]


def test_aki_mismatch(tmp_path: Path) -> None:
    wrong = x509.AuthorityKeyIdentifier.from_issuer_public_key(new_key().public_key())
    extensions = [*leaf_extensions(), (wrong, False)]
    entity = leaf(PKI.issuing, extensions=extensions, identifiers=False)
    assert codes(fill(tmp_path, *GOOD, entity)) == ["aki-mismatch"]


def test_serial_twice(tmp_path: Path) -> None:
    serial = PKI.leaf.certificate.serial_number
    assert codes(fill(tmp_path, *GOOD, leaf(PKI.issuing, serial=serial))) == ["serial-twice"]


def test_ca_name_twice(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, make_ca(), make_ca())) == ["ca-name-twice"]


def test_name_twice(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, *GOOD, leaf(PKI.issuing, "release"))) == ["name-twice"]
    same = leaf(PKI.issuing, "release", key=PKI.leaf.key)
    assert codes(fill(tmp_path / "b", *GOOD, same)) == []


def test_outlives_issuer(tmp_path: Path) -> None:
    issuing = make_ca("Short", PKI.root, permitted=[VENDOR], path_length=0, days=(-10, 500))
    signer = leaf(issuing)
    found = codes(fill(tmp_path, *GOOD, issuing, *crls(issuing), signer))
    assert found == ["outlives-issuer"]


def test_issuer_not_ca(tmp_path: Path) -> None:
    extensions = [(x509.BasicConstraints(ca=False, path_length=None), True), (CA_USAGE, True)]
    assert "issuer-not-ca" in below_a_new_ca(tmp_path, extensions)


def test_path_length(tmp_path: Path) -> None:
    root = make_ca("Narrow", path_length=0)
    issuing = make_ca("Narrow Issuing", root, permitted=[VENDOR], path_length=0)
    found = codes(fill(tmp_path, root, issuing, *crls(root, issuing), leaf(issuing)))
    assert found == ["path-length"]
    assert said(tmp_path, "path-length") == ["it allows 0 CAs below it, there are 1"]


def test_constraints_absent(tmp_path: Path) -> None:
    assert below_a_new_ca(tmp_path, ca_extensions(path_length=0)) == ["constraints-absent"]


def test_ca_eku(tmp_path: Path) -> None:
    own = ca_extensions(path_length=0, permitted=[VENDOR])
    tls = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)
    assert below_a_new_ca(tmp_path, [*own, tls]) == ["ca-eku"]
    code = (x509.ExtendedKeyUsage([CODE_SIGNING]), True)
    assert below_a_new_ca(tmp_path / "b", [*own, code]) == []


def test_refused(tmp_path: Path) -> None:
    """What no rule knows, the verifier says: here a name that the CA does not permit."""
    signer = leaf(PKI.issuing, vendors=("evil.example",))
    [finding] = findings(fill(tmp_path, *GOOD, signer))
    assert finding.code == "lint.refused"
    assert finding.message.startswith("untrusted.name-constraint: ")


def test_what_is_revoked_is_left_out(tmp_path: Path) -> None:
    signer = leaf(PKI.issuing, vendors=(), days=(-100, -1))
    crl = make_crl(PKI.issuing, [signer], number=2, days=(0, 60))
    assert codes(fill(tmp_path, *GOOD, signer, crl)) == []


def test_a_cross_certified_root_is_good(tmp_path: Path) -> None:
    new = make_ca("New Root")
    crossed = certify(new.key, name("New Root"), PKI.root, ca_extensions(), days=(-10, 3640))
    issuing = make_ca("New Issuing", new, permitted=[VENDOR], path_length=0, days=(-10, 3600))
    things: tuple[Entity | bytes, ...] = (new, crossed, issuing, *crls(new, issuing), leaf(issuing))
    assert codes(fill(tmp_path, *GOOD, *things)) == []


def test_below_ml_dsa(tmp_path: Path) -> None:
    pki = make_pki("ml-dsa-65")
    good: tuple[Entity | bytes, ...] = (pki.root, pki.issuing)
    good += (*crls(pki.root, pki.issuing), pki.leaf)
    assert codes(fill(tmp_path / "good", *good)) == []
    weak = leaf(pki.issuing)
    place = fill(tmp_path / "weak", *good, weak)
    assert codes(place) == ["below-ml-dsa"]
    words = 'the key is P-256, its issuer "Issuing" has ML-DSA-65'
    assert said(place, "below-ml-dsa") == [words]
    assert [one.severity for one in findings(place)] == ["warning"]


def test_above_ml_dsa(tmp_path: Path) -> None:
    strong = leaf(PKI.issuing, alg="ml-dsa-87")
    place = fill(tmp_path, *GOOD, strong)
    assert codes(place) == ["above-ml-dsa"]
    words = 'the key is ML-DSA-87, its issuer "Issuing" has P-256'
    assert said(place, "above-ml-dsa") == [words]
    assert [one.severity for one in findings(place)] == ["note"]
