"""Signature requests, and the signatures that other tools make for them."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from fwsign.errors import FwsignError
from fwsign.format.cose import decode_block, encode_block
from fwsign.format.envelope import MAX_BLOCKS, decode_envelope, encode_envelope
from fwsign.format.kinds import file_identifier
from fwsign.format.text import Text
from fwsign.keys.file import FileSigner
from fwsign.keys.held import digest_of, mu_of
from fwsign.signing.attach import accepted, completed
from fwsign.signing.envelope import Identity, sign
from fwsign.signing.foreign import readings
from fwsign.signing.release import Release, ReleaseFile, describe
from fwsign.signing.request import (
    Request,
    about,
    further_request,
    is_request,
    read_request,
    request,
    to_sign,
)
from fwsign.signing.stapling import staple
from fwsign.x509.certificate import parse_certificate
from support import (
    NOW,
    PAYLOAD,
    PRODUCT,
    VENDOR,
    Pki,
    make_block,
    make_crl,
    make_leaf,
    make_pki,
    new_key,
    refused,
)

TEXT = Text(VENDOR, PRODUCT, "2.4.1")
ALGORITHMS = ["p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"]


@pytest.fixture(scope="module")
def pkis() -> dict[str, Pki]:
    return {alg: make_pki(alg) for alg in ALGORITHMS}


@pytest.fixture(scope="module")
def pki(pkis: dict[str, Pki]) -> Pki:
    return pkis["p256"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    path = tmp_path_factory.mktemp("release") / "build.bin"
    path.write_bytes(PAYLOAD)
    return describe([ReleaseFile(path, file_identifier("build.bin"))], TEXT, sequence_number=100)


def chain(pki: Pki) -> tuple[bytes, ...]:
    return pki.leaf.der, pki.issuing.der


def ask(release: Release, pki: Pki, crls: tuple[bytes, ...] | None = None) -> Request:
    return read_request(request(release, chain(pki), pki.crls if crls is None else crls))


def raw(pki: Pki, message: bytes) -> bytes:
    return FileSigner(pki.leaf.key).sign(message)


def accept(envelope: bytes, wanted: Request, pki: Pki, **more: Any) -> Any:
    return accepted(envelope, wanted.leaf, [pki.root.anchor], at=NOW, **more)


# --- the request ------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_an_attached_signature_gives_the_same_envelope_as_signing_here(
    pkis: dict[str, Pki], release: Release, alg: str
) -> None:
    pki = pkis[alg]
    crls = pki.crls
    wanted = ask(release, pki, crls)
    made = completed(wanted, raw(pki, wanted.message))
    verified = accept(made, wanted, pki)
    assert verified.manifest_digest == wanted.manifest_digest
    here = Identity(FileSigner(pki.leaf.key), chain(pki), crls)
    other, _ = sign(release, [here], [pki.root.anchor], at=NOW)
    ours, theirs = decode_envelope(made), decode_envelope(other)
    assert ours._replace(blocks=()) == theirs._replace(blocks=())
    blocks = [decode_block(one.blocks[0])._replace(signature=b"") for one in (ours, theirs)]
    assert blocks[0] == blocks[1]
    if alg == "p256":  # whose signatures are the same each time
        assert made == other


def test_a_request_is_an_envelope_that_every_device_refuses(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), pki.crls)
    assert is_request(data)
    wanted = read_request(data)
    with refused("tampered.signature"):
        accept(data, wanted, pki)
    assert not is_request(completed(wanted, raw(pki, wanted.message)))


def test_the_bytes_to_sign_are_short_enough_for_any_token(pki: Pki, release: Release) -> None:
    assert len(ask(release, pki).message) == 94


def test_newer_crls_go_into_a_request_that_waits(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), (make_crl(pki.issuing), make_crl(pki.root)))
    signature = raw(pki, read_request(data).message)
    new = (make_crl(pki.issuing, number=7, days=(0, 90)), make_crl(pki.root, number=7))
    wanted = read_request(staple(data, new))
    assert wanted.block.crls == new
    accept(completed(wanted, signature), wanted, pki)


def test_what_a_tool_signs_in_each_form(pkis: dict[str, Pki], release: Release) -> None:
    for alg, digest in (("p256", "SHA-256"), ("p384", "SHA-384"), ("rsa3072", "SHA-256")):
        wanted = ask(release, pkis[alg])
        assert to_sign(wanted, "message") == wanted.message
        assert to_sign(wanted, "digest") == digest_of(wanted.message, digest)
        with refused("key.unsupported", "signs no external mu"):
            to_sign(wanted, "mu")
    for alg in ("ml-dsa-65", "ml-dsa-87"):
        wanted = ask(release, pkis[alg])
        assert to_sign(wanted, "mu") == mu_of(wanted.leaf.key, wanted.message)
        with refused("key.unsupported", "which signs the bytes themselves, or their mu") as found:
            to_sign(wanted, "digest")
        assert found.value.hint == "use --mu"
    with refused("key.unsupported", "it is Ed25519, which signs the bytes themselves") as found:
        to_sign(ask(release, pkis["ed25519"]), "digest")
    assert found.value.hint == "leave the option out"


def test_what_is_no_request_is_refused(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), pki.crls)
    wanted = read_request(data)
    signed = completed(wanted, raw(pki, wanted.message))
    with refused("io.format", "0 of 1 blocks wait for a signature"):
        read_request(signed)
    envelope = decode_envelope(data)
    twice = encode_envelope(envelope._replace(blocks=envelope.blocks * 2))
    with refused("io.format", "2 of 2 blocks wait"):
        read_request(twice)
    first = envelope._replace(blocks=(*envelope.blocks, *decode_envelope(signed).blocks))
    with refused("io.format", "1 of 2 blocks wait for a signature, expected the last one"):
        read_request(encode_envelope(first))
    bare = encode_block(
        decode_block(envelope.blocks[0])._replace(protected=b"\xa1\x01\x28", chain=(), crls=())
    )
    with refused("io.format", "has no certificate"):
        read_request(encode_envelope(envelope._replace(blocks=(bare,))))
    broken = encode_envelope(envelope._replace(blocks=(b"\xff",)))
    assert not is_request(broken)
    none = encode_envelope(envelope._replace(blocks=()))
    assert not is_request(none)
    with refused("io.format", "0 of 0 blocks"):
        read_request(none)


def test_any_byte_of_a_request_that_is_signed_counts(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), pki.crls)
    signature = raw(pki, read_request(data).message)
    accepted_at = []
    for at in range(0, len(data), 7):
        other = bytearray(data)
        other[at] ^= 1
        try:
            wanted = read_request(bytes(other))
            accept(completed(wanted, signature), wanted, pki)
        except FwsignError:
            continue
        accepted_at.append(at)
    assert accepted_at == []


def test_another_certificate_of_the_same_key_cannot_take_the_place(
    pki: Pki, release: Release
) -> None:
    data = request(release, chain(pki), pki.crls)
    signature = raw(pki, read_request(data).message)
    renewed = make_leaf(pki.issuing, key=pki.leaf.key)
    with refused("tampered.signature"):
        completed(ask(release, pki._replace(leaf=renewed)), signature)
    envelope = decode_envelope(data)
    block = decode_block(envelope.blocks[0])._replace(chain=(renewed.der, pki.issuing.der))
    with refused("tampered.x5t"):
        read_request(encode_envelope(envelope._replace(blocks=(encode_block(block),))))


def test_programs_read_the_same_of_it(pki: Pki, release: Release) -> None:
    wanted = ask(release, pki)
    assert about(wanted) == {
        "manifest_digest": wanted.manifest_digest.hex(),
        "to_sign": wanted.message.hex(),
        "to_sign_sha256": digest_of(wanted.message, "SHA-256").hex(),
        "algorithm": "ESP256",
        "signer": "release",
        "key": parse_certificate(pki.leaf.der).spki,
        "certificate": digest_of(pki.leaf.der, "SHA-256").hex(),
    }


# --- several people ---------------------------------------------------------------------------


def test_several_people_sign_one_envelope_in_any_order(pki: Pki, release: Release) -> None:
    people = [make_leaf(pki.issuing, name) for name in ("alice", "bob", "carol")]
    first = request(release, (people[0].der, pki.issuing.der), pki.crls)
    requests = [first, *(further_request(first, (one.der, pki.issuing.der)) for one in people[1:])]
    for order in ((0, 1, 2), (2, 0, 1)):
        made = None
        for number in order:
            wanted = read_request(requests[number])
            signature = FileSigner(people[number].key).sign(wanted.message)
            made = completed(wanted, signature, into=made)
        assert made is not None
        wanted = read_request(requests[order[-1]])
        found = accepted(staple(made, pki.crls), wanted.leaf, [pki.root.anchor], at=NOW)
        assert [path.name for _, path in found.counted] == [
            ("alice", "bob", "carol")[number] for number in order
        ]


def test_the_signature_of_a_bare_key_is_not_lost(pki: Pki, release: Release) -> None:
    alice, bob = (make_leaf(pki.issuing, name) for name in ("alice", "bob"))
    wanted = read_request(request(release, (alice.der, pki.issuing.der), pki.crls))
    bare = make_block(wanted.envelope.digest, new_key("ed25519"))
    signed = encode_envelope(wanted.envelope._replace(blocks=(bare,)))
    first = completed(wanted, FileSigner(alice.key).sign(wanted.message))
    second = read_request(further_request(signed, (bob.der, pki.issuing.der), pki.crls))
    for _ in range(2):
        made = completed(second, FileSigner(bob.key).sign(second.message), into=first)
        blocks = decode_envelope(made).blocks
        assert (len(blocks), blocks.count(bare)) == (3, 1)
        first = encode_envelope(decode_envelope(made)._replace(blocks=blocks[:2]))


def test_one_person_cannot_sign_twice(pki: Pki, release: Release) -> None:
    wanted = ask(release, pki)
    signature = raw(pki, wanted.message)
    made = completed(wanted, signature)
    with refused("key.mismatch", 'the key of "release" has signed this already'):
        completed(wanted, signature, into=made)
    with refused("key.mismatch", "has signed this already"):
        further_request(made, chain(pki))


def test_signatures_of_two_releases_do_not_mix(pki: Pki, release: Release, tmp_path: Path) -> None:
    (tmp_path / "build.bin").write_bytes(b"other")
    other = describe(
        [ReleaseFile(tmp_path / "build.bin", file_identifier("build.bin"))],
        TEXT,
        sequence_number=100,
    )
    there = ask(other, pki)
    made = completed(there, raw(pki, there.message))
    bob = make_leaf(pki.issuing, "bob")
    wanted = read_request(request(release, (bob.der, pki.issuing.der), pki.crls))
    with refused("tampered.manifest", "the envelope has the manifest"):
        completed(wanted, FileSigner(bob.key).sign(wanted.message), into=made)


def test_an_envelope_takes_no_more_than_its_limit(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), ())
    for number in range(MAX_BLOCKS):
        one = make_leaf(pki.issuing, f"p{number}")
        data = further_request(data, (one.der, pki.issuing.der))
        wanted = read_request(data)
        data = completed(wanted, FileSigner(one.key).sign(wanted.message))
    with refused("malformed.size", f"has {MAX_BLOCKS} signatures"):
        further_request(data, chain(pki))


def test_devices_need_not_trust_the_others(pki: Pki, release: Release) -> None:
    stranger = make_pki(common="Other ")
    made = completed(wanted := ask(release, stranger), raw(stranger, wanted.message))
    mine = read_request(further_request(made, chain(pki), pki.crls))
    both = completed(mine, raw(pki, mine.message))
    accept(both, mine, pki)
    with refused("untrusted.no-anchor"):
        accept(made, wanted, pki)


# --- the forms of signatures ------------------------------------------------------------------


def forms(signature: bytes) -> dict[str, bytes]:
    return {
        "raw": signature,
        "hex": signature.hex().encode(),
        "hex with colons": ":".join(f"{one:02X}" for one in signature).encode() + b"\n",
        "base64": base64.b64encode(signature) + b"\n",
        "base64 in lines": base64.encodebytes(signature),
        "base64url": base64.urlsafe_b64encode(signature).rstrip(b"="),
        "OpenBao": b"vault:v1:" + base64.b64encode(signature),
    }


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_each_form_of_a_signature_is_read(pkis: dict[str, Pki], release: Release, alg: str) -> None:
    pki = pkis[alg]
    wanted = ask(release, pki)
    signature = raw(pki, wanted.message)
    for data in forms(signature).values():
        assert completed(wanted, data) == completed(wanted, signature)
    if isinstance(pki.leaf.key, ec.EllipticCurvePrivateKey):
        digest = {"p256": hashes.SHA256(), "p384": hashes.SHA384()}[alg]
        der = pki.leaf.key.sign(wanted.message, ec.ECDSA(digest))
        for data in forms(der).values():
            assert accept(completed(wanted, data), wanted, pki)


def test_signatures_over_digest_and_mu_are_the_same_signatures(
    pkis: dict[str, Pki], release: Release
) -> None:
    key: Any = pkis["p256"].leaf.key
    wanted = ask(release, pkis["p256"])
    hashed = key.sign(to_sign(wanted, "digest"), ec.ECDSA(Prehashed(hashes.SHA256())))
    assert accept(completed(wanted, hashed), wanted, pkis["p256"])
    for alg in ("ml-dsa-65", "ml-dsa-87"):
        wanted = ask(release, pkis[alg])
        signature = pkis[alg].leaf.key.sign_mu(to_sign(wanted, "mu"))
        assert accept(completed(wanted, signature), wanted, pkis[alg])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is 0 bytes"),
        (b"x" * 63, "it is 63 bytes, expected 64 bytes (r and s), or DER; base64 and hex"),
        (b"\x30\x06\x02\x01\x01\x02\x01", "it is 7 bytes"),
        (b"SSHSIG\0\0\0\1" + b"x" * 200, "a signature of ssh-keygen"),
        (b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lH", "a signature of ssh-keygen"),
        (b"-----BEGIN PGP SIGNATURE-----\n", "a signature of OpenPGP"),
        (b"-----BEGIN CMS-----\n", "a signature in CMS"),
        (b"-----BEGIN PKCS7-----\n", "a signature in CMS"),
        (b"-----BEGIN CERTIFICATE-----\n", "a file in PEM"),
        (b"untrusted comment: minisign", "a signature of minisign"),
    ],
)
def test_what_is_no_signature_says_what_it_is(
    pki: Pki, release: Release, data: bytes, words: str
) -> None:
    with refused("io.format", "not a signature of ESP256", words):
        completed(ask(release, pki), data)


def test_a_number_too_large_for_the_curve_is_no_signature(pki: Pki, release: Release) -> None:
    huge = b"\x30\x26\x02\x21" + b"\x01" + b"\0" * 32 + b"\x02\x01\x01"
    with refused("io.format"):
        completed(ask(release, pki), huge)


def test_readings_are_tried_and_not_guessed(pki: Pki) -> None:
    """A raw signature that happens to look like text or DER has more readings than one."""
    key = pki.leaf.key.public_key()
    text = b"ab" * 32  # 64 bytes: raw, and as hex half a signature
    assert readings(text, -9, key) == [text]
    digits = b"ab" * 64
    assert readings(digits, -9, key) == [b"\xab" * 64]


# --- mistakes are named -----------------------------------------------------------------------


def wrong(pki: Pki, release: Release, make: Callable[[Any, bytes], bytes], *words: str) -> None:
    wanted = ask(release, pki)
    with refused("tampered.signature", 'not the signature of "release"', *words):
        completed(wanted, make(pki.leaf.key, wanted.message))


def test_mistakes_with_ecdsa(pki: Pki, release: Release) -> None:
    sha256 = ec.ECDSA(hashes.SHA256())

    def hashed(message: bytes) -> bytes:
        return digest_of(message, "SHA-256")

    wrong(pki, release, lambda key, one: key.sign(hashed(one), sha256), "hashed once more")
    wrong(
        pki,
        release,
        lambda key, one: key.sign(hashed(one).hex().encode(), sha256),
        "the digits of their SHA-256, as text",
    )
    first = ec.ECDSA(Prehashed(hashes.SHA256()))
    wrong(pki, release, lambda key, one: key.sign(one[:32], first), "pkeyutl needs -rawin")
    sha384 = ec.ECDSA(hashes.SHA384())
    wrong(
        pki, release, lambda key, one: key.sign(one, sha384), "made with SHA-384, expected SHA-256"
    )
    manifest = ask(release, pki).envelope.manifest
    wrong(pki, release, lambda key, _: key.sign(manifest, sha256), "it is over the manifest")
    digest = ask(release, pki).envelope.digest
    wrong(pki, release, lambda key, _: key.sign(digest, sha256), "the digest of the manifest")


def test_mistakes_with_rsa(pkis: dict[str, Pki], release: Release) -> None:
    pki = pkis["rsa3072"]
    sha256 = hashes.SHA256()

    def pss(salt: int, algorithm: Any = sha256) -> Any:
        return lambda key, one: key.sign(one, padding.PSS(padding.MGF1(algorithm), salt), algorithm)

    for salt in (0, 20, 48, 64, 3072 // 8 - 32 - 2):
        words = f"by PSS with SHA-256 and a salt of {salt} bytes, expected SHA-256 and 32 bytes"
        wrong(pki, release, pss(salt), words)
    wrong(pki, release, pss(48, hashes.SHA384()), "PSS with SHA-384 and a salt of 48 bytes")
    wrong(
        pki,
        release,
        lambda key, one: key.sign(one, padding.PKCS1v15(), sha256),
        "the padding of PKCS #1 v1.5, expected PSS",
    )
    assert isinstance(pki.leaf.key, rsa.RSAPrivateKey)


def test_mistakes_with_ed25519_and_ml_dsa(pkis: dict[str, Pki], release: Release) -> None:
    for alg in ("ed25519", "ml-dsa-65"):
        wrong(
            pkis[alg],
            release,
            lambda key, one: key.sign(digest_of(one, "SHA-256")),
            "the SHA-256 of these bytes, hashed once more",
        )
    pki = pkis["ml-dsa-65"]
    mu = to_sign(ask(release, pki), "mu")
    wrong(pki, release, lambda key, _: key.sign(mu), "the mu of these bytes")
    wrong(pki, release, lambda key, one: key.sign(one, b"context"), "it is over other bytes than")


def test_a_signature_over_something_else_names_what_was_expected(
    pki: Pki, release: Release
) -> None:
    wanted = ask(release, pki)
    sha256 = digest_of(wanted.message, "SHA-256").hex()
    with refused("tampered.signature", f"those with SHA-256 {sha256}, or by another key than"):
        completed(wanted, raw(pki, b"something"))
    data = {"the request itself": b"request"}
    with refused("tampered.signature", "it is over the request itself"):
        completed(wanted, raw(pki, b"request"), instead=data)


def test_a_signature_of_another_known_person_is_told(pki: Pki, release: Release) -> None:
    bob = make_leaf(pki.issuing, "bob")
    wanted = ask(release, pki)
    signature = FileSigner(bob.key).sign(wanted.message)
    with refused("tampered.signature", "or by another key"):
        completed(wanted, signature)
    with refused("key.mismatch", 'by the key of "bob", this request is for "release"'):
        completed(wanted, signature, others=[parse_certificate(bob.der)])


def test_high_s_is_read_as_it_is(pki: Pki, release: Release) -> None:
    wanted = ask(release, pki)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signature = pki.leaf.key.sign(wanted.message, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    other = r.to_bytes(32, "big") + (order - s).to_bytes(32, "big")
    accept(completed(wanted, other), wanted, pki)  # devices take both


# --- devices would refuse it -------------------------------------------------------------------


def test_what_a_device_would_refuse_is_refused(pki: Pki, release: Release) -> None:
    revoked = (make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root))
    wanted = ask(release, pki, revoked)
    made = completed(wanted, raw(pki, wanted.message))
    with refused("untrusted.revoked"):
        accept(made, wanted, pki)
    soon = (make_crl(pki.issuing, days=(-1, 0)), make_crl(pki.root))
    wanted = ask(release, pki, soon)
    made = completed(wanted, raw(pki, wanted.message))
    with refused("stale.crl"):
        accept(made, wanted, pki)
    late = (make_crl(pki.issuing, days=(3, 30)), make_crl(pki.root))
    wanted = ask(release, pki, late)
    made = completed(wanted, raw(pki, wanted.message))
    with refused("state.clock", "the clock is wrong"):
        accept(made, wanted, pki)
    accept(made, wanted, pki, force=True)
    with refused("untrusted.no-anchor"):
        accept(made, wanted, make_pki(), force=True)


def test_a_severed_text_changes_nothing(pki: Pki, release: Release) -> None:
    data = request(release, chain(pki), pki.crls)
    envelope = decode_envelope(data)
    wanted = read_request(encode_envelope(envelope._replace(text=None)))
    assert wanted.text is None
    made = completed(wanted, raw(pki, read_request(data).message))
    assert accept(made, wanted, pki).vendor == VENDOR
