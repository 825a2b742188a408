"""Key wrapping, key derivation and ciphertext, against the numbers that RFCs and NIST publish."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from fwsign.format import cbor, ciphertext, key_wrap
from fwsign.format.ciphertext import BlockCipher
from fwsign.format.component import Component, Encrypted
from fwsign.format.encryption import thumbprint
from fwsign.keys.agreement import FileAgreement
from secret_kit import GROUP, described, encrypted
from support import refused


def described_one() -> tuple[Component, Encrypted]:
    (one,), _, _ = described({"x": encrypted(b"x")[0]})
    assert one.encrypted is not None
    return one, one.encrypted


# RFC 3394 s.4.6: wrap 256 bits of key data with a 256-bit KEK.
KEK = bytes(range(0x20))
KEY_DATA = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
WRAPPED = bytes.fromhex(
    "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
)


def test_rfc_3394_s_4_6_wraps_and_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_wrap, "_derive", lambda _: KEK)
    recipient = key_wrap.wrap(KEY_DATA, GROUP.public_key())
    assert recipient.wrapped == WRAPPED
    one, signed = described_one()
    own = [FileAgreement(GROUP)]
    signed = signed._replace(key_digest=thumbprint(KEY_DATA))
    assert key_wrap.unwrap(one, signed, [recipient], own) == KEY_DATA
    for at in (0, 7, 8, 39):
        changed = bytearray(WRAPPED)
        changed[at] ^= 1
        with refused("tampered.content-key", "does not open: it was changed or exchanged"):
            other = recipient._replace(wrapped=bytes(changed))
            key_wrap.unwrap(one, signed, [other], own)


def test_rfc_5869_a_3_derives(monkeypatch: pytest.MonkeyPatch) -> None:
    """HKDF of SHA-256 without salt and info; a shorter key is the beginning of a longer one."""
    okm = bytes.fromhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")
    monkeypatch.setattr(key_wrap, "_CONTEXT", b"")
    assert key_wrap._derive(b"\x0b" * 22) == okm


# RFC 9052 C.5.4: a MAC whose key is wrapped by ECDH-ES + A128KW for bilbo.baggins.
P521_D = (
    "00085138ddabf5ca975f5860f91a08e91d6d5f9a76ad4018766a476680b55cd3"
    "39e8ab6c72b5facdb2a2a50ac25bd086647dd3e2e6e99e84ca2c3609fdf177feb26d"
)
P521_X = (
    "0043b12669acac3fd27898ffba0bcd2e6c366d53bc4db71f909a759304acfb5e"
    "18cdc7ba0b13ff8c7636271a6924b1ac63c02688075b55ef2d613574e7dc242f79c3"
)
WRAPPED_MAC_KEY = bytes.fromhex(
    "339bc4f79984cdc6b3e6ce5f315a4c7d2b0ac466fcea69e8c07dfbca5bb1f661bc5f8e0df9e3eff5"
)
MAC = bytes.fromhex("bf48235e809b5c42e995f2b7d5fa13620e7ed834e337f6aa43df161e49e9323e")


def test_rfc_9052_c_5_4_agrees_about_what_a_key_is_derived_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The key opens, and makes the MAC, only if every byte of the context is right."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP521R1(), b"\x03" + bytes.fromhex(P521_X)
    )
    shared = ec.derive_private_key(int(P521_D, 16), ec.SECP521R1()).exchange(ec.ECDH(), point)
    protected = cbor.encode({1: -29})
    monkeypatch.setattr(key_wrap, "_KW_SIZE", 16)
    monkeypatch.setattr(key_wrap, "_CONTEXT", key_wrap._context(-3, 16, protected))
    mac_key = aes_key_unwrap(key_wrap._derive(shared), WRAPPED_MAC_KEY)
    what = cbor.encode(("MAC", cbor.encode({1: 5}), b"", b"This is the content."))
    assert hmac.digest(mac_key, what, "sha256") == MAC


def test_the_context_is_that_of_the_draft() -> None:
    """draft-ietf-suit-firmware-encryption: A256KW, 256 bits, ECDH-ES + A256KW, and the words."""
    words = "5355495420" + "5061796c6f616420" + "456e6372797074696f6e"  # SUIT Payload Encryption
    expected = f"8424{'83f6f6f6' * 2}83190100{'44a101381e'}57{words}"
    assert key_wrap._CONTEXT.hex() == expected


def test_rfc_9679_s_6_has_this_thumbprint() -> None:
    """The RFC has an example of an EC key alone; the rule is the same, and so is the encoder."""
    x = bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
    y = bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
    found = hashlib.sha256(cbor.encode({1: 2, -1: 1, -2: x, -3: y})).hexdigest()
    assert found == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    symmetric = b"\xa2\x01\x04\x20\x58\x20" + KEY_DATA  # required: kty and k, in this order
    assert thumbprint(KEY_DATA) == hashlib.sha256(symmetric).digest()


def test_case_16_of_gcm_encrypts_and_decrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GCM specification, appendix B: AES-256, a nonce of 96 bits, 160 bits of other data."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    block = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
    other = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    monkeypatch.setattr(ciphertext, "additional_data", lambda: other)
    cipher = BlockCipher(key, nonce, len(block), len(block))
    assert cipher.encrypt(0, plaintext, more=False) == block
    one, _ = described_one()
    assert cipher.decrypt(one, 0, block) == plaintext
    with refused("tampered.plaintext", "block 0 does not decrypt with the signed key and nonce"):
        cipher.decrypt(one, 0, block[:-1] + b"\x1c")
