"""Encrypted payloads, as a verifier without a key sees them; keys and nonces are fixed."""

import hashlib
import io
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from blocks_kit import LONG
from fwsign.format import cbor, key_wrap
from fwsign.format.blocks import encode_blocks
from fwsign.format.ciphertext import TAG_SIZE, BlockCipher, ciphertext_size
from fwsign.format.component import BlockList, Component, Encrypted, keys_uri
from fwsign.format.encryption import Recipient, encode_recipients, thumbprint
from fwsign.format.kinds import file_identifier
from fwsign.format.payload import Blocks, measure
from support import make_manifest, sign_with
from testkit.vector import Case, Vector, accepted, case, pki, refused

BLOCK = 4096
KEY = hashlib.sha256(b"the content key of the vectors").digest()
NONCE = hashlib.sha256(b"the nonce of the vectors").digest()[:12]
KEYS = keys_uri(0)


def _private(label: bytes) -> ec.EllipticCurvePrivateKey:
    """Return a key whose private value is the SHA-256 of a label."""
    return ec.derive_private_key(
        int.from_bytes(hashlib.sha256(label).digest(), "big"), ec.SECP256R1()
    )


GROUP = _private(b"the group of the vectors")
EPHEMERAL = _private(b"the ephemeral key of the vectors")


def _wrapped() -> Recipient:
    """Wrap the content key for the group, with a fixed ephemeral key."""
    numbers = EPHEMERAL.public_key().public_numbers()
    point = (numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    kek = key_wrap._derive(EPHEMERAL.exchange(ec.ECDH(), GROUP.public_key()))
    return Recipient(key_wrap.key_id(GROUP.public_key()), 1, point, aes_key_wrap(kek, KEY))


RECIPIENT = _wrapped()
WRAPPED = encode_recipients(NONCE, [RECIPIENT])


def _encrypted(payload: bytes, block_size: int) -> bytes:
    size = ciphertext_size(len(payload), block_size)
    cipher = BlockCipher(KEY, NONCE, size, block_size or size)
    steps = range(0, max(1, len(payload)), cipher.step or 1)
    return b"".join(
        cipher.encrypt(index, payload[at : at + cipher.step], more=cipher.more(index))
        for index, at in enumerate(steps)
    )


CIPHERTEXT = _encrypted(LONG, BLOCK)
WHOLE = _encrypted(LONG, 0)


def release(
    ciphertext: bytes = CIPHERTEXT,
    *,
    listed: bool = True,
    size: int | None = None,
    wrapped: bytes | None = WRAPPED,
    given: bytes | None = None,
) -> Case:
    """Sign an encrypted payload.

    Args:
        ciphertext: what is signed.
        listed: whether it has a block list.
        size: the signed size of the ciphertext, if it is not its own.
        wrapped: the wrapped keys; None for none.
        given: the payload that is delivered.
    """
    digest, own = measure(io.BytesIO(ciphertext))
    facts = Encrypted(digest, own if size is None else size, NONCE, thumbprint(KEY))
    image, plain = measure(io.BytesIO(LONG))
    part = Component(file_identifier("build.bin"), image, plain, "build.bin.enc", facts)
    inside = {} if wrapped is None else {KEYS: wrapped}
    lists: tuple[BlockList, ...] = ()
    if listed:
        blocks = [ciphertext[at : at + BLOCK] for at in range(0, len(ciphertext), BLOCK)]
        digests = b"".join(hashlib.sha256(one).digest() for one in blocks)
        data = encode_blocks(Blocks(BLOCK, digests))
        lists = (BlockList(0, *measure(io.BytesIO(data))),)
        inside[lists[0].uri] = data
    envelope = sign_with(pki(), make_manifest(part, block_lists=lists), integrated=inside)
    return case(envelope, payloads={"build.bin": ciphertext if given is None else given})


def keys(*recipients: Recipient, nonce: bytes = NONCE) -> Callable[[], Case]:
    """Put other wrapped keys into the envelope."""
    return lambda: release(wrapped=encode_recipients(nonce, recipients))


def body(*parts: object) -> Callable[[], Case]:
    """Put another COSE_Encrypt there."""
    return lambda: release(wrapped=cbor.encode(cbor.Tag(96, parts)))


def many(count: int) -> Sequence[Recipient]:
    """Return recipients with different key ids."""
    return [RECIPIENT._replace(key_id=bytes([at]) * 32) for at in range(count)]


MALFORMED = refused(7, "malformed.encryption")
HEADER = cbor.encode({1: 3})
FLIPPED = CIPHERTEXT[:5000] + bytes([CIPHERTEXT[5000] ^ 1]) + CIPHERTEXT[5001:]
SWAPPED = CIPHERTEXT[BLOCK : 2 * BLOCK] + CIPHERTEXT[:BLOCK] + CIPHERTEXT[2 * BLOCK :]

VECTORS = (
    Vector("good-encrypted", "an encrypted payload with a block list", accepted(), release),
    Vector(
        "good-encrypted-whole",
        "an encrypted payload of one block",
        accepted(),
        lambda: release(WHOLE, listed=False),
    ),
    Vector("good-encrypted-64", "a payload for 64 groups", accepted(), keys(*many(64))),
    Vector(
        "encrypted-flipped",
        "one bit of the ciphertext is flipped, in its second block",
        refused(10, "tampered.block"),
        lambda: release(given=FLIPPED),
    ),
    Vector(
        "encrypted-swapped",
        "two blocks of the ciphertext are swapped",
        refused(10, "tampered.block"),
        lambda: release(given=SWAPPED),
    ),
    Vector(
        "encrypted-cut",
        "the ciphertext is cut off between two blocks",
        refused(10, "tampered.payload-size"),
        lambda: release(given=CIPHERTEXT[:BLOCK]),
    ),
    Vector(
        "encrypted-plaintext",
        "the plaintext instead of the ciphertext",
        refused(10, "tampered.block"),
        lambda: release(given=LONG),
    ),
    Vector(
        "encrypted-keys-stripped",
        "the wrapped keys are gone",
        refused(7, "tampered.payload-absent"),
        lambda: release(wrapped=None),
    ),
    Vector(
        "encrypted-nonce",
        "another nonce beside the wrapped keys",
        MALFORMED,
        keys(RECIPIENT, nonce=bytes(12)),
    ),
    Vector(
        "encrypted-nobody",
        "wrapped keys for no group",
        MALFORMED,
        body(HEADER, {5: NONCE}, None, ()),
    ),
    Vector("encrypted-twice", "one group twice", MALFORMED, keys(RECIPIENT, RECIPIENT)),
    Vector(
        "encrypted-65", "a payload for 65 groups", refused(7, "malformed.size"), keys(*many(65))
    ),
    Vector(
        "encrypted-inline",
        "wrapped keys with a content that is not detached",
        MALFORMED,
        body(HEADER, {5: NONCE}, b"", ()),
    ),
    Vector(
        "encrypted-size",
        "a signed size of the ciphertext that does not fit the plaintext's",
        MALFORMED,
        lambda: release(size=len(CIPHERTEXT) - TAG_SIZE),
    ),
)
