# SPDX-License-Identifier: Apache-2.0
"""Somebody has the key of the CA for TLS, and wants devices to take firmware."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.format import suit
from fwsign.format.envelope import Envelope, encode_envelope
from fwsign.keys.file import load_private_key
from fwsign.pki.authority import open_authority
from fwsign.pki.crls import first_crl
from fwsign.pki.directory import Pki
from fwsign.pki.profiles import (
    TLS_ONLY,
    Authority,
    CaLimits,
    build_certificate,
    issuing_certificate,
)
from fwsign.pki.rotation import rotate
from fwsign.x509.anchor import Anchor
from pki_kit import DAY, NEW, NOW, SECOND, before_tls, issue, make, no_passphrase, refused
from support import leaf_extensions, make_block, make_manifest, new_key, signed_digest, verify

CODE = ExtendedKeyUsageOID.CODE_SIGNING
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("stolen") / "pki").directory


@pytest.fixture
def pki(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "pki"))


def authority(pki: Path, name: str) -> Authority:
    return open_authority(Pki(pki), name, no_passphrase)


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in certificates]


def signer(issuer: Authority, usages: Any = (CODE,)) -> tuple[Any, x509.Certificate]:
    """Let a CA certify a signer; return its key and certificate."""
    key = new_key("p256")
    identifier = x509.SubjectKeyIdentifier.from_public_key
    above: Any = issuer.certificate.public_key()
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        identifier(above)
    )
    extensions = (
        *leaf_extensions(["acme.example"], usages=usages),
        (identifier(key.public_key()), False),
        (authority_key, False),
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "release")])
    issuer_name = (issuer.certificate.subject, issuer.key)
    period = (SECOND, SECOND + DAY)
    return key, build_certificate(name, key.public_key(), period, issuer_name, extensions)


def device_takes(
    pki: Path, key: Any, path: list[bytes], crls: Any = (), profile: Any = "strict"
) -> str:
    """Return the code with which a device refuses a release, or nothing."""
    manifest = suit.encode_manifest(make_manifest())
    payload = signed_digest(manifest)
    block = make_block(payload, key, tuple(path), tuple(crls))
    release = encode_envelope(Envelope(payload, (block,), manifest, None, {}))
    root = Anchor.from_certificate(Pki(pki).root.public_bytes(Encoding.DER))
    try:
        verify(release, [root], at=NOW, profile=profile, revocation="off")
    except FwsignError as error:
        return error.code
    return ""


PROFILES = pytest.mark.parametrize("profile", ["strict", "compat"])


def test_what_the_other_ca_certifies_is_taken(pki: Path) -> None:
    ca = authority(pki, "issuing")
    key, leaf = signer(ca)
    assert device_takes(pki, key, der(leaf, ca.certificate)) == ""


@PROFILES
@pytest.mark.parametrize("usages", [(CODE,), (SERVER, CODE), (ANY,), (CODE, ANY)])
def test_a_signer_of_its_own_is_refused(usages: Any, profile: Any, pki: Path) -> None:
    ca = authority(pki, "issuing-tls")
    key, leaf = signer(ca, usages)
    assert device_takes(pki, key, der(leaf, ca.certificate), profile=profile) == "untrusted.eku"


@PROFILES
@pytest.mark.parametrize("limits", [CaLimits(), CaLimits(("acme.example",), (CODE,))])
def test_a_ca_of_its_own_is_refused(limits: CaLimits, profile: Any, pki: Path) -> None:
    ca = authority(pki, "issuing-tls")
    own: Any = new_key("p256")
    wanted = Pki(pki).certificate("issuing").subject  # of the same name, too
    below = Authority(issuing_certificate(own.public_key(), wanted, limits, ca, SECOND), own)
    key, leaf = signer(below)
    path = der(leaf, below.certificate, ca.certificate)
    assert device_takes(pki, key, path, profile=profile) == "untrusted.path-length"


@PROFILES
def test_its_key_under_the_name_of_the_other_ca_is_refused(profile: Any, pki: Path) -> None:
    """The path shows the certificate of `issuing`, and the signature is of another key."""
    tls, ca = authority(pki, "issuing-tls"), authority(pki, "issuing")
    key, leaf = signer(Authority(ca.certificate, tls.key))
    code = device_takes(pki, key, der(leaf, ca.certificate), profile=profile)
    assert code == "tampered.certificate"


@PROFILES
def test_its_certificate_without_the_usage_is_refused(profile: Any, pki: Path) -> None:
    """Stripped, and signed by the only key there is: its own."""
    tls = authority(pki, "issuing-tls")
    own: Any = tls.certificate.public_key()
    root = Authority(Pki(pki).root, tls.key)
    stripped = issuing_certificate(own, tls.certificate.subject, CaLimits(), root, SECOND)
    key, leaf = signer(Authority(stripped, tls.key))
    code = device_takes(pki, key, der(leaf, stripped), profile=profile)
    assert code == "tampered.certificate"


@PROFILES
def test_nor_does_it_help_to_be_a_leaf(profile: Any, pki: Path) -> None:
    tls = authority(pki, "issuing-tls")
    code = device_takes(pki, tls.key, der(tls.certificate), profile=profile)
    assert code in {"untrusted.ca-as-leaf", "untrusted.key-usage"}


@PROFILES
def test_nor_does_a_crossed_root_above_it(profile: Any, pki: Path) -> None:
    rotate(pki, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    tls = authority(pki, "issuing-tls-2")
    key, leaf = signer(tls)
    path = der(leaf, tls.certificate, Pki(pki).certificate("ca-2-by-ca"))
    assert device_takes(pki, key, path, profile=profile) == "untrusted.eku"
    ca = authority(pki, "issuing-2")
    key, leaf = signer(ca)
    path = der(leaf, ca.certificate, Pki(pki).certificate("ca-2-by-ca"))
    assert device_takes(pki, key, path, profile=profile) == ""


@PROFILES
def test_its_crl_revokes_and_clears_nothing_of_the_other_ca(profile: Any, pki: Path) -> None:
    tls, ca = authority(pki, "issuing-tls"), authority(pki, "issuing")
    forged = first_crl("issuing", Authority(ca.certificate, tls.key), SECOND)
    list_ = x509.load_pem_x509_crl(forged).public_bytes(Encoding.DER)
    root = Anchor.from_certificate(Pki(pki).root.public_bytes(Encoding.DER))
    manifest = suit.encode_manifest(make_manifest())
    payload = signed_digest(manifest)
    key = load_private_key(Pki(pki).key_path("release"), no_passphrase)
    crls = (list_, Pki(pki).crls("release")[1])
    block = make_block(payload, key, Pki(pki).path("release"), crls)
    release = encode_envelope(Envelope(payload, (block,), manifest, None, {}))
    with pytest.raises(FwsignError) as caught:
        verify(release, [root], at=NOW, profile=profile, revocation="require")
    assert caught.value.code == "tampered.crl"


@PROFILES
def test_an_old_ca_for_everything_still_signs(profile: Any, pki: Path) -> None:
    """Until it is replaced: bringing a PKI over takes nothing from it."""
    before_tls(pki)
    ca = authority(pki, "issuing")
    key, leaf = signer(ca)
    assert device_takes(pki, key, der(leaf, ca.certificate), profile=profile) == ""


def test_two_cas_of_one_name_are_told_apart_by_their_keys(pki: Path) -> None:
    """A TLS CA that the root named like the CA of signers is still for TLS alone."""
    root, ca = authority(pki, "ca"), authority(pki, "issuing")
    own: Any = new_key("p256")
    twin = issuing_certificate(own.public_key(), ca.certificate.subject, TLS_ONLY, root, SECOND)
    key, leaf = signer(Authority(twin, own))
    assert device_takes(pki, key, der(leaf, twin)) == "untrusted.eku"
    assert device_takes(pki, key, der(leaf, ca.certificate)) == "untrusted.key-identifier"


def test_fwsign_itself_issues_no_signer_with_it(pki: Path) -> None:
    for path in (Pki(pki).certificate_path("issuing"), Pki(pki).key_path("issuing")):
        path.unlink()
    (pki / "crl/issuing.pem").unlink()
    error = refused(lambda: issue(pki, "x", domains=["acme.example"]), "state.pki")
    assert error.message == f"there is no issuing CA for a signer in {pki}"
