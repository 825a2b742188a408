"""Encrypted payloads: what a device takes, and every attack on them, by code and message."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.format.blocks import MAX_BLOCK_SIZE, encode_blocks
from fwsign.format.ciphertext import TAG_SIZE, BlockCipher, ciphertext_size
from fwsign.format.component import BlockList, Component, Digest, keys_uri
from fwsign.format.encryption import (
    MAX_RECIPIENTS,
    decode_recipients,
    encode_recipients,
    thumbprint,
)
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.key_wrap import curve_of, key_id, unwrap, wrap
from fwsign.format.kinds import file_identifier, flash_identifier
from fwsign.format.payload import PayloadSink, Receiving, digest, receive
from fwsign.format.suit import decode_manifest, encode_manifest
from fwsign.keys.agreement import FileAgreement
from fwsign.signing.encrypting import EncryptedPayload
from fwsign.verify.verified import VerifiedRelease
from secret_kit import BLOCK, GROUP, LARGE, OTHER, STEP, described, encrypted
from support import (
    PAYLOAD,
    Pki,
    component,
    make_manifest,
    make_pki,
    refused,
    sign_with,
    stride,
    verify,
)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


class Made(NamedTuple):
    """A signed release with encrypted payloads, and their ciphertexts by component."""

    envelope: bytes
    ciphertexts: tuple[bytes, ...]


def made(pki: Pki, *payloads: tuple[EncryptedPayload, bytes]) -> Made:
    payloads = payloads or (encrypted(),)
    named = {f"part{index}.bin": one for index, (one, _) in enumerate(payloads)}
    parts, lists, inside = described(named)
    manifest = make_manifest(*parts, block_lists=lists)
    envelope = sign_with(pki, manifest, integrated=inside)
    return Made(envelope, tuple(ciphertext for _, ciphertext in payloads))


def opened(
    release: VerifiedRelease,
    ciphertext: bytes,
    sink: PayloadSink | None = None,
    keys: Sequence[Any] = (GROUP,),
    name: str = "part0.bin",
) -> bytes:
    memory = io.BytesIO()
    agreements = [FileAgreement(key) for key in keys]
    release.receive(name, io.BytesIO(ciphertext), sink or memory, agreements)
    return memory.getvalue()


def with_keys(envelope: bytes, wrapped: bytes | None, uri: str = keys_uri(0)) -> bytes:
    """Exchange the wrapped keys in an envelope, or take them out."""
    decoded = decode_envelope(envelope)
    members = {**decoded.integrated}
    if wrapped is None:
        del members[uri]
    else:
        members[uri] = wrapped
    return encode_envelope(decoded._replace(integrated=members))


# --- what works -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", LARGE[: STEP - 1], LARGE[:STEP], LARGE[: STEP + 1], LARGE[: 2 * STEP], LARGE],
    ids=len,
)
@pytest.mark.parametrize("group", [GROUP, OTHER], ids=["P-256", "P-384"])
def test_a_device_of_the_group_gets_the_plaintext(pki: Pki, payload: bytes, group: Any) -> None:
    one = made(pki, encrypted(payload, [group]))
    release = verify(one.envelope, [pki.root])
    assert opened(release, one.ciphertexts[0], keys=[group]) == payload
    size = len(payload)
    assert len(one.ciphertexts[0]) == ciphertext_size(size, BLOCK if size > STEP else 0)
    assert size < 16 or payload[:16] not in one.envelope + one.ciphertexts[0]


def test_every_group_of_several_can_open_it(pki: Pki) -> None:
    one = made(pki, encrypted(keys=[GROUP, OTHER]))
    release = verify(one.envelope, [pki.root])
    ids = [key_id(key.public_key()) for key in (GROUP, OTHER)]
    assert [found.key_id for found in release.recipients("part0.bin")] == ids
    for key in (GROUP, OTHER):
        assert opened(release, one.ciphertexts[0], keys=[key]) == LARGE


def test_a_device_of_several_groups_uses_the_key_that_fits(pki: Pki) -> None:
    one = made(pki)
    release = verify(one.envelope, [pki.root])
    assert opened(release, one.ciphertexts[0], keys=[OTHER, GROUP]) == LARGE


def test_plain_and_encrypted_components_stand_side_by_side(pki: Pki) -> None:
    (first, one), (third, three) = encrypted(), encrypted(b"three")
    plain = Component(
        file_identifier("plain"), Digest(-16, digest(-16, PAYLOAD)), len(PAYLOAD), "plain"
    )
    chip = flash_identifier("esp32c3", 0x10000)
    manifest = make_manifest(
        Component(file_identifier("one"), first.image, first.size, "one.enc", first.encrypted),
        plain,
        Component(chip, third.image, third.size, "three.enc", third.encrypted),
        use_before=2_000_000_000,
        block_lists=(BlockList(0, *measured(encode_blocks(_list(first)))),),
    )
    assert decode_manifest(encode_manifest(manifest)) == manifest
    members = {
        keys_uri(0): first.wrapped,
        keys_uri(2): third.wrapped,
        "#blocks-0": encode_blocks(_list(first)),
    }
    release = verify(sign_with(pki, manifest, integrated=members), [pki.root])
    assert opened(release, one, name="one") == LARGE
    assert opened(release, PAYLOAD, name="plain", keys=()) == PAYLOAD
    assert opened(release, three, name="esp32c3@0x10000") == b"three"
    assert release.recipients("plain") == ()


def _list(one: EncryptedPayload) -> Any:
    assert one.blocks is not None
    return one.blocks


def measured(data: bytes) -> tuple[Digest, int]:
    return Digest(-16, digest(-16, data)), len(data)


def test_without_a_key_the_ciphertext_is_verified_and_nothing_else(pki: Pki) -> None:
    one = made(pki)
    release = verify(one.envelope, [pki.root])
    release.receive("part0.bin", io.BytesIO(one.ciphertexts[0]))
    changed = bytes([one.ciphertexts[0][0] ^ 1]) + one.ciphertexts[0][1:]
    with refused("tampered.block", "block 0 of 4096 bytes"):
        release.receive("part0.bin", io.BytesIO(changed))


def test_ciphertext_is_never_taken_for_the_plaintext(pki: Pki) -> None:
    one = made(pki)
    release, sink = verify(one.envelope, [pki.root]), io.BytesIO()
    with refused("unsuitable.recipient", 'of "part0.bin" is encrypted, and no key was given'):
        opened(release, one.ciphertexts[0], sink, keys=())
    with refused("unsuitable.recipient", "no key was given"):
        release.receiving("part0.bin", sink)
    with refused("unsuitable.recipient", "no key was given"):
        release.resuming("part0.bin", io.BytesIO())
    assert sink.getvalue() == b""


def test_what_was_decrypted_is_judged_by_its_own_digest(pki: Pki) -> None:
    inside = {"#plain": PAYLOAD}
    plain = sign_with(pki, make_manifest(component(uri="#plain")), integrated=inside)
    sink = io.BytesIO()
    verify(plain, [pki.root]).receive_decrypted("build.bin", None, sink)
    assert sink.getvalue() == PAYLOAD
    one, sink = made(pki), io.BytesIO()
    release = verify(one.envelope, [pki.root])
    release.receive_decrypted("part0.bin", io.BytesIO(LARGE), sink)
    assert sink.getvalue() == LARGE
    with refused("tampered.payload-digest", 'payload of "part0.bin"'):
        release.receive_decrypted("part0.bin", io.BytesIO(LARGE[:-1] + b"?"))
    with refused("io.payload-missing", "no source for the payload"):
        release.receive_decrypted("part0.bin")


def test_the_plaintext_instead_of_the_ciphertext_is_refused(pki: Pki) -> None:
    release = verify(made(pki).envelope, [pki.root])
    with refused("tampered.block", "block 0"):
        opened(release, LARGE)


# --- pieces, and going on -------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1000, BLOCK, 3 * BLOCK + 1])
def test_it_may_come_in_pieces_of_any_size(pki: Pki, piece: int) -> None:
    one = made(pki)
    release, sink = verify(one.envelope, [pki.root]), io.BytesIO()
    receiving = release.receiving("part0.bin", sink, [FileAgreement(GROUP)])
    for at in range(0, len(one.ciphertexts[0]), piece):
        receiving.feed(one.ciphertexts[0][at : at + piece])
    receiving.finish()
    assert sink.getvalue() == LARGE


@pytest.mark.parametrize("kept", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP, len(LARGE)])
def test_a_transfer_goes_on_after_its_last_whole_block(pki: Pki, kept: int) -> None:
    one = made(pki)
    release, file = verify(one.envelope, [pki.root]), io.BytesIO(LARGE[:kept])
    receiving = release.resuming("part0.bin", file, [FileAgreement(GROUP)])
    whole = kept == len(LARGE)
    assert receiving.offset == (len(one.ciphertexts[0]) if whole else kept // STEP * BLOCK)
    receiving.feed(one.ciphertexts[0][receiving.offset :])
    receiving.finish()
    assert file.getvalue() == LARGE


def test_bad_plaintext_of_an_earlier_try_is_cut_off(pki: Pki) -> None:
    one = made(pki)
    spoilt = LARGE[:STEP] + b"!" + LARGE[STEP + 1 :] + b"more"
    release, file = verify(one.envelope, [pki.root]), io.BytesIO(spoilt)
    receiving = release.resuming("part0.bin", file, [FileAgreement(GROUP)])
    assert (receiving.offset, file.getvalue()) == (BLOCK, LARGE[:STEP])
    receiving.feed(one.ciphertexts[0][BLOCK:])
    receiving.finish()
    assert file.getvalue() == LARGE


class _Slow(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 700))


@pytest.mark.parametrize("payload", [b"", b"short", LARGE[:STEP]], ids=len)
def test_one_block_goes_on_only_when_it_is_whole(pki: Pki, payload: bytes) -> None:
    one = made(pki, encrypted(payload))
    release = verify(one.envelope, [pki.root])
    file = _Slow(payload)
    receiving = release.resuming("part0.bin", file, [FileAgreement(GROUP)])
    receiving.finish()
    for spoilt in (payload[:-1], payload[:-1] + b"?") if payload else ():
        file = _Slow(spoilt)
        receiving = release.resuming("part0.bin", file, [FileAgreement(GROUP)])
        assert receiving.offset == 0
        receiving.feed(one.ciphertexts[0])
        receiving.finish()
        assert file.getvalue() == payload


# --- who may open it ------------------------------------------------------------------------


def test_a_device_outside_the_group_is_told_so(pki: Pki) -> None:
    one = made(pki)
    release, sink = verify(one.envelope, [pki.root]), io.BytesIO()
    wanted, own = (key_id(key.public_key()).hex() for key in (GROUP, OTHER))
    words = f"encrypted to the keys {wanted}, this device has {own}"
    with refused("unsuitable.recipient", words) as caught:
        opened(release, one.ciphertexts[0], sink, keys=[OTHER])
    assert (caught.value.step, caught.value.expected, caught.value.found) == (10, wanted, own)
    with refused("unsuitable.recipient", "this device has none"):
        unwrap(release.components[0], _facts(release), release.recipients("part0.bin"), [])
    assert sink.getvalue() == b""


def _facts(release: VerifiedRelease) -> Any:
    return release.components[0].encrypted


def test_key_wrap_stripped(pki: Pki) -> None:
    one = made(pki)
    with refused("tampered.payload-absent", '"#encryption-0" is not in the envelope'):
        verify(with_keys(one.envelope, None), [pki.root])
    decoded = cbor.decode(decode_envelope(one.envelope).integrated[keys_uri(0)])
    empty = cbor.encode(cbor.Tag(96, (*decoded.value[:3], ())))
    with refused("malformed.encryption", "no COSE_Encrypt with a detached payload"):
        verify(with_keys(one.envelope, empty), [pki.root])


def test_a_curve_that_is_no_number(pki: Pki) -> None:
    """In Python true is 1, so it would be encoded again to the same bytes."""
    one = made(pki)
    decoded = cbor.decode(decode_envelope(one.envelope).integrated[keys_uri(0)])
    *head, ((protected, header, wrapped),) = decoded.value
    header = {**header, -1: {**header[-1], -1: True}}
    members = cbor.encode(cbor.Tag(96, (*head, ((protected, header, wrapped),))))
    with refused("malformed.encryption", "have a recipient that is not ECDH-ES + A256KW"):
        verify(with_keys(one.envelope, members), [pki.root])


def test_swapped_recipients_of_another_release(pki: Pki) -> None:
    one, other = encrypted(), encrypted()
    swapped = encode_recipients(one[0].encrypted.nonce, _recipients(other[0]))
    release = verify(with_keys(made(pki, one).envelope, swapped), [pki.root])
    sink = io.BytesIO()
    with refused("tampered.content-key", "holds another key than the signed one"):
        opened(release, one[1], sink)
    assert sink.getvalue() == b""


def _recipients(one: EncryptedPayload) -> tuple[Any, ...]:
    part = Component(file_identifier("x"), one.image, one.size, "x", one.encrypted)
    return decode_recipients(part, one.encrypted, one.wrapped)


def test_a_key_id_of_another_group_on_a_wrapped_key(pki: Pki) -> None:
    one = encrypted(keys=[OTHER])
    renamed = _recipients(one[0])[0]._replace(key_id=key_id(GROUP.public_key()))
    swapped = encode_recipients(one[0].encrypted.nonce, [renamed])
    release = verify(with_keys(made(pki, one).envelope, swapped), [pki.root])
    with refused("tampered.content-key", "does not open: it was changed or exchanged"):
        opened(release, one[1])


def test_a_key_wrapped_by_an_attacker(pki: Pki) -> None:
    """Anyone can wrap for a public key, but not the key whose thumbprint was signed."""
    one = encrypted()
    forged = encode_recipients(one[0].encrypted.nonce, [wrap(bytes(32), GROUP.public_key())])
    release = verify(with_keys(made(pki, one).envelope, forged), [pki.root])
    with refused("tampered.content-key", "another key than the signed one"):
        opened(release, one[1])


def test_an_ephemeral_point_off_the_curve(pki: Pki) -> None:
    one = encrypted()
    (found,) = _recipients(one[0])
    x, y = found.ephemeral
    off = found._replace(ephemeral=(x, bytes([y[0] ^ 1]) + y[1:]))
    envelope = with_keys(made(pki, one).envelope, encode_recipients(one[0].encrypted.nonce, [off]))
    with refused("tampered.content-key", "does not open"):
        opened(verify(envelope, [pki.root]), one[1])


def test_group_key_reuse() -> None:
    """Two releases to one group share neither ephemeral key, wrapped key, nonce nor content key."""
    found = [encrypted()[0] for _ in range(2)]
    for fact in ("nonce", "key_digest", "digest"):
        assert len({getattr(one.encrypted, fact) for one in found}) == 2
    wraps = [_recipients(one)[0] for one in found]
    assert wraps[0].key_id == wraps[1].key_id
    assert wraps[0].ephemeral != wraps[1].ephemeral
    assert wraps[0].wrapped != wraps[1].wrapped


def test_nonce_reuse() -> None:
    """No block of a payload has the nonce of another, and no two payloads share a key."""
    cipher = BlockCipher(bytes(32), bytes(range(12)), 300 * BLOCK, BLOCK)
    nonces = {cipher._nonce_of(index, more) for index in range(300) for more in (True, False)}
    assert len(nonces) == 600
    pair = encrypted()[0], encrypted()[0]
    assert pair[0].encrypted.key_digest != pair[1].encrypted.key_digest
    assert pair[0].image == pair[1].image


def test_group_membership_changes_without_encrypting_again(pki: Pki) -> None:
    one = encrypted()
    key = unwrap(_part(one[0]), one[0].encrypted, _recipients(one[0]), [FileAgreement(GROUP)])
    again = encode_recipients(one[0].encrypted.nonce, [wrap(key, OTHER.public_key())])
    before = made(pki, one).envelope
    release = verify(with_keys(before, again), [pki.root])
    assert release.manifest_digest == verify(before, [pki.root]).manifest_digest
    assert opened(release, one[1], keys=[OTHER]) == LARGE
    with refused("unsuitable.recipient", "encrypted to the keys"):
        opened(release, one[1], keys=[GROUP])


def _part(one: EncryptedPayload) -> Component:
    return Component(file_identifier("x"), one.image, one.size, "x", one.encrypted)


# --- the ciphertext -------------------------------------------------------------------------


def _sealed(pieces: Sequence[tuple[int, bytes, bool]], one: EncryptedPayload) -> bytes:
    """Encrypt pieces under a payload's own key, as only somebody of the group could."""
    key = unwrap(_part(one), one.encrypted, _recipients(one), [FileAgreement(GROUP)])
    cipher = BlockCipher(key, one.encrypted.nonce, 0, BLOCK)
    return b"".join(cipher.encrypt(index, piece, more=more) for index, piece, more in pieces)


