"""Each rule that one certificate breaks has its test here, named after it."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.keys import published as known_keys
from fwsign.x509.certificate import key_digest
from lint_kit import ca, codes, crls, fill, leaf, make_pki, said, weakly_signed
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    ca_extensions,
    key_usage,
    leaf_extensions,
    make_ca,
    name,
    parts,
    resign,
    tlv,
    with_serial,
)

PKI = make_pki()
GOOD: tuple[Entity | bytes, ...] = (PKI.root, PKI.issuing, *crls(PKI.root, PKI.issuing))


def swapped(old: type[x509.ExtensionType], new: Any, critical: bool = True) -> list[Any]:
    """Return the extensions of a signer with one replaced, or taken out."""
    kept = [one for one in leaf_extensions() if not isinstance(one[0], old)]
    return [*kept, *([(new, critical)] if new is not None else [])]


def odd(tmp_path: Path, entity: Entity | bytes) -> list[str]:
    """Return what is found about a signer in an otherwise good PKI."""
    folder = fill(tmp_path, *GOOD)
    data = entity.der if isinstance(entity, Entity) else entity
    (folder / "odd.crt").write_bytes(data)
    return codes(folder)


def edited(field: int, content: bytes | None) -> bytes:
    """Return our signer with a field of its signed part replaced or taken out, signed again."""
    fields = parts(parts(PKI.leaf.der)[0])
    fields[field : field + 1] = [] if content is None else [content]
    return resign(fields, PKI.issuing.key)


def test_a_good_signer_has_no_findings(tmp_path: Path) -> None:
    assert odd(tmp_path, PKI.leaf) == []


def test_version(tmp_path: Path) -> None:
    fields = parts(parts(PKI.leaf.der)[0])[1:-1]  # no version, no extensions
    found = odd(tmp_path, resign(fields, PKI.issuing.key))
    assert "version" in found


@pytest.mark.parametrize("serial", [0, -5, 1 << 160])
def test_serial(tmp_path: Path, serial: int) -> None:
    content = serial.to_bytes(21, "big", signed=True)
    if serial <= 0:
        content = content[-1:]
    assert odd(tmp_path, edited(1, tlv(2, content))) == ["serial"]


def test_a_root_may_have_the_serial_number_0(tmp_path: Path) -> None:
    folder = fill(tmp_path, with_serial(PKI.root, b"\0"), *GOOD[1:])
    assert codes(folder) == ["serial-short"]


def test_serial_short(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, serial=4711)) == ["serial-short"]
    assert odd(tmp_path, leaf(PKI.issuing, serial=1 << 56)) == []


def test_time_encoding(tmp_path: Path) -> None:
    validity = tlv(0x30, tlv(0x18, b"20261101000000Z"), tlv(0x17, b"280101000000Z"))
    assert odd(tmp_path, edited(4, validity)) == ["time-encoding"]


def test_signature_weak(tmp_path: Path) -> None:
    assert odd(tmp_path, weakly_signed(PKI.leaf, PKI.issuing)) == ["signature-weak"]
    assert said(tmp_path, "signature-weak") == ["signed with SHA-1 with ECDSA"]


def test_root_signature_weak(tmp_path: Path) -> None:
    (tmp_path / "root.crt").write_bytes(weakly_signed(PKI.root, PKI.root))
    assert codes(tmp_path) == ["root-signature-weak"]


@pytest.mark.parametrize("alg", ["secp256k1", "ed448", "rsa2048", "ml-dsa-44"])
def test_key(tmp_path: Path, alg: str) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, alg=alg)) == ["key"]
    if alg != "rsa2048":
        assert "key" in codes(fill(tmp_path / "ca", make_ca(alg=alg)))


def test_rsa_2048_is_good_for_a_ca(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, make_ca(alg="rsa2048"))) == []


def test_published_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spki = key_digest(PKI.leaf.key.public_key())
    monkeypatch.setattr(known_keys, "PUBLISHED", {spki: "somebody's"})
    assert odd(tmp_path, PKI.leaf) == ["published-key"]
    [message] = said(tmp_path, "published-key")
    assert message == "the key is somebody's key, whose private half is published"


def test_critical_extension(tmp_path: Path) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    entity = leaf(PKI.issuing, extensions=[*leaf_extensions(), (strange, True)])
    assert odd(tmp_path, entity) == ["critical-extension"]
    entity = leaf(PKI.issuing, extensions=[*leaf_extensions(), (strange, False)])
    assert odd(tmp_path, entity) == []


def test_extension(tmp_path: Path) -> None:
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.32"), b"\xff")
    entity = leaf(PKI.issuing, extensions=[*leaf_extensions(), (broken, False)])
    assert odd(tmp_path, entity) == ["extension"]
    (message,) = said(tmp_path, "extension")
    assert message == "certificatePolicies: it is cut off"


def test_aki_absent(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, identifiers=False)) == ["aki-absent"]


# --- when -----------------------------------------------------------------------------------


def test_expired(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, days=(-100, -1))) == ["expired"]
    assert said(tmp_path, "expired") == ["expired 2026-11-21, it is 2026-11-22"]


def test_what_was_renewed_may_expire(tmp_path: Path) -> None:
    fill(tmp_path / "old", leaf(PKI.issuing, key=PKI.leaf.key, common="release", days=(-100, -1)))
    fill(tmp_path, *GOOD, PKI.leaf)
    assert codes(tmp_path) == []


def test_root_expired(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, make_ca(days=(-100, -1)))) == ["root-expired"]


def test_not_yet_valid(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, days=(5, 700))) == ["not-yet-valid"]


def test_expires_soon(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, days=(-10, 89))) == ["expires-soon"]
    assert odd(tmp_path, leaf(PKI.issuing, days=(-10, 91))) == []
    assert codes(fill(tmp_path / "ca", make_ca(days=(-10, 364)))) == ["expires-soon"]
    assert codes(fill(tmp_path / "ca", make_ca(days=(-10, 366)))) == []


def test_ca_long_lived(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, make_ca(days=(-10, 7700)))) == ["ca-long-lived"]


def test_leaf_long_lived(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, days=(-10, 1200))) == ["leaf-long-lived"]


# --- CAs ------------------------------------------------------------------------------------


def lone_ca(tmp_path: Path, extensions: Any, **more: Any) -> list[str]:
    return codes(fill(tmp_path, ca(None, "Root", extensions, **more)))


def test_ca_criticality(tmp_path: Path) -> None:
    assert lone_ca(tmp_path, ca_extensions(critical=False)) == ["ca-criticality"]


def test_ca_key_usage_absent(tmp_path: Path) -> None:
    assert lone_ca(tmp_path, ca_extensions()[:1]) == ["ca-key-usage-absent"]


def test_ca_cert_sign(tmp_path: Path) -> None:
    extensions = [ca_extensions()[0], (key_usage("crl_sign"), True)]
    assert lone_ca(tmp_path, extensions) == ["ca-cert-sign"]


def test_ca_crl_sign(tmp_path: Path) -> None:
    extensions = [ca_extensions()[0], (key_usage("key_cert_sign"), True)]
    assert lone_ca(tmp_path, extensions) == ["ca-crl-sign"]


def test_ski_absent(tmp_path: Path) -> None:
    assert lone_ca(tmp_path, ca_extensions(), identifiers=False) == ["ski-absent"]


def constrained(*names: x509.GeneralName, critical: bool = True) -> list[Any]:
    return [*ca_extensions(), (x509.NameConstraints(list(names), None), critical)]


@pytest.mark.parametrize(
    "base",
    [
        x509.UniformResourceIdentifier("acme.example"),
        x509.RFC822Name("acme.example"),
        x509.DNSName(".acme.example"),
    ],
)
def test_constraints_kind(tmp_path: Path, base: x509.GeneralName) -> None:
    assert lone_ca(tmp_path, constrained(base)) == ["constraints-kind"]


def test_constraints_on_domains_and_directory_names_are_good(tmp_path: Path) -> None:
    names = (x509.DNSName(VENDOR), x509.DirectoryName(name("Acme")))
    assert lone_ca(tmp_path, constrained(*names)) == []


def test_constraints_criticality(tmp_path: Path) -> None:
    extensions = constrained(x509.DNSName(VENDOR), critical=False)
    assert lone_ca(tmp_path, extensions) == ["constraints-criticality"]


# --- signers --------------------------------------------------------------------------------


def test_ca_as_leaf(tmp_path: Path) -> None:
    usage = (key_usage("digital_signature", "key_cert_sign", "crl_sign"), True)
    own = (x509.BasicConstraints(ca=True, path_length=None), True)
    extensions = [own, usage, *leaf_extensions()[2:]]
    assert odd(tmp_path, leaf(PKI.root, extensions=extensions)) == ["ca-as-leaf"]


def test_self_signed_leaf(tmp_path: Path) -> None:
    entity = ca(None, "release", leaf_extensions())
    assert "self-signed-leaf" in codes(fill(tmp_path, entity))


@pytest.mark.parametrize(
    "usage",
    [None, key_usage("content_commitment"), key_usage("digital_signature", "key_cert_sign")],
)
def test_leaf_key_usage(tmp_path: Path, usage: x509.KeyUsage | None) -> None:
    entity = leaf(PKI.issuing, extensions=swapped(x509.KeyUsage, usage))
    assert odd(tmp_path, entity) == ["leaf-key-usage"]


def test_eku_absent(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, usages=())) == ["eku-absent"]


def test_eku_any(tmp_path: Path) -> None:
    usages = (CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    assert odd(tmp_path, leaf(PKI.issuing, usages=usages)) == ["eku-any"]


def test_eku_criticality(tmp_path: Path) -> None:
    usages = x509.ExtendedKeyUsage([CODE_SIGNING])
    entity = leaf(PKI.issuing, extensions=swapped(x509.ExtendedKeyUsage, usages, critical=False))
    assert odd(tmp_path, entity) == ["eku-criticality"]


def test_certificates_for_tls_are_not_judged_as_signers(tmp_path: Path) -> None:
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    extensions = swapped(x509.ExtendedKeyUsage, usages, critical=False)[:2]
    server = leaf(PKI.issuing, alg="rsa2048", extensions=[*extensions, (usages, False)])
    assert odd(tmp_path, server) == []


def test_vendor_absent(tmp_path: Path) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, vendors=())) == ["vendor-absent"]


@pytest.mark.parametrize("vendor", ["*.acme.example", "www.Acme.example"])
def test_vendor_name(tmp_path: Path, vendor: str) -> None:
    assert odd(tmp_path, leaf(PKI.issuing, vendors=(VENDOR, vendor))) == ["vendor-name"]


def test_time_is_an_argument(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, *GOOD, PKI.leaf), days=800) == ["crl-stale", "crl-stale", "expired"]
