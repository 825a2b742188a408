"""Signing: what is refused before an envelope leaves, and stapling."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fwsign.format import cose, suit
from fwsign.format.envelope import decode_envelope
from fwsign.format.kinds import file_identifier
from fwsign.format.text import Text
from fwsign.keys.file import FileSigner
from fwsign.signing.envelope import CRL_MARGIN, Identity, TimeStamping, sign
from fwsign.signing.release import MAX_EMBEDDED_SIZE, Release, ReleaseFile, describe
from fwsign.signing.stapling import staple
from fwsign.spans import CLOCK_TOLERANCE
from fwsign.x509.crl import parse_crl
from support import (
    NOW,
    PAYLOAD,
    PRODUCT,
    VENDOR,
    Pki,
    make_crl,
    make_pki,
    new_key,
    refused,
    sign_with,
    verify,
)
from tsa_kit import Tsa, make_tsa, oid, sequence, signatures, with_tokens

TEXT = Text(VENDOR, PRODUCT, "2.4.1", "mends the clock")
ALGORITHMS = ["p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"]


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "build.bin"
    path.write_bytes(PAYLOAD)
    return path


def release(payload: Path, **more: Any) -> Release:
    own = {"sequence_number": 100, **more}
    return describe([ReleaseFile(payload, file_identifier("build.bin"))], TEXT, **own)


def identity(pki: Pki, crls: tuple[bytes, ...] | None = None, signer: Any = None) -> Identity:
    chain = (pki.leaf.der, pki.issuing.der)
    return Identity(signer or FileSigner(pki.leaf.key), chain, pki.crls if crls is None else crls)


class Broken(FileSigner):
    """A key whose signatures come out wrong."""

    def sign(self, message: bytes) -> bytes:
        """Sign something else."""
        return super().sign(message + b"!")


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_what_is_signed_verifies_as_on_a_device(alg: str, payload: Path) -> None:
    pki = make_pki(alg)
    envelope, verified = sign(release(payload), [identity(pki)], [pki.root.anchor], at=NOW)
    assert verified.unchecked == ("rollback",)
    received = io.BytesIO()
    device = verify(envelope, [pki.root])
    device.receive("build.bin", io.BytesIO(PAYLOAD), received)
    assert received.getvalue() == PAYLOAD
    assert device.text == TEXT


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519"])
def test_the_same_input_gives_the_same_envelope(alg: str, payload: Path) -> None:
    pki = make_pki(alg)
    own = identity(pki)
    first, second = (sign(release(payload), [own], [pki.root.anchor], at=NOW)[0] for _ in range(2))
    assert first == second


def test_two_signers_each_count(pki: Pki, payload: Path) -> None:
    other = make_pki("ml-dsa-65", common="Other ")
    anchors = [pki.root.anchor, other.root.anchor]
    envelope, _ = sign(release(payload), [identity(pki), identity(other)], anchors, at=NOW)
    verify(envelope, anchors, threshold=2)


@pytest.mark.parametrize("alg", ["p256", "ed25519"])
def test_a_key_that_signs_wrong_is_found_out(alg: str, payload: Path) -> None:
    pki = make_pki(alg)
    broken = identity(pki, signer=Broken(pki.leaf.key))
    with refused("key.failed", "the key's own signature is wrong"):
        sign(release(payload), [broken], [pki.root.anchor], at=NOW)


def test_a_key_of_another_certificate_is_refused(pki: Pki, payload: Path) -> None:
    stranger = identity(pki, signer=FileSigner(new_key()))
    with refused("key.mismatch", 'the key is not that of certificate "release"'):
        sign(release(payload), [stranger], [pki.root.anchor], at=NOW)


def test_a_crl_that_goes_stale_within_a_day_is_refused(pki: Pki, payload: Path) -> None:
    at = NOW + timedelta(days=30) - CRL_MARGIN + timedelta(seconds=1)
    with refused("stale.crl", 'CRL of "Issuing" goes stale', "less than a day"):
        sign(release(payload), [identity(pki)], [pki.root.anchor], at=at)
    sign(release(payload), [identity(pki)], [pki.root.anchor], at=at - timedelta(seconds=1))
    sign(release(payload), [identity(pki)], [pki.root.anchor], at=at, force=True)


def test_a_clock_behind_the_crls_is_refused_before_anything_is_signed(
    pki: Pki, payload: Path
) -> None:
    class Unused(FileSigner):
        def sign(self, message: bytes) -> bytes:
            raise AssertionError(message)

    made = parse_crl(pki.crls[0]).this_update
    at = made - CLOCK_TOLERANCE
    unused = identity(pki, signer=Unused(pki.leaf.key))
    with refused("state.clock", "the clock is wrong: it says", 'CRL of "', "was made"):
        early = at - timedelta(seconds=1)
        sign(release(payload), [unused], [pki.root.anchor], at=early)
    _, verified = sign(release(payload), [identity(pki)], [pki.root.anchor], at=at)
    assert (verified.notes, verified.now) == ((), made)
    _, verified = sign(
        release(payload), [identity(pki)], [pki.root.anchor], at=at - timedelta(9), force=True
    )
    assert (verified.notes, verified.now) == ((), made)


@pytest.mark.parametrize("crls", [None, ()])
def test_a_time_without_a_zone_is_refused(
    pki: Pki, payload: Path, crls: tuple[bytes, ...] | None
) -> None:
    with refused("state.clock", "the time given has no time zone"):
        at = NOW.replace(tzinfo=None)
        sign(release(payload), [identity(pki, crls)], [pki.root.anchor], at=at)


def test_a_revoked_signer_signs_nothing(pki: Pki, payload: Path) -> None:
    crls = (make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root))
    with refused("untrusted.revoked", "key compromise"):
        sign(release(payload), [identity(pki, crls)], [pki.root.anchor], at=NOW)


def test_an_embedded_payload_is_in_the_envelope(pki: Pki, payload: Path) -> None:
    embedded = release(payload, embed=True)
    envelope, _ = sign(embedded, [identity(pki)], [pki.root.anchor], at=NOW)
    verify(envelope, [pki.root]).receive("build.bin")


# --- describing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sequence_number": -1}, "sequence number -1, expected 0 to"),
        ({"sequence_number": 1 << 53}, "expected 0 to 9007199254740991"),
        ({"use_before": suit.MAX_TIME + 1}, "time of expiry 253402300800"),
    ],
)
def test_numbers_out_of_range_are_refused(payload: Path, more: Any, words: str) -> None:
    with refused("state.policy", words):
        release(payload, **more)


@pytest.mark.parametrize("size", [1, 5000, 2**25, -4096])
def test_other_sizes_of_blocks_are_refused(payload: Path, size: int) -> None:
    words = f"block size {size}, expected a power of two from 4096 to 16777216"
    with refused("state.policy", words):
        release(payload, block_size=size)


def test_a_release_of_nothing_is_refused() -> None:
    with refused("state.policy", "a release of 0 files, expected 1 to 256"):
        describe([], TEXT, sequence_number=1)


def test_a_payload_too_large_to_embed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "build.bin"
    with path.open("wb") as file:
        file.truncate(MAX_EMBEDDED_SIZE + 1)
    with refused("io.format", f"has {MAX_EMBEDDED_SIZE + 1} bytes, at most {MAX_EMBEDDED_SIZE}"):
        release(path, embed=True)


def test_a_payload_that_is_not_there_is_named(tmp_path: Path) -> None:
    with refused("io.missing", "build.bin: no such file"):
        release(tmp_path / "build.bin")


# --- stapling -------------------------------------------------------------------------------


def crls_in(envelope: bytes) -> tuple[bytes, ...]:
    return cose.decode_block(decode_envelope(envelope).blocks[0]).crls


def test_stapling_replaces_older_crls_and_nothing_else(pki: Pki) -> None:
    envelope = sign_with(pki)
    newer = make_crl(pki.issuing, [pki.leaf], number=2)
    stapled = staple(envelope, [newer])
    assert crls_in(stapled) == (newer, crls_in(envelope)[1])
    with refused("untrusted.revoked"):
        verify(stapled, [pki.root])


def test_stapling_an_older_crl_changes_nothing(pki: Pki) -> None:
    issuing = make_crl(pki.issuing, number=5)
    envelope = sign_with(pki, crls=(issuing, make_crl(pki.root)))
    assert staple(envelope, [make_crl(pki.issuing, number=4)]) == envelope


def test_stapling_needs_no_key_and_adds_what_was_missing(pki: Pki) -> None:
    stapled = staple(sign_with(pki, crls=()), pki.crls)
    assert verify(stapled, [pki.root], revocation="require").unchecked == ()


def test_a_crl_of_nobody_in_the_envelope_is_refused(pki: Pki) -> None:
    stranger = make_crl(make_pki(common="X ").root)
    with refused("io.crl-unused", 'CRL of "X Root" belongs to no issuer'):
        staple(sign_with(pki), [stranger])


# --- time stamps ----------------------------------------------------------------------------


def stamped(pki: Pki, payload: Path, tsa: Tsa, **more: Any) -> bytes:
    """Sign with tokens of an authority, which devices pin; `more` goes to the token."""
    stamping = TimeStamping(lambda signature: tsa.stamp(signature, **more), (tsa.root.anchor,))
    own = identity(pki, (*pki.crls, *tsa.crls))
    return sign(release(payload), [own], [pki.root.anchor], at=NOW, tsa=stamping)[0]


def test_each_signature_gets_its_token(pki: Pki, payload: Path) -> None:
    tsa = make_tsa()
    envelope = stamped(pki, payload, tsa)
    found = verify(envelope, [pki.root], tsa_anchors=(tsa.root.anchor,))
    assert found.signers[0].signed_at == NOW


def test_a_token_that_devices_would_refuse_is_refused(pki: Pki, payload: Path) -> None:
    with refused("tampered.token"):
        stamped(pki, payload, make_tsa(), key=pki.leaf.key)
    with refused("stale.certificate"):
        stamped(pki, payload, make_tsa(days=(-9, -2)))
    with refused("untrusted.no-anchor"):
        stamped(pki, payload, make_tsa()._replace(root=make_pki().root))


def test_crls_of_an_authority_are_stapled(pki: Pki) -> None:
    tsa = make_tsa()
    envelope = sign_with(pki)
    envelope = with_tokens(envelope, tsa.stamp(*signatures(envelope)))
    crls = tsa.crls
    assert crls_in(staple(envelope, crls))[2:] == crls
    with refused("io.crl-unused"):
        staple(with_tokens(envelope, None), crls)


def test_stapling_minds_no_token_of_a_kind_that_does_not_count(pki: Pki) -> None:
    tsa = make_tsa()
    envelope = sign_with(pki)
    odd = tsa.stamp(*signatures(envelope), digest_algorithm=sequence(oid("data")))
    newer = make_crl(pki.issuing, number=2)
    assert newer in crls_in(staple(with_tokens(envelope, odd), [newer]))
    assert newer in crls_in(staple(with_tokens(envelope, b"token"), [newer]))