@contextlib.contextmanager
def signed_again(pki: Pki, one: EncryptedPayload, ciphertext: bytes) -> Iterator[VerifiedRelease]:
    """Sign a ciphertext that is not the one of the plaintext: only the cipher can notice."""
    blocks = [ciphertext[at : at + BLOCK] for at in range(0, len(ciphertext), BLOCK)]
    listed = _list(one)._replace(digests=b"".join(digest(-16, block) for block in blocks))
    facts = one.encrypted._replace(
        digest=Digest(-16, digest(-16, ciphertext)), size=len(ciphertext)
    )
    size = len(ciphertext) - TAG_SIZE * len(blocks)
    changed = one._replace(encrypted=facts, blocks=listed, size=size)
    yield verify(made(pki, (changed, ciphertext)).envelope, [pki.root])


def test_truncated_at_a_block_boundary(pki: Pki) -> None:
    one = made(pki)
    release, sink = verify(one.envelope, [pki.root]), io.BytesIO()
    short = one.ciphertexts[0][: 2 * BLOCK]
    with refused("tampered.payload-size", "has 8192 bytes, the signed size is 16464"):
        opened(release, short, sink)
    payload = encrypted()
    with (
        signed_again(pki, payload[0], payload[1][: 2 * BLOCK]) as release,
        refused("tampered.plaintext", "block 1 does not decrypt with the signed key"),
    ):
        opened(release, payload[1][: 2 * BLOCK])


