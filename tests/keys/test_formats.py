# SPDX-License-Identifier: Apache-2.0
"""Every form of keys and certificates, read by content and written."""

import base64
import hashlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, mldsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from fwsign.errors import Failed, FwsignError
from fwsign.keys import Passphrase, asn1, convert, mldsa_forms, p12, pbes2, pem
from fwsign.keys.encryption import describe_encryption
from fwsign.keys.file import encode_private_key, load_private_key
from fwsign.keys.formats import read_any, read_private_key
from fwsign.keys.items import CONTAINER, FileItem
from support import der, make_ca, make_crl, make_leaf, name, new_key, refused, tlv

SECRET = b"correct horse"
PLAIN = NoEncryption()
ALGORITHMS = ("p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make keys that are quick to guess; test_encryption.py looks at what is really written."""
    monkeypatch.setattr(pbes2, "SCRYPT_N", 16)
    monkeypatch.setattr(p12, "ITERATIONS", 10)
    monkeypatch.setattr(p12, "MAC_ITERATIONS", 10)
    monkeypatch.setattr(p12, "LEGACY_ITERATIONS", 10)
    monkeypatch.setattr(convert, "BCRYPT_ROUNDS", 1)


def unasked() -> bytes | None:
    pytest.fail("a passphrase was asked for")


def given() -> bytes:
    return SECRET


def answer(passphrase: bytes | None) -> Passphrase:
    return lambda: passphrase


def one(data: bytes, passphrase: Any = unasked) -> FileItem:
    (found,) = read_any(data, passphrase)
    return found


def pkcs8(key: Any, encoding: Encoding = Encoding.DER) -> bytes:
    data: bytes = key.private_bytes(encoding, PrivateFormat.PKCS8, PLAIN)
    return data


def has_bcrypt() -> None:
    pytest.importorskip("bcrypt", reason="the package bcrypt is not installed")


# --- private keys: round trips ---------------------------------------------------------------

FORMS = [
    *((alg, "pkcs8") for alg in ALGORITHMS),
    ("p256", "sec1"),
    ("p384", "sec1"),
    ("rsa3072", "pkcs1"),
    *((alg, form) for alg in ("p256", "p384", "ed25519", "rsa3072") for form in ("openssh", "p12")),
    ("p521", "pkcs8"),
    ("ed448", "pkcs8"),
    ("ml-dsa-44", "pkcs8"),
]
NAMES = {
    "pkcs8": "PKCS#8",
    "sec1": "SEC1",
    "pkcs1": "PKCS#1",
    "openssh": "OpenSSH",
    "p12": "PKCS#12",
}


@pytest.mark.parametrize(("alg", "form"), FORMS)
@pytest.mark.parametrize("encoding", ["PEM", "DER"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_private_keys_come_back(alg: str, form: str, encoding: str, secret: bytes | None) -> None:
    if (form == "openssh" and encoding == "DER") or (form == "p12" and encoding == "PEM"):
        return
    if form in {"sec1", "pkcs1"} and secret:
        return
    if form == "openssh" and secret:
        has_bcrypt()
    key = new_key(alg)
    data = convert.encode_private(key, form, secret, der=encoding == "DER")
    found = one(data, unasked if secret is None else given)
    assert found.key.public_key() == found.public_key == key.public_key()
    assert (found.kind, found.format, found.encoding) == ("private key", NAMES[form], encoding)
    assert (found.encryption is not None) is (secret is not None)
    if secret is not None:
        locked = one(data, None)
        assert locked.key is None
        assert locked.encryption is not None
        assert (locked.public_key is not None) is (form == "openssh")
        for wrong in (b"other", b"\xff"):
            with refused("key.passphrase", "wrong passphrase for the file, or the key"):
                read_any(data, answer(wrong))
        for absent in (None, b""):
            with refused("key.passphrase-missing", "encrypted and no passphrase was given"):
                read_any(data, answer(absent))


@pytest.mark.parametrize(
    ("alg", "form", "words"),
    [
        ("ed25519", "sec1", "a key of Ed25519 has no SEC1 form"),
        ("p256", "pkcs1", "a key of P-256 has no PKCS#1 form"),
        ("rsa3072", "sec1", "a key of RSA-3072 has no SEC1 form"),
        ("ml-dsa-65", "openssh", "a key of ML-DSA-65 has no OpenSSH form"),
        ("ml-dsa-65", "p12", "a key of ML-DSA-65 cannot be put into PKCS#12 here"),
    ],
)
def test_forms_that_a_key_does_not_have(alg: str, form: str, words: str) -> None:
    with refused("key.unsupported", words):
        convert.encode_private(new_key(alg), form, None)


@pytest.mark.parametrize(
    ("form", "more", "words"),
    [
        ("sec1", {}, "SEC1 is not encrypted: its one way to do so is broken"),
        ("openssh", {"der": True}, "OpenSSH keys are text, there is no DER of them"),
    ],
)
def test_what_is_not_written(form: str, more: dict[str, Any], words: str) -> None:
    with refused("key.unsupported", words):
        convert.encode_private(new_key(), form, SECRET, **more)


def test_an_empty_passphrase_is_refused() -> None:
    for form in convert.PRIVATE_FORMS:
        with refused("key.passphrase-missing", "the passphrase for the new key is empty"):
            convert.encode_private(new_key(), form, b"")


def test_what_does_not_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    other = pkcs8(new_key())
    monkeypatch.setattr(pbes2, "encrypt", lambda *_: other)
    with refused("key.failed", "does not read back as it was"):
        convert.encode_private(new_key(), "pkcs8", SECRET, der=True)


@pytest.mark.parametrize("form", ["pkcs8", "sec1", "openssh", "p12"])
def test_all_of_them_sign(tmp_path: Path, form: str) -> None:
    key = new_key()
    (tmp_path / "key.bin").write_bytes(convert.encode_private(key, form, None))
    found = load_private_key(tmp_path / "key.bin", unasked)
    assert found.public_key() == key.public_key()


def test_the_library_for_openssh_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    has_bcrypt()
    from cryptography.hazmat.primitives.serialization import ssh

    key = new_key("ed25519")
    data = convert.encode_private(key, "openssh", SECRET)

    def absent(*_: object) -> bytes:
        raise UnsupportedAlgorithm("Need bcrypt module")

    monkeypatch.setattr(ssh, "_bcrypt_kdf", absent)
    monkeypatch.setattr(ssh, "_bcrypt_supported", False)
    words = "needs the package bcrypt: fwsign[ssh] brings it"
    with refused("key.unsupported", words):
        read_any(data, given)
    with refused("key.unsupported", words):
        convert.encode_private(key, "openssh", SECRET)
    assert one(data, None).public_key == key.public_key()


def test_traditional_keys_of_dsa() -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505 - only to be told
    for encoding in (Encoding.PEM, Encoding.DER):
        data = key.private_bytes(encoding, PrivateFormat.TraditionalOpenSSL, PLAIN)
        assert one(data).format == "OpenSSL traditional"


# --- ML-DSA ----------------------------------------------------------------------------------

OIDS = {"ml-dsa-44": 0x11, "ml-dsa-65": 0x12, "ml-dsa-87": 0x13}
SHAPES = {"ml-dsa-44": (4, 4, 2560), "ml-dsa-65": (6, 5, 4032), "ml-dsa-87": (8, 7, 4896)}
# rho, K and tr of the ML-DSA-65 key whose seed is 00 01 ... 1f: RFC 9881 appendix C.
FOREIGN = base64.b64decode(
    "SGg9kZeOMes93biwRzSC0riKX2JZSf2PWKVh5pa9TCfYU/ppuBmQI+jNZ43Z+r+QR2Rv/QyzzH95WAWnHnDSNxsFY+PN"
    "M0YUnIyevPI7Ck5akA7qnGVieQp8Y+OGY9qi3dtuSA3EBaHnAZSLdIQe9cwcPyvzJ5culRBRDNU3Xsw="
)


def mldsa_info(alg: str, choice: bytes) -> bytes:
    oid = bytes.fromhex("060960864801650304") + bytes((3, OIDS[alg]))
    return tlv(0x30, b"\2\1\0", tlv(0x30, oid), tlv(4, choice))


def expanded_key(alg: str, seed: bytes, public: bytes) -> bytes:
    k, l, size = SHAPES[alg]  # noqa: E741
    head = hashlib.shake_256(seed + bytes((k, l))).digest(128)
    tr = hashlib.shake_256(public).digest(64)
    return (head[:32] + head[96:] + tr).ljust(size, b"\x55")


@pytest.mark.parametrize("alg", OIDS)
@pytest.mark.parametrize("encoding", ["PEM", "DER", "encrypted", "PBKDF2"])
def test_mldsa_with_seed_and_expanded_key(alg: str, encoding: str) -> None:
    key = new_key(alg)
    seed, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    choice = tlv(0x30, tlv(4, seed), tlv(4, expanded_key(alg, seed, public)))
    data = mldsa_info(alg, choice)
    if encoding == "PEM":
        data = pem.encode("PRIVATE KEY", data)
    elif encoding == "encrypted":
        data = pbes2.encrypt(data, SECRET)
    elif encoding == "PBKDF2":
        data = pbkdf2(data)
    found = one(data, given)
    assert found.public_key == key.public_key()
    assert found.detail == "seed and expanded key"
    if encoding in {"encrypted", "PBKDF2"}:
        with refused("key.passphrase"):
            read_any(data, lambda: b"other")


def pbkdf2(info: bytes, prf: str = "300c06082a864886f70d02090500", cipher: int = 2) -> bytes:
    """Encrypt as PBES2 with PBKDF2-HMAC-SHA256 and AES-128."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    padding = 16 - len(info) % 16
    secret = hashlib.pbkdf2_hmac("sha256" if prf else "sha1", SECRET, b"salt" * 4, 9, 16)
    lock = Cipher(algorithms.AES(secret), modes.CBC(bytes(16))).encryptor()
    sealed = lock.update(info + bytes([padding]) * padding) + lock.finalize()
    kdf = tlv(0x30, tlv(4, b"salt" * 4), b"\2\1\x09", bytes.fromhex(prf))
    derivation = tlv(0x30, bytes.fromhex("06092a864886f70d01050c"), kdf)
    encryption = tlv(
        0x30, bytes.fromhex("060960864801650304") + bytes((1, cipher)), tlv(4, bytes(16))
    )
    scheme = tlv(0x30, bytes.fromhex("06092a864886f70d01050d"), tlv(0x30, derivation, encryption))
    return tlv(0x30, scheme, tlv(4, sealed))


def test_our_decryption_is_that_of_the_library() -> None:
    key = new_key()
    assert one(pbkdf2(pkcs8(key)), given).public_key == key.public_key()
    for data in (pbkdf2(b"info"), pbkdf2(b"info", prf="")):
        assert pbes2.decrypt(data, SECRET) == b"info"
    assert pbes2.decrypt(pbes2.encrypt(b"info", SECRET), SECRET) == b"info"
    with pytest.raises(ValueError, match="another cipher"):
        pbes2.decrypt(pbkdf2(b"info", cipher=1), SECRET)
    with pytest.raises(ValueError, match="pseudo-random"):
        pbes2.decrypt(pbkdf2(b"info", prf="300c06082a864886f70d02630500"), SECRET)
    with pytest.raises(ValueError, match="another derivation"):
        pbes2.decrypt(pbkdf2(b"info").replace(b"\x01\x05\x0c", b"\x01\x05\x63"), SECRET)


def test_mldsa_agrees_with_the_vector_of_others() -> None:
    seed = bytes(range(32))
    key = mldsa.MLDSA65PrivateKey.from_seed_bytes(seed)
    whole = FOREIGN.ljust(4032, b"\0")
    data = mldsa_info("ml-dsa-65", tlv(0x30, tlv(4, seed), tlv(4, whole)))
    assert len(FOREIGN) == 128
    assert one(data).public_key == key.public_key()
    for index in (0, 32, 64, 127):
        changed = bytearray(whole)
        changed[index] ^= 1
        data = mldsa_info("ml-dsa-65", tlv(0x30, tlv(4, seed), tlv(4, bytes(changed))))
        with refused("key.format", "seed and expanded key belong to different keys"):
            read_any(data, unasked)


def test_mldsa_without_its_seed_cannot_be_used(tmp_path: Path) -> None:
    data = mldsa_info("ml-dsa-87", tlv(4, bytes(4896)))
    words = "has an ML-DSA-87 key in expanded form alone, from which no seed can be had"
    with refused("key.unsupported", words):
        read_any(data, unasked)
    assert words in str(one(data, None).detail)
    (tmp_path / "key").write_bytes(data)
    with refused("key.unsupported", words):
        load_private_key(tmp_path / "key", unasked)
    with refused("key.unsupported", words):
        read_any(pbes2.encrypt(data, SECRET), given)


@pytest.mark.parametrize(
    "choice",
    [
        tlv(0x30, tlv(4, bytes(32)), tlv(4, bytes(9))),
        tlv(0x30, tlv(4, bytes(31)), tlv(4, bytes(4032))),
        tlv(0x30, tlv(4, bytes(32))),
        tlv(0x80, bytes(31)),
        tlv(0x31, tlv(4, bytes(32)), tlv(4, bytes(4032))),
    ],
)
def test_damaged_mldsa(choice: bytes) -> None:
    with refused("key.format", "has a damaged ML-DSA-65 key"):
        read_any(mldsa_info("ml-dsa-65", choice), unasked)


def test_a_seed_alone_is_read_too() -> None:
    key = new_key("ml-dsa-65")
    found = mldsa_forms.load(mldsa_info("ml-dsa-65", tlv(0x80, key.private_bytes_raw())), "x")
    assert found is not None
    assert found[0].public_key() == key.public_key()
    assert mldsa_forms.load(pkcs8(new_key()), "x") is None


# --- PKCS#12 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("secret", [SECRET, None])
def test_pkcs12_has_certificates_with_the_own_one_first(legacy: bool, secret: bytes | None) -> None:
    root = make_ca()
    leaf = make_leaf(root)
    data = convert.encode_private(
        leaf.key,
        "p12",
        secret,
        certificates=[root.certificate, leaf.certificate],
        legacy=legacy,
        name="release",
    )
    key, own, ca = read_any(data, given)
    assert key.public_key == leaf.key.public_key()
    assert (own.content, ca.content) == (leaf.der, root.der)
    assert (own.kind, own.format, own.detail) == ("certificate", "PKCS#12", "release")
    theirs = pkcs12.load_pkcs12(data, secret)
    assert theirs.key is not None
    if secret:
        locked = one(data, None)
        assert (locked.kind, locked.key) == ("PKCS#12 container", None)


def test_pkcs12_with_a_certificate_of_another() -> None:
    with refused("key.mismatch", "none of the certificates is that of the key"):
        convert.encode_private(new_key(), "p12", SECRET, certificates=[make_ca().certificate])


def test_pkcs12_with_a_passphrase_that_is_no_text() -> None:
    with refused("key.unsupported", "must be text in UTF-8"):
        convert.encode_private(new_key(), "p12", b"\xff")


@pytest.mark.parametrize("secret", ["b", "long " * 30, "sch\u00f6n \u2713"])
def test_our_mac_is_that_of_the_library(secret: str) -> None:
    data = p12.encode(new_key(), secret.encode())
    assert pkcs12.load_pkcs12(data, secret.encode()).key is not None


def test_damaged_pkcs12() -> None:
    data = p12.encode(new_key(), SECRET)
    parts = asn1.sequence_parts(data)
    cut = asn1.sequence(parts[0].whole, parts[1].whole, b"\x30\0")
    with refused("key.format", "is PKCS#12 that cannot be read"):
        read_any(cut, given)
    ber = b"\x30\x80\2\1\3\x30\x80\0\0\0\0"
    with refused("key.format", "is PKCS#12 that cannot be read"):
        read_any(ber, given)
    (locked,) = read_any(ber)
    assert locked.encryption is not None
    assert locked.encryption.kdf == "unknown"
    assert read_any(b"\x30\x80\2\1\1") == ()


@pytest.mark.parametrize("secret", [None, SECRET])
def test_pkcs12_of_others_with_mldsa_is_refused_with_what_to_do(secret: bytes | None) -> None:
    info = new_key("ml-dsa-65").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    kind, inside = ("01", info) if secret is None else ("02", pbes2.encrypt(info, secret))
    bag = tlv(0x30, bytes.fromhex("060b2a864886f70d010c0a01" + kind) + tlv(0xA0, inside))
    data = bytes.fromhex("06092a864886f70d010701")
    safe = tlv(0x30, data + tlv(0xA0, tlv(4, tlv(0x30, bag))))
    container = tlv(0x30, data + tlv(0xA0, tlv(4, tlv(0x30, safe))))
    whole = tlv(0x30, bytes.fromhex("020103") + container)
    assert read_any(whole)[0].kind == CONTAINER
    with refused("key.unsupported", "is PKCS#12 with a key that cannot be read from there") as no:
        read_any(whole, lambda: SECRET)
    assert "openssl pkcs12 -in the file -noenc" in str(no.value.hint)


def test_pkcs12_without_a_key() -> None:
    root = make_ca()
    data = pkcs12.serialize_key_and_certificates(None, None, None, [root.certificate], PLAIN)
    found = one(data)
    assert (found.kind, found.content, found.detail) == ("certificate", root.der, None)
    with refused("key.format", "is not a private key that can be read"):
        read_private_key(data, given, "x")


def test_pkcs12_that_would_take_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    data = p12.encode(new_key(), SECRET)
    monkeypatch.setattr("fwsign.keys.encryption.MAX_ITERATIONS", 9)
    with refused("key.unsupported", "demands too much work to open: PBKDF2-HMAC-SHA256, 10 iter"):
        read_any(data, given)
    assert one(data, None).key is None


def test_certificates_of_a_version_that_is_none() -> None:
    """They are recognised, for `show` names what is odd; what verifies refuses them."""
    version = bytes.fromhex("a003020102")
    data = make_ca().der
    assert one(data.replace(version, bytes.fromhex("a003020107"), 1)).kind == "certificate"


def test_pkcs12_in_pem() -> None:
    data = pem.encode("PKCS12", p12.encode(new_key(), SECRET))
    assert one(data, given).format == "PKCS#12"


# --- what is public --------------------------------------------------------------------------


@pytest.mark.parametrize("alg", [*ALGORITHMS, "p521"])
@pytest.mark.parametrize("encoding", ["PEM", "DER"])
def test_public_keys_come_back(alg: str, encoding: str) -> None:
    key = new_key(alg).public_key()
    found = one(convert.encode_public(key, "public", der=encoding == "DER"))
    assert (found.kind, found.encoding, found.content) == ("public key", encoding, der(key))
    assert found.public_key == key


@pytest.mark.parametrize("alg", ["p256", "p384", "p521", "ed25519", "rsa3072"])
def test_public_keys_of_openssh_come_back(alg: str) -> None:
    key = new_key(alg).public_key()
    line = convert.encode_public(key, "public-openssh")
    for data in (line, b"# mine\n" + line.strip() + b" me@example\n"):
        found = one(data)
        assert (found.format, found.encoding, found.content) == ("OpenSSH", "text", der(key))
    body = line.split()[1]
    begin, end = b"---- BEGIN SSH2 PUBLIC KEY ----", b"---- END SSH2 PUBLIC KEY ----"
    box = b"\n".join((begin, b'Comment: "a\\', b'b"', body[:70], body[70:], end, b""))
    assert one(box).public_key == key


def test_public_keys_that_openssh_does_not_have() -> None:
    with refused("key.unsupported", "a key of ML-DSA-65 has no OpenSSH form"):
        convert.encode_public(new_key("ml-dsa-65").public_key(), "public-openssh")
    with refused("key.unsupported", "OpenSSH keys are text"):
        convert.encode_public(new_key().public_key(), "public-openssh", der=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ssh-ed25519",
        b"ssh-ed25519 ",
        b"ssh-ed25519 !!!!\n",
        b"ssh-ed25519 AAAA\n",
        b"sk-ssh-ed25519@openssh.com AAAA\n",
        b"\0ssh-ed25519 AAAA",
        b"text",
        b"\x30\x03\x02\x01\x01",
        b"\x30\x06\x02\x01\x01\x02\x01\x01",
        b"\x30\x06\x30\x01\x05\x03\x01\x00",
        b"\x30\x04\x06\x00\xa0\x00",
        b"\x30\x02\x30\x00",
        b"\x30\x06\x02\x01\x03\x30\x01\x05",
        b"\x30\x05\x02\x01\x03\x30\x00",
        b"\x30\x06\x30\x00\x30\x00\x03\x00",
        b"\x30\x89" + bytes(20),
        b"\x30\x05\x02",
    ],
)
def test_what_is_nothing(data: bytes) -> None:
    assert read_any(data, unasked) == ()
    with refused("key.format", "is not a private key that can be read"):
        read_private_key(data, unasked, "x")


def test_rsa_public_keys_in_pkcs1() -> None:
    key = new_key("rsa3072").public_key()
    for encoding in (Encoding.PEM, Encoding.DER):
        found = one(key.public_bytes(encoding, PublicFormat.PKCS1))
        assert (found.format, found.content) == ("PKCS#1", der(key))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_certificates_requests_crls_and_bundles(encoding: Encoding) -> None:
    root = make_ca()
    leaf = make_leaf(root)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("wanted"))
    request = builder.sign(leaf.key, hashes.SHA256())
    crl = x509.load_der_x509_crl(make_crl(root))
    things: tuple[tuple[str, Any], ...] = (
        ("certificate", root.certificate),
        ("certificate signing request", request),
        ("CRL", crl),
    )
    for kind, thing in things:
        found = one(thing.public_bytes(encoding))
        assert (found.kind, found.content) == (kind, thing.public_bytes(Encoding.DER))
    bundle = pkcs7.serialize_certificates([root.certificate, leaf.certificate], encoding)
    found_all = read_any(bundle)
    assert {one.content for one in found_all} == {root.der, leaf.der}
    assert {(one.kind, one.format) for one in found_all} == {("certificate", "PKCS#7")}


def test_a_bundle_that_is_damaged() -> None:
    inside = tlv(0x30, bytes.fromhex("06092a864886f70d010702"), tlv(0xA0, b"\x30"))
    assert one(inside).kind == "unknown"
    other = tlv(0x30, bytes.fromhex("06092a864886f70d010701"), tlv(0xA0))
    assert (one(other).kind, one(other).detail) == ("PKCS#7 message", "data")


def test_several_things_in_one_file() -> None:
    leaf = make_leaf(make_ca())
    data = leaf.certificate.public_bytes(Encoding.PEM) + b"Key:\n" + pkcs8(leaf.key, Encoding.PEM)
    assert [one.kind for one in read_any(data)] == ["certificate", "private key"]
    assert read_private_key(data, unasked, "x").public_key() == leaf.key.public_key()


def test_text_that_begins_as_der_does() -> None:
    data = b"0 first\n" + pkcs8(new_key(), Encoding.PEM)
    assert one(data).kind == "private key"


def test_damaged_private_keys_are_named_or_told() -> None:
    text = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    with refused("key.format", 'it is PEM "PRIVATE KEY", damaged'):
        read_any(text, unasked)
    assert "damaged" in str(one(text, None).detail)
    with refused("io.format", "the file is damaged PEM"):
        read_any(text[:40], unasked)
    openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    with refused("key.format", "damaged"):
        read_any(openssh, unasked)


# --- mutation --------------------------------------------------------------------------------


def samples() -> dict[str, bytes]:
    root = make_ca()
    leaf = make_leaf(root)
    certificates = [leaf.certificate, root.certificate]
    found = {
        "pkcs8": convert.encode_private(leaf.key, "pkcs8", SECRET, der=True),
        "pkcs8-pem": convert.encode_private(leaf.key, "pkcs8", SECRET),
        "sec1": convert.encode_private(leaf.key, "sec1", None, der=True),
        "openssh": convert.encode_private(leaf.key, "openssh", None),
        "p12": convert.encode_private(leaf.key, "p12", SECRET, certificates=certificates),
        "p12-clear": convert.encode_private(leaf.key, "p12", None, certificates=certificates),
        "pkcs7": pkcs7.serialize_certificates(certificates, Encoding.DER),
        "ssh": convert.encode_public(leaf.key.public_key(), "public-openssh"),
        "mldsa": mldsa_info("ml-dsa-65", tlv(0x30, tlv(4, bytes(32)), tlv(4, bytes(4032)))),
        "crl": make_crl(root),
        "traditional": leaf.key.private_bytes(
            Encoding.PEM,
            PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(SECRET),
        ),
    }
    if sys.modules.get("bcrypt"):
        found["openssh-locked"] = convert.encode_private(leaf.key, "openssh", SECRET)
    return found


KINDS = (
    *("pkcs8", "pkcs8-pem", "sec1", "openssh", "p12", "p12-clear", "pkcs7", "ssh", "mldsa", "crl"),
    *("traditional", "openssh-locked"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_gives_nothing_but_our_errors(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A count that damage made large costs time, and is tested elsewhere.
    for limit in ("MAX_ITERATIONS", "MAX_SCRYPT_WORK", "MAX_BCRYPT_ROUNDS"):
        monkeypatch.setattr(f"fwsign.keys.encryption.{limit}", 5000)
    data = samples().get(kind)
    if data is None:
        pytest.skip("the package bcrypt is not installed")
    rng = random.Random(kind)  # the same in each run
    for _ in range(250):
        changed = bytearray(data)
        for _ in range(rng.randint(0, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        cut = bytes(changed[: rng.choice([len(data), rng.randrange(len(data))])])
        for passphrase in (given, None):
            try:
                read_any(cut, passphrase)
            except FwsignError as error:
                assert SECRET.decode() not in error.message  # noqa: PT017
        describe_encryption(cut)
        with pytest.raises(Failed):
            load_error(cut)


def load_error(data: bytes) -> None:
    """Read a key, where a good one is as good as a refusal."""
    read_private_key(data, given, "x")
    raise Failed("key.format", "it is a good one")


def test_encode_private_key_is_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", bytes)
    key = ec.generate_private_key(ec.SECP256R1())
    for secret in (None, SECRET):
        assert encode_private_key(key, secret) == convert.encode_private(key, "pkcs8", secret)
