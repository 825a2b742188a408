# SPDX-License-Identifier: Apache-2.0
"""How keys are locked: what is told without a passphrase, and how it is judged."""

import re

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from fwsign.errors import Failed
from fwsign.keys import asn1, convert
from fwsign.keys.encryption import Encryption, describe_encryption, refuse_excess
from fwsign.keys.formats import read_any
from support import new_key, refused, tlv

SECRET = b"secret"
PBES2, PBKDF2 = "06092a864886f70d01050d", "06092a864886f70d01050c"
SCRYPT, AES256 = "06092b06010401da47040b", "060960864801650304012a"


def number(value: int) -> bytes:
    return asn1.integer(value)


def algorithm(oid: str, *parameters: bytes) -> bytes:
    return tlv(0x30, bytes.fromhex(oid), *parameters)


def locked(scheme: bytes) -> bytes:
    return tlv(0x30, scheme, tlv(4, b"sealed"))


def pbes2(kdf: bytes, cipher: str = AES256) -> bytes:
    return locked(algorithm(PBES2, tlv(0x30, kdf, algorithm(cipher, tlv(4, bytes(16))))))


def pbkdf2(count: int, prf: int | None = None, cipher: str = AES256) -> bytes:
    digest = [] if prf is None else [algorithm(f"06082a864886f70d02{prf:02x}", b"\5\0")]
    parameters = tlv(0x30, tlv(4, b"salt"), number(count), number(32), *digest)
    return pbes2(algorithm(PBKDF2, parameters), cipher)


def scrypt(*numbers: int) -> bytes:
    return pbes2(algorithm(SCRYPT, tlv(0x30, tlv(4, b"salt"), *map(number, numbers))))


def told(data: bytes) -> Encryption:
    found = describe_encryption(data)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("data", "kdf", "verdict"),
    [
        (pbkdf2(600_000, 9), "PBKDF2-HMAC-SHA256, 600000 iterations", "good"),
        (pbkdf2(599_999, 9), "PBKDF2-HMAC-SHA256, 599999 iterations", "weak"),
        (pbkdf2(2048), "PBKDF2-HMAC-SHA1, 2048 iterations", "weak"),
        (pbkdf2(1_299_999, 7), "PBKDF2-HMAC-SHA1, 1299999 iterations", "weak"),
        (pbkdf2(1_300_000, 7), "PBKDF2-HMAC-SHA1, 1300000 iterations", "good"),
        (pbkdf2(600_000, 8), "PBKDF2-HMAC-SHA224, 600000 iterations", "good"),
        (pbkdf2(210_000, 10), "PBKDF2-HMAC-SHA384, 210000 iterations", "good"),
        (pbkdf2(210_000, 11), "PBKDF2-HMAC-SHA512, 210000 iterations", "good"),
        (pbkdf2(209_999, 11), "PBKDF2-HMAC-SHA512, 209999 iterations", "weak"),
        (pbkdf2(9_000_000, 6), "PBKDF2-HMAC-1.2.840.113549.2.6, 9000000 iterations", "weak"),
        (scrypt(1 << 14, 8, 5), "scrypt N=16384 r=8 p=5", "good"),
        (scrypt(1 << 14, 8, 4), "scrypt N=16384 r=8 p=4", "weak"),
        (scrypt(1 << 14, 8, 1), "scrypt N=16384 r=8 p=1", "weak"),
        (scrypt(1 << 15, 8, 3), "scrypt N=32768 r=8 p=3", "good"),
        (scrypt(1 << 15, 8, 2), "scrypt N=32768 r=8 p=2", "weak"),
        (scrypt(1 << 16, 8, 2), "scrypt N=65536 r=8 p=2", "good"),
        (scrypt(1 << 17, 8, 1), "scrypt N=131072 r=8 p=1", "good"),
        (scrypt(1 << 18, 4, 1), "scrypt N=262144 r=4 p=1", "good"),
        (scrypt(1 << 13, 8, 10), "scrypt N=8192 r=8 p=10", "good"),
        (scrypt(1 << 12, 8, 99), "scrypt N=4096 r=8 p=99", "weak"),
        (pbes2(algorithm("06032a0304", tlv(0x30))), "1.2.3.4", "low"),
    ],
)
def test_derivations_and_their_verdict(data: bytes, kdf: str, verdict: str) -> None:
    found = told(data)
    assert (found.scheme, found.kdf, found.verdict) == ("PBES2", kdf, verdict)
    assert (found.reasons == ()) is (verdict == "good")
    assert found.excessive is None