def test_the_last_block_flag_is_authenticated(pki: Pki) -> None:
    payload = encrypted()
    pieces = [(0, LARGE[:STEP], True), (1, LARGE[STEP : 2 * STEP], True), (2, b"end", True)]
    wrong = _sealed(pieces, payload[0])
    with (
        signed_again(pki, payload[0], wrong) as release,
        refused("tampered.plaintext", "block 2 does not decrypt"),
    ):
        opened(release, wrong)


def test_reordered_blocks(pki: Pki) -> None:
    payload = encrypted()
    ciphertext = payload[1]
    swapped = ciphertext[BLOCK : 2 * BLOCK] + ciphertext[:BLOCK] + ciphertext[2 * BLOCK :]
    release, sink = verify(made(pki, payload).envelope, [pki.root]), io.BytesIO()
    with refused("tampered.block", "block 0 of 4096 bytes"):
        opened(release, swapped, sink)
    assert sink.getvalue() == b""
    with (
        signed_again(pki, payload[0], swapped) as release,
        refused("tampered.plaintext", "block 0 does not decrypt"),
    ):
        opened(release, swapped, sink)
    assert sink.getvalue() == b""


def test_ciphertext_of_one_component_in_another(pki: Pki) -> None:
    first, second = encrypted(), encrypted(LARGE[::-1])
    one = made(pki, first, second)
    release, sink = verify(one.envelope, [pki.root]), io.BytesIO()
    with refused("tampered.block", 'payload of "part0.bin": block 0'):
        opened(release, second[1], sink)
    exchanged = with_keys(one.envelope, first[0].wrapped, keys_uri(1))
    with refused("malformed.encryption", 'wrapped keys of "part1.bin" have a nonce'):
        verify(exchanged, [pki.root])
    with (
        signed_again(pki, first[0], second[1]) as release,
        refused("tampered.plaintext", "block 0 does not decrypt"),
    ):
        opened(release, second[1], sink)
    assert sink.getvalue() == b""


