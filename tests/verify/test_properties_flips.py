"""Every bit counts: no envelope or payload with one bit or byte changed is accepted."""

import io
from collections.abc import Callable
from functools import cache

import pytest

from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.format.component import Digest
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from hostile import outcome
from mutation import Dice
from support import (
    NOW,
    PRODUCT,
    VENDOR,
    component,
    device,
    make_manifest,
    make_pki,
    sign_with,
    stride,
)

CHUNKS = 16
PAYLOAD = bytes(range(64))


class Target:
    """A signed envelope, its verifier, and the payload that is delivered."""

    def __init__(self, alg: str = "p256", *, inside: bool = False) -> None:
        pki = make_pki(alg)
        part = component(PAYLOAD, uri="#build.bin" if inside else None)
        text = encode_text(Text(VENDOR, PRODUCT, "2.4.1"), (part,))
        head = cbor.byte_string_head(len(text))
        signed = Digest(-16, digest(-16, head, text))
        manifest = make_manifest(part, version=(2, 4, 1), text_digest=signed)
        crls = () if inside else pki.crls
        integrated = {"#build.bin": PAYLOAD} if inside else {}
        self.envelope = sign_with(pki, manifest, text=text, integrated=integrated, crls=crls)
        self.verifier = Verifier([pki.root.anchor], device())

    def install(self, envelope: bytes, payload: bytes = PAYLOAD) -> VerifiedRelease:
        """Verify, and receive the payload."""
        release = self.verifier.verify(envelope, at=NOW)
        release.receive("build.bin", io.BytesIO(payload))
        return release

    def refuses(self, envelope: bytes, payload: bytes = PAYLOAD) -> bool:
        """Tell whether this is refused, and as it should be."""
        return isinstance(outcome(self.install, envelope, payload), FwsignError)


@cache
def target(alg: str = "p256", *, inside: bool = False) -> Target:
    made = Target(alg, inside=inside)
    made.install(made.envelope)
    return made


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
def test_every_flipped_bit_is_refused(chunk: int, *, inside: bool) -> None:
    one = target(inside=inside)
    # A step of 3 changes bits of every byte, and over 3 bytes each of the 8.
    bits = range(0, 8 * len(one.envelope), stride(3))[chunk::CHUNKS]
    assert len(bits) > 120
    assert [bit for bit in bits if not one.refuses(flipped(one.envelope, bit))] == []


def test_every_flipped_bit_of_the_payload_is_refused() -> None:
    one = target()
    bits = range(8 * len(PAYLOAD))
    assert all(one.refuses(one.envelope, flipped(PAYLOAD, bit)) for bit in bits)
    sizes = [size for size in range(len(PAYLOAD) * 2) if size != len(PAYLOAD)]
    assert all(one.refuses(one.envelope, (PAYLOAD * 2)[:size]) for size in sizes)


CUTS: dict[str, Callable[[bytes, int], bytes]] = {
    "truncated": lambda data, at: data[:at],
    "deleted": lambda data, at: data[:at] + data[at + 1 :],
    "doubled": lambda data, at: data[:at] + data[at : at + 1] + data[at:],
    "behind": lambda data, at: data + data[:at] if at else data + b"\0",
    "zeroed": lambda data, at: data[:at] + b"\0" + data[at + 1 :],
}


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("cut", CUTS)
def test_every_byte_cut_or_added_is_refused(cut: str, *, inside: bool) -> None:
    one = target(inside=inside)
    places = range(0, len(one.envelope), stride(2))
    altered = {CUTS[cut](one.envelope, at) for at in places} - {one.envelope}
    assert len(altered) > len(places) // 2
    assert [data for data in altered if not one.refuses(data)] == []


@pytest.mark.parametrize("alg", ["p384", "ed25519", "ml-dsa-65", "ml-dsa-87", "rsa3072"])
def test_flipped_bits_are_refused_whatever_the_algorithm(alg: str) -> None:
    one, dice = target(alg), Dice(alg)
    bits = {dice.below(8 * len(one.envelope)) for _ in range(700 // stride(2))}
    assert [bit for bit in bits if not one.refuses(flipped(one.envelope, bit))] == []


@pytest.mark.parametrize("alg", ["p256", "ed25519", "ml-dsa-65"])
def test_several_flipped_bits_are_refused(alg: str) -> None:
    one, dice = target(alg), Dice(f"several {alg}")
    for _ in range(400 // stride(2)):
        data = one.envelope
        for _ in range(2 + dice.below(6)):
            data = flipped(data, dice.below(8 * len(data)))
        assert data == one.envelope or one.refuses(data)


def test_a_verifier_that_demands_nothing_refuses_flips_too() -> None:
    one, dice = target(), Dice("nothing")
    path = one.verifier.verify(one.envelope, at=NOW).signers[0].path
    assert path is not None
    one_without = Verifier([path.anchor], DevicePolicy())
    bits = {dice.below(8 * len(one.envelope)) for _ in range(1500 // stride(3))}
    found = [outcome(one_without.verify, flipped(one.envelope, bit), at=NOW) for bit in bits]
    assert [result for result in found if not isinstance(result, FwsignError)] == []


def test_bits_of_a_block_that_is_not_needed_change_nothing_else() -> None:
    # Two signers, one is enough: what is left of the other may not make the result stronger.
    first, second = make_pki(), make_pki(common="Other ")
    manifest = make_manifest(component(PAYLOAD))
    both = [decode_envelope(sign_with(one, manifest)) for one in (first, second)]
    envelope = encode_envelope(both[0]._replace(blocks=both[0].blocks + both[1].blocks))
    verifier = Verifier([first.root.anchor, second.root.anchor], device(threshold=1))
    original = verifier.verify(envelope, at=NOW)
    dice = Dice("not needed")
    bits = {dice.below(8 * len(envelope)) for _ in range(2500 // stride(4))}
    results = [outcome(verifier.verify, flipped(envelope, bit), at=NOW) for bit in bits]
    accepted = [one for one in results if isinstance(one, VerifiedRelease)]
    assert all(one.manifest == original.manifest for one in accepted)
    assert all(sum(who.refusal is None for who in one.signers) == 1 for one in accepted)