def test_the_reason_says_both_values() -> None:
    words = "2048 iterations of PBKDF2-HMAC-SHA256: at least 600000 are advised"
    assert told(pbkdf2(2048, 9)).reasons == (words,)
    words = "scrypt N=16384 r=8 p=1: at least N=16384 r=8 p=5 is advised"
    assert told(scrypt(1 << 14, 8, 1)).reasons == (words,)


@pytest.mark.parametrize(
    ("oid", "name"),
    [
        ("06082a864886f70d0307", "3DES-CBC"),
        ("06082a864886f70d0302", "RC2-CBC"),
        ("06052b0e030207", "DES-CBC"),
    ],
)
def test_old_ciphers_are_weak(oid: str, name: str) -> None:
    found = told(pbkdf2(600_000, 9, oid))
    assert (found.cipher, found.verdict) == (name, "weak")
    assert found.reasons == (f"{name} is outdated",)


@pytest.mark.parametrize(
    ("oid", "kdf", "cipher"),
    [
        ("06092a864886f70d010503", "PBKDF1-MD5, 9 iterations", "DES-CBC"),
        ("060a2a864886f70d010c0103", "PKCS#12 KDF-SHA1, 9 iterations", "3DES-CBC"),
        ("060a2a864886f70d010c0106", "PKCS#12 KDF-SHA1, 9 iterations", "RC2-40-CBC"),
    ],
)
def test_pbes1_is_weak(oid: str, kdf: str, cipher: str) -> None:
    found = told(locked(algorithm(oid, tlv(0x30, tlv(4, b"salt"), number(9)))))
    assert (found.scheme, found.kdf, found.cipher) == ("PBES1", kdf, cipher)
    assert found.verdict == "weak"
    assert found.reasons[0].endswith(f"and {cipher} are outdated")


def test_unknown_schemes_are_named() -> None:
    found = told(locked(algorithm("06032a0304")))
    assert (found.scheme, found.kdf, found.verdict) == ("1.2.3.4", "unknown", "low")


@pytest.mark.parametrize(
    "data",
    [pbkdf2(20_000_001, 9), scrypt(1 << 21, 8, 4), scrypt(1 << 21, 8, 1), scrypt(1 << 62, 1, 1)],
)
def test_too_much_work_is_refused_before_it_begins(data: bytes) -> None:
    assert told(data).excessive
    with refused("key.unsupported", "the file demands too much work to open", told(data).kdf):
        read_any(data, lambda: SECRET)
    (found,) = read_any(data)
    assert found.encryption == told(data)


def test_what_is_not_excessive_passes() -> None:
    refuse_excess(None, "x")
    refuse_excess(told(pbkdf2(20_000_000, 9)), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\x30\x00",
        b"\x30\x84\xff\xff\xff\xff",
        locked(b"\x30\x00"),
        locked(b"\x30\x02\x06\x00"),
        locked(algorithm(PBES2)),
        locked(algorithm(PBES2, tlv(0x30))),
        pbes2(algorithm(SCRYPT, tlv(0x30, tlv(4), b"\2\1\xff", b"\2\1\1", b"\2\1\1"))),
        pbes2(algorithm(SCRYPT, tlv(0x30, tlv(4), b"\2\1\1"))),
        tlv(0x30, b"\2\1\4", tlv(0x30)),
        tlv(0x30, b"\2\1\3", tlv(0x30)),
        tlv(0x30, b"\2\1\3", algorithm("06092a864886f70d010702", tlv(0xA0))),
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ],
)
def test_what_is_not_encrypted_or_not_known(data: bytes) -> None:
    assert describe_encryption(data) is None


@pytest.mark.parametrize("form", ["pkcs8", "openssh", "sec1", "p12"])
def test_keys_in_clear(form: str) -> None:
    data = convert.encode_private(new_key(), form, None)
    found = describe_encryption(data)
    assert found is None or found.cipher == "none, the key is in clear"


def test_what_we_write_is_good() -> None:
    key = new_key("ed25519")
    found = told(convert.encode_private(key, "pkcs8", SECRET))
    assert (found.kdf, found.verdict) == ("scrypt N=16384 r=8 p=5", "good")
    found = told(convert.encode_private(key, "p12", SECRET))
    assert found.kdf == "PBKDF2-HMAC-SHA256, 600000 iterations"
    assert (found.mac, found.verdict) == ("PKCS#12 KDF-SHA256, 1200000 iterations", "good")
    pytest.importorskip("bcrypt", reason="the package bcrypt is not installed")
    found = told(convert.encode_private(key, "openssh", SECRET))
    assert (found.kdf, found.cipher, found.verdict) == ("bcrypt, 64 rounds", "aes256-ctr", "good")