def test_other_plaintext_under_the_signed_key(pki: Pki) -> None:
    """The signer says digests of both: one that lies about the plaintext is refused."""
    payload = encrypted()
    lying = payload[0]._replace(image=Digest(-16, bytes(32)))
    release = verify(made(pki, (lying, payload[1])).envelope, [pki.root])
    with refused("tampered.plaintext", 'decrypted payload of "part0.bin" has digest'):
        opened(release, payload[1])


@pytest.mark.parametrize("whole", [BLOCK, 1 << 20], ids=["blocks", "one block"])
def test_no_flipped_bit_of_the_ciphertext_reaches_the_sink(pki: Pki, whole: int) -> None:
    payload = encrypted(whole=whole)
    release = verify(made(pki, payload).envelope, [pki.root])
    code = "tampered.block" if whole == BLOCK else "tampered.payload-digest"
    for at in range(0, len(payload[1]), 509):
        spoilt = bytearray(payload[1])
        spoilt[at] ^= 1 << at % 8
        sink = io.BytesIO()
        with refused(code, 'payload of "part0.bin"'):
            opened(release, bytes(spoilt), sink)
        good = at // BLOCK * STEP if whole == BLOCK else 0
        assert sink.getvalue() == LARGE[:good]


def test_every_flipped_bit_of_the_wrapped_key_is_refused(pki: Pki) -> None:
    payload = encrypted(b"short")
    envelope, wrapped = made(pki, payload).envelope, payload[0].wrapped
    codes = set()
    for bit in range(0, 8 * len(wrapped), stride(7)):
        spoilt = bytearray(wrapped)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FwsignError) as caught:
            opened(verify(with_keys(envelope, bytes(spoilt)), [pki.root]), payload[1])
        codes.add(caught.value.code)
    assert codes == {
        "malformed.cbor",
        "malformed.encryption",
        "tampered.content-key",
        "unsuitable.recipient",
    }


