"""Keys behind one interface: raw signatures, signers of releases, certificates signed elsewhere."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.errors import Failed
from fwsign.format.cose import pss, verify_signature
from fwsign.keys import open_key, signer_from_uri
from fwsign.keys.file import new_private_key, write_private_key
from fwsign.keys.file_key import FileKey
from fwsign.keys.held import HeldSigner, Scheme, digest_of, mu_of
from fwsign.keys.stand_in import private_key

ALGORITHMS = ("p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")
MESSAGE = b"the Sig_structure of a manifest"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "held CA")])


@pytest.fixture(params=ALGORITHMS)
def held(request: pytest.FixtureRequest, tmp_path: Path) -> FileKey:
    path = tmp_path / "one.key"
    write_private_key(path, new_private_key(request.param), None)
    return FileKey(path, lambda: None)


def built(key: Any, digest: hashes.SHA256 | None) -> list[Any]:
    """Return a certificate, a CRL and a request that cryptography's builders sign with a key."""
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, digest)
    )
    crl = x509.CertificateRevocationListBuilder().issuer_name(NAME)
    crl = crl.last_update(NOW).next_update(NOW + timedelta(days=1))
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME)
    return [certificate, crl.sign(key, digest), request.sign(key, digest)]


def test_a_held_key_signs_releases(held: FileKey) -> None:
    signer = HeldSigner(held)
    verify_signature(signer.algorithm, held.public_key, MESSAGE, signer.sign(MESSAGE))
    plain = signer_from_uri(held.place, lambda: None)
    assert plain.algorithm == signer.algorithm


def test_builders_sign_with_a_stand_in(held: FileKey) -> None:
    key = private_key(held)
    digest = None if hasattr(key, "sign_mu") or "Ed25519" in type(key).__name__ else hashes.SHA256()
    certificate, crl, request = built(key, digest)
    certificate.verify_directly_issued_by(certificate)
    assert crl.is_signature_valid(held.public_key)
    assert request.is_signature_valid
    assert copy.copy(key) is copy.deepcopy(key) is key


def test_a_stand_in_gives_nothing_away(held: FileKey) -> None:
    key: Any = private_key(held)
    for name in ("private_bytes", "private_numbers", "private_bytes_raw", "exchange", "decrypt"):
        with pytest.raises(Failed) as caught:
            getattr(key, name)(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert caught.value.code == "key.unsupported"
        assert held.place in caught.value.message


def test_a_stand_in_of_rsa_signs_with_pss_too(tmp_path: Path) -> None:
    write_private_key(tmp_path / "rsa.key", new_private_key("rsa3072"), None)
    held = FileKey(tmp_path / "rsa.key", lambda: None)
    key: Any = private_key(held)
    digest = hashes.SHA384()
    how = padding.PSS(padding.MGF1(digest), 48)
    key.public_key().verify(key.sign(MESSAGE, how, digest), MESSAGE, how, digest)
    assert key.key_size == 3072


def test_a_stand_in_of_ml_dsa_has_no_context(tmp_path: Path) -> None:
    write_private_key(tmp_path / "one.key", new_private_key("ml-dsa-65"), None)
    held = FileKey(tmp_path / "one.key", lambda: None)
    key: Any = private_key(held)
    mu = mu_of(held.public_key, MESSAGE)
    assert len(mu) == 64
    for signature in (key.sign_mu(mu), held.sign_raw(Scheme.MU, mu), key.sign(MESSAGE)):
        key.public_key().verify(signature, MESSAGE)
    with pytest.raises(Failed):
        key.sign(MESSAGE, b"context")


def test_raw_signatures_are_of_the_digest(tmp_path: Path) -> None:
    for alg, name, size in (("p256", "SHA-256", 64), ("p384", "SHA-384", 96)):
        write_private_key(tmp_path / alg, new_private_key(alg), None)
        held = open_key(str(tmp_path / alg), lambda: None)
        digest = digest_of(MESSAGE, name)
        raw = held.sign_raw(Scheme.ECDSA, digest, name)
        assert (len(raw), held.sign_raw(Scheme.ECDSA, digest, name)) == (size, raw)
        r, s = (int.from_bytes(raw[at:][: size // 2], "big") for at in (0, size // 2))
        der = encode_dss_signature(r, s)
        hashed = Prehashed(hashes.SHA256() if alg == "p256" else hashes.SHA384())
        public: Any = held.public_key
        public.verify(der, digest, ec.ECDSA(hashed))


def test_raw_signatures_of_rsa(tmp_path: Path) -> None:
    write_private_key(tmp_path / "rsa", new_private_key("rsa3072"), None)
    held = open_key(f"file:{tmp_path / 'rsa'}", lambda: None)
    public: Any = held.public_key
    assert isinstance(public, rsa.RSAPublicKey)
    digest = digest_of(MESSAGE, "SHA-256")
    signed = held.sign_raw(Scheme.PKCS1, digest, "SHA-256")
    public.verify(signed, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    signed = held.sign_raw(Scheme.PSS, digest, "SHA-256")
    public.verify(signed, MESSAGE, pss(hashes.SHA256()), hashes.SHA256())


@pytest.mark.parametrize(
    ("alg", "schemes"),
    [
        ("p256", (Scheme.PSS, Scheme.PKCS1, Scheme.PURE, Scheme.MU)),
        ("rsa3072", (Scheme.ECDSA, Scheme.PURE, Scheme.MU)),
        ("ed25519", (Scheme.ECDSA, Scheme.PSS, Scheme.PKCS1, Scheme.MU)),
        ("ml-dsa-65", (Scheme.ECDSA, Scheme.PSS, Scheme.PKCS1)),
    ],
)
def test_a_key_refuses_what_does_not_suit_it(
    alg: str, schemes: tuple[Scheme, ...], tmp_path: Path
) -> None:
    write_private_key(tmp_path / "one.key", new_private_key(alg), None)
    held = open_key(str(tmp_path / "one.key"), lambda: None)
    for scheme in schemes:
        with pytest.raises(Failed) as caught:
            held.sign_raw(scheme, bytes(64), "SHA-512")
        assert caught.value.code == "key.unsupported"
        assert f"makes no {scheme.value} signatures" in caught.value.message
    held.close()


def test_a_held_key_may_be_of_a_kind_that_signs_no_release(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "boot.key").write_bytes(pem)
    held = open_key(str(tmp_path / "boot.key"), lambda: None)
    digest = digest_of(MESSAGE, "SHA-256")
    raw = held.sign_raw(Scheme.ECDSA, digest, "SHA-256")
    r, s = (int.from_bytes(one, "big") for one in (raw[:32], raw[32:]))
    key.public_key().verify(encode_dss_signature(r, s), MESSAGE, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(Failed) as caught:
        HeldSigner(held)
    assert caught.value.code == "key.unsupported"


def test_mu_is_that_of_fips_204() -> None:
    key = mldsa.MLDSA87PrivateKey.generate()
    mu = mu_of(key.public_key(), MESSAGE)
    key.public_key().verify(key.sign_mu(mu), MESSAGE)