def test_legacy_pkcs12_is_weak() -> None:
    found = told(convert.encode_private(new_key(), "p12", SECRET, legacy=True))
    assert (found.scheme, found.cipher, found.verdict) == ("PKCS#12", "3DES-CBC", "weak")


def test_pkcs12_is_as_strong_as_its_mac() -> None:
    key = new_key("ed25519")
    lock = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(600_000).build(SECRET)
    from cryptography.hazmat.primitives.serialization import pkcs12

    found = told(pkcs12.serialize_key_and_certificates(None, key, None, None, lock))
    words = "2048 iterations of PKCS#12 KDF-SHA256: at least 1200000 are advised"
    assert (found.verdict, found.reasons) == ("weak", (words,))


def test_pbmac1_is_told() -> None:
    kdf = algorithm(PBKDF2, tlv(0x30, tlv(4, b"salt"), number(2048), number(32)))
    mac = algorithm("06092a864886f70d01050e", tlv(0x30, kdf, algorithm("06082a864886f70d0209")))
    data = convert.encode_private(new_key(), "p12", SECRET)
    version, content, _ = asn1.sequence_parts(data)
    info = tlv(0x30, mac, tlv(4, bytes(32)))
    whole = tlv(0x30, version.whole, content.whole, tlv(0x30, info, tlv(4, b"NOT USED")))
    assert told(whole).mac == "PBKDF2-HMAC-SHA1, 2048 iterations"


def test_traditional_encryption_is_weak() -> None:
    form = PrivateFormat.TraditionalOpenSSL
    data = new_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(SECRET))
    found = told(data)
    assert (found.scheme, found.kdf) == ("OpenSSL traditional", "MD5, 1 iteration")
    assert (found.cipher, found.verdict) == ("AES-256-CBC", "weak")
    for damage in (b"X: y", b"DEK-Info: AES-256-CBC,00", b"DEK-Info: DES-EDE3-CBC," + b"0" * 32):
        damaged = re.sub(rb"DEK-Info.*", damage, data)  # with a short IV cryptography panics
        assert describe_encryption(damaged) is None
        with refused("key.format", "damaged or of a kind that is not supported"):
            read_any(damaged, lambda: SECRET)
    triple = re.sub(rb"DEK-Info.*", b"DEK-Info: DES-EDE3-CBC,0123456789ABCDEF", data)
    assert told(triple).cipher == "DES-EDE3-CBC"


def openssh(kdf: bytes, rounds: int) -> bytes:
    from fwsign.keys import pem

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    options = string(bytes(16)) + rounds.to_bytes(4, "big")
    head = b"openssh-key-v1\0" + string(b"aes256-ctr") + string(kdf) + string(options)
    return pem.encode("OPENSSH PRIVATE KEY", head + b"\0\0\0\1" + string(b"") + string(b""))


@pytest.mark.parametrize(
    ("kdf", "rounds", "words", "verdict"),
    [
        (b"bcrypt", 16, "bcrypt, 16 rounds", "low"),
        (b"bcrypt", 63, "bcrypt, 63 rounds", "low"),
        (b"bcrypt", 64, "bcrypt, 64 rounds", "good"),
        (b"argon", 64, "argon", "low"),
    ],
)
def test_openssh(kdf: bytes, rounds: int, words: str, verdict: str) -> None:
    found = told(openssh(kdf, rounds))
    assert (found.scheme, found.kdf, found.verdict) == ("OpenSSH", words, verdict)


def test_openssh_that_would_take_hours_is_refused() -> None:
    assert told(openssh(b"bcrypt", 2048)).excessive is None
    with pytest.raises(Failed, match=re.escape("too much work to open: bcrypt, 4294967295")):
        read_any(openssh(b"bcrypt", 0xFFFFFFFF), lambda: SECRET)


@pytest.mark.parametrize("oid", ["", "06", "0601", "0602ff", "0201ff"])
def test_odd_elements_are_refused(oid: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        asn1.elements(bytes.fromhex(oid))[0].oid()
    with pytest.raises((ValueError, IndexError)):
        asn1.elements(bytes.fromhex(oid))[0].number()


def test_object_identifiers() -> None:
    for text, data in {
        "2.999.3": "0603883703",
        "1.2.840.113549": "06062a864886f70d",
        "0.9": "060109",
    }.items():
        assert asn1.elements(bytes.fromhex(data))[0].oid() == text