def test_more_than_the_signed_size_is_refused(pki: Pki) -> None:
    payload = encrypted()
    release = verify(made(pki, payload).envelope, [pki.root])
    with refused("tampered.payload-size", "more than 16464 bytes, the signed size is 16464"):
        opened(release, payload[1] + b"x")


# --- what is signed of it -------------------------------------------------------------------


def test_an_odd_ciphertext_size_is_refused(pki: Pki) -> None:
    one, ciphertext = encrypted()
    odd = one._replace(encrypted=one.encrypted._replace(size=len(ciphertext) - 1))
    with refused("malformed.encryption", "has 16463 bytes, 16384 bytes become 16464"):
        verify(made(pki, (odd, b"")).envelope, [pki.root])


def test_one_block_has_a_limit(pki: Pki) -> None:
    one, _ = encrypted(b"x")
    size = MAX_BLOCK_SIZE - TAG_SIZE
    for much, fits in ((size, True), (size + 1, False)):
        facts = one.encrypted._replace(size=much + TAG_SIZE)
        envelope = made(pki, (one._replace(encrypted=facts, size=much), b"")).envelope
        if fits:
            verify(envelope, [pki.root])
            continue
        words = f"has {MAX_BLOCK_SIZE + 1} bytes and no block list, at most {MAX_BLOCK_SIZE} bytes"
        with refused("malformed.encryption", words):
            verify(envelope, [pki.root])


