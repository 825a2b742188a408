"""Encrypted payloads against pycose, in both directions: recipients, context and content."""

import io
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.format import cbor
from fwsign.format.ciphertext import BlockCipher
from fwsign.format.component import Component, Digest, Encrypted
from fwsign.format.encryption import decode_recipients, thumbprint
from fwsign.format.key_wrap import key_id, unwrap
from fwsign.format.kinds import file_identifier
from fwsign.format.payload import digest, receive
from fwsign.keys.agreement import FileAgreement
from secret_kit import BLOCK, GROUP, LARGE, OTHER, STEP, encrypted
from support import require_package

require_package("pycose")

from pycose import headers  # noqa: E402 - after the check that it is here
from pycose.algorithms import A256GCM, EcdhEsA256KW  # noqa: E402
from pycose.keys.ec2 import EC2Key  # noqa: E402
from pycose.messages.encmessage import EncMessage  # noqa: E402
from pycose.messages.recipient import KeyAgreementWithKeyWrap  # noqa: E402

PURPOSE = b"SUIT Payload Encryption"


def theirs(key: Any, *, private: bool) -> Any:
    """Return a key as pycose has it."""
    numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    x, y = (one.to_bytes(size, "big") for one in (numbers.x, numbers.y))
    secret = key.private_numbers().private_value.to_bytes(size, "big") if private else b""
    return EC2Key(crv="P_256" if size == 32 else "P_384", x=x, y=y, d=secret)


def opened(wrapped: bytes, ciphertext: bytes, key: Any, nonce: bytes | None = None) -> bytes:
    """Let pycose open a ciphertext as COSE_Encrypt."""
    import cbor2

    protected, unprotected, _, recipients = cbor2.loads(wrapped).value
    body = [
        protected,
        dict(unprotected) if nonce is None else {5: nonce},
        ciphertext,
        [[one[0], _thawed(one[1]), one[2]] for one in recipients],
    ]
    message: Any = EncMessage.from_cose_obj(body, allow_unknown_attributes=True)
    (recipient,) = message.recipients
    recipient.key = theirs(key, private=True)
    recipient.local_attrs = {headers.SuppPubOther: PURPOSE}
    return bytes(message.decrypt(recipient))


def _thawed(value: Any) -> Any:
    """Return maps that pycose may change."""
    return {key: _thawed(one) for key, one in value.items()} if hasattr(value, "items") else value


@pytest.mark.parametrize("group", [GROUP, OTHER], ids=["P-256", "P-384"])
def test_pycose_opens_a_payload_of_one_block(group: Any) -> None:
    one, ciphertext = encrypted(LARGE, [group], whole=1 << 20)
    assert opened(one.wrapped, ciphertext, group) == LARGE


def test_pycose_opens_each_block_by_its_nonce() -> None:
    one, ciphertext = encrypted()
    for index in range(5):
        more = index < 4
        number = int.from_bytes(one.encrypted.nonce, "big") ^ (index << 8 | more)
        block = ciphertext[index * BLOCK : (index + 1) * BLOCK]
        found = opened(one.wrapped, block, GROUP, number.to_bytes(12, "big"))
        assert found == LARGE[index * STEP : (index + 1) * STEP]


@pytest.mark.parametrize("group", [GROUP, OTHER], ids=["P-256", "P-384"])
def test_what_pycose_encrypts_is_opened_here(group: Any) -> None:
    nonce = bytes(range(12))
    recipient = KeyAgreementWithKeyWrap(
        phdr={headers.Algorithm: EcdhEsA256KW},
        uhdr={headers.KID: key_id(group.public_key())},
    )
    known: Any = {headers.StaticKey: theirs(group, private=False), headers.SuppPubOther: PURPOSE}
    recipient.local_attrs = known
    message = EncMessage(
        phdr={headers.Algorithm: A256GCM},
        uhdr={headers.IV: nonce},
        payload=LARGE,
        recipients=[recipient],
    )
    protected, unprotected, ciphertext, recipients = cbor.decode(_sorted(message.encode())).value
    wrapped = cbor.encode(cbor.Tag(96, (protected, unprotected, None, recipients)))
    encryption = Encrypted(Digest(-16, digest(-16, ciphertext)), len(ciphertext), nonce, b"")
    part = Component(
        file_identifier("x"), Digest(-16, digest(-16, LARGE)), len(LARGE), "x.enc", encryption
    )
    found = decode_recipients(part, encryption, wrapped)
    content_key = cast("Any", message.key).k
    signed = encryption._replace(key_digest=thumbprint(content_key))
    part = part._replace(encrypted=signed)
    assert unwrap(part, signed, found, [FileAgreement(group)]) == content_key
    sink = io.BytesIO()
    cipher = BlockCipher(content_key, nonce, len(ciphertext), len(ciphertext))
    receive(part, io.BytesIO(ciphertext), sink, None, cipher)
    assert sink.getvalue() == LARGE


def _sorted(data: bytes) -> bytes:
    """Write pycose's CBOR in our order of map keys."""
    import cbor2

    return cbor2.dumps(cbor2.loads(data), canonical=True)


def test_the_key_wrap_of_rfc_3394() -> None:
    """Section 4.6: 256 bits of key data with a 256-bit key-encryption key."""
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    kek, data = (
        bytes(range(32)),
        bytes.fromhex("00112233445566778899aabbccddeeff") + bytes(range(16)),
    )
    wrapped = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
    assert aes_key_wrap(kek, data).hex() == wrapped


def test_the_shared_secret_is_the_x_coordinate() -> None:
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    mine = FileAgreement(one).agree(other.public_key())
    assert mine == FileAgreement(other).agree(one.public_key())
    assert len(mine) == 32