def test_recipients_have_a_limit(pki: Pki) -> None:
    one, ciphertext = encrypted(b"x")
    (found,) = _recipients(one)
    for much in (MAX_RECIPIENTS, MAX_RECIPIENTS + 1):
        many = [found._replace(key_id=bytes([at]) * 32) for at in range(much)]
        envelope = with_keys(
            made(pki, (one, ciphertext)).envelope, encode_recipients(one.encrypted.nonce, many)
        )
        if much == MAX_RECIPIENTS:
            assert len(verify(envelope, [pki.root]).recipients("part0.bin")) == much
            continue
        with refused("malformed.size", "65 recipients"):
            verify(envelope, [pki.root])


def _changed(wrapped: bytes, change: Any) -> bytes:
    body = list(cbor.decode(wrapped).value)
    change(body)
    return cbor.encode(cbor.Tag(96, tuple(body)))


def _on_recipient(part: int, value: Any) -> Any:
    def change(body: list[Any]) -> None:
        recipient = list(body[3][0])
        recipient[part] = value(recipient[part]) if callable(value) else value
        body[3] = (tuple(recipient),)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda body: body.__setitem__(0, cbor.encode({1: 1})),
            "a nonce, a header or an algorithm",
        ),
        (lambda body: body.__setitem__(1, {5: bytes(12)}), "a nonce, a header or an algorithm"),
        (lambda body: body.__setitem__(2, b""), "no COSE_Encrypt with a detached payload"),
        (lambda body: body.__setitem__(3, None), "no COSE_Encrypt with a detached payload"),
        (lambda body: body.__setitem__(3, body[3] * 2), "name one key id twice"),
        (_on_recipient(0, cbor.encode({1: -29})), "a nonce, a header or an algorithm"),
        (_on_recipient(0, b""), "a nonce, a header or an algorithm"),
        (_on_recipient(2, b"x" * 24), "a recipient that is not ECDH-ES + A256KW"),
        (_on_recipient(1, lambda one: {**one, 4: b"x"}), "a recipient that is not ECDH-ES"),
        (_on_recipient(1, lambda one: {**one, 7: b"x"}), "a nonce, a header or an algorithm"),
        (_on_recipient(1, lambda one: {4: one[4]}), "a recipient that is not ECDH-ES"),
        (
            _on_recipient(1, lambda one: {**one, -1: {**one[-1], -1: 2}}),
            "a recipient that is not ECDH-ES + A256KW on P-256 or P-384",
        ),
        (
            _on_recipient(1, lambda one: {**one, -1: {**one[-1], -1: 3}}),
            "a recipient that is not ECDH-ES + A256KW on P-256 or P-384",
        ),
        (
            _on_recipient(1, lambda one: {**one, -1: {**one[-1], -3: True}}),
            "a recipient that is not ECDH-ES + A256KW on P-256 or P-384",
        ),
    ],
)
def test_wrapped_keys_have_one_form(pki: Pki, change: Any, words: str) -> None:
    one = encrypted(b"x")
    envelope = with_keys(made(pki, one).envelope, _changed(one[0].wrapped, change))
    with refused("malformed.encryption", words):
        verify(envelope, [pki.root])


def test_a_curve_that_is_not_the_groups(pki: Pki) -> None:
    one = encrypted(b"x", [OTHER])
    renamed = _recipients(one[0])[0]._replace(key_id=key_id(GROUP.public_key()))
    swapped = encode_recipients(one[0].encrypted.nonce, [renamed])
    with refused("tampered.content-key", "does not open"):
        opened(verify(with_keys(made(pki, one).envelope, swapped), [pki.root]), one[1])


def test_only_keys_on_two_curves_are_recipients() -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    found = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
    assert [curve_of(ec.generate_private_key(one).public_key()) for one in found] == [1, 2, None]
    assert curve_of(ed25519.Ed25519PrivateKey.generate().public_key()) is None


def test_the_thumbprint_is_that_of_a_cose_key() -> None:
    key = cbor.encode({1: 4, -1: bytes(32)})
    assert thumbprint(bytes(32)) == digest(-16, key)


def test_wrapped_keys_without_a_component_are_refused(pki: Pki) -> None:
    one = encrypted(b"x")
    envelope = sign_with(pki, integrated={keys_uri(0): one[0].wrapped})
    with refused("malformed.unreferenced-payload", '"#encryption-0"'):
        verify(envelope, [pki.root])


def test_nothing_secret_shows(pki: Pki) -> None:
    one = encrypted()
    key = unwrap(_part(one[0]), one[0].encrypted, _recipients(one[0]), [FileAgreement(GROUP)])
    release = verify(made(pki, one).envelope, [pki.root])
    cipher = BlockCipher(key, one[0].encrypted.nonce, 0, BLOCK)
    receiving = Receiving(release.components[0], io.BytesIO(), _list(one[0]), cipher)
    shown = repr((cipher, receiving, FileAgreement(GROUP), release, vars(receiving)))
    number = GROUP.private_numbers().private_value
    assert key.hex() not in shown
    assert repr(key) not in shown
    assert str(number) not in shown
    assert f"{number:x}" not in shown
    with refused("tampered.block") as caught:
        receive(release.components[0], io.BytesIO(LARGE), None, _list(one[0]), cipher)
    assert key.hex() not in str(vars(caught.value))


@pytest.mark.parametrize(
    "value", [None, b"\xf6", cbor.encode(cbor.Tag(96, (b"", {}, None, ())))], ids=repr
)
def test_parameter_19_has_one_form(value: Any) -> None:
    from fwsign.format.encryption import decode_signed

    with refused("malformed.encryption", "parameter 19 is not A256GCM"):
        decode_signed(value)
