"""MCUboot's native signature: the same bytes as imgtool, each mutation refused by name."""

import contextlib
import hashlib
import io
import struct
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fwsign import native
from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable
from fwsign.keys import open_key
from fwsign.keys.held import HeldKey, Scheme
from fwsign.native.mcuboot import McubootOptions, read, sign
from softhsm_kit import PIN, SoftHsm
from support import require_package

BODY = bytes(range(256)) * 8
KINDS = ("P-256", "P-384", "RSA-2048", "RSA-3072", "Ed25519")
HEADED = McubootOptions(version="1.2.3+4", header_size=0x200, pad_header=True)


@cache
def private(kind: str, number: int = 0) -> Any:
    """Make a key; the number tells several of one kind apart."""
    del number
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind[4:]))
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "secp256k1": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


class Keys(NamedTuple):
    """A directory with key files."""

    place: Path

    def path(self, kind: str, number: int = 0) -> Path:
        """Return the file of a key."""
        path = self.place / f"{kind}-{number}.pem"
        pem = private(kind, number).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem)
        return path

    def held(self, kind: str, number: int = 0) -> HeldKey:
        """Open a key."""
        return open_key(str(self.path(kind, number)), lambda: None)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def imgtool(*words: object) -> str:
    """Run the real imgtool."""
    require_package("imgtool")
    command: Any = import_module("imgtool.main").imgtool
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # in this process: it takes half a second to start
        command.main([*map(str, words)], standalone_mode=False)
    return said.getvalue()


def unsigned(image: bytes) -> bytes:
    """Return an image with the value of its ECDSA or RSA signature taken out, and no sizes."""
    order = "<" if image[:4] == b"\x3d\xb8\xf3\x96" else ">"
    header, protected, size = struct.unpack_from(order + "HHI", image, 8)
    at = header + size + protected
    (total,) = struct.unpack_from(order + "H", image, at + 2)
    made, end = image[:at], at + total
    at += 4
    while at < end:
        kind, (length,) = image[at : at + 2], struct.unpack_from(order + "H", image, at + 2)
        value = image[at + 4 : at + 4 + length]
        made += kind + (b"" if kind[0] in {0x20, 0x22, 0x23} and not kind[1] else value)
        at += 4 + length
    rest = image[end:]
    return made + (rest.lstrip(b"\xff\0") if len(rest) else b"")


# By name: the words for imgtool, ours, and the security counter.
LAYOUTS: dict[str, tuple[str, McubootOptions, int | None]] = {
    "plain": ("", McubootOptions(), None),
    "counter": ("--security-counter 7", McubootOptions(), 7),
    "counter 0": ("--security-counter 0", McubootOptions(), 0),
    "most of a counter": ("--security-counter 4294967295", McubootOptions(), 4294967295),
    "padded": ("--pad --align 8", McubootOptions(pad=True, align=8), None),
    "test": ("--test", McubootOptions(pad=True), None),
    "confirmed": (
        "--confirm --align 4 --max-sectors 200",
        McubootOptions(confirm=True, align=4, max_sectors=200),
        1,
    ),
    "wide": (
        "--pad --confirm --max-align 32",
        McubootOptions(pad=True, confirm=True, max_align=32),
        None,
    ),
    "aligned to 16": ("--confirm --align 16", McubootOptions(confirm=True, align=16), None),
    "overwrite only": (
        "--confirm --overwrite-only",
        McubootOptions(confirm=True, overwrite_only=True),
        None,
    ),
    "erased to 0": ("--pad --erased-val 0", McubootOptions(pad=True, erased=0), None),
    "big-endian": (
        "--endian big --security-counter 9 --pad --max-align 16 --custom-tlv 0x00a1 0x1234",
        McubootOptions(big_endian=True, pad=True, max_align=16, custom=((0xA1, "1234"),)),
        9,
    ),
    "for ram": ("--load-addr 0x20000000", McubootOptions(load_address=0x20000000), None),
    "rom-fixed": ("--rom-fixed 0x10000", McubootOptions(rom_fixed=0x10000), None),
    "not bootable": ("--non-bootable", McubootOptions(non_bootable=True), None),
    "full key": ("--public-key-format full", McubootOptions(full_key=True), None),
    "boot record": ("--boot-record CoFM", McubootOptions(boot_record="CoFM"), 3),
    "dependencies": (
        "--dependencies",
        McubootOptions(dependencies=((0, "1.0.0+0"), (2, "1.2"))),
        None,
    ),
    "custom": (
        "--custom-tlv 0x00a1 0x1234 --custom-tlv 0x01a2 text",
        McubootOptions(custom=((0xA1, "1234"), (0x1A2, b"text".hex()))),
        1,
    ),
}
LAYOUTS["boot record"] = (
    "--boot-record CoFM --security-counter 3",
    *LAYOUTS["boot record"][1:],
)
for _name in ("confirmed", "custom"):
    LAYOUTS[_name] = (LAYOUTS[_name][0] + " --security-counter 1", *LAYOUTS[_name][1:])


def by_imgtool(place: Path, words: Sequence[object], *, key: Path | None, body: bytes) -> bytes:
    """Sign with imgtool, in a slot of 64 KiB with a header of 512 bytes."""
    source, out = place / "app.bin", place / "theirs.bin"
    source.write_bytes(body)
    sizes = ("--header-size", "0x200", "--slot-size", "0x10000", "--version", "1.2.3+4")
    with_key = ("--key", key) if key else ()
    imgtool("sign", *sizes, *with_key, *words, source, out)
    return out.read_bytes()


def with_sizes(options: McubootOptions) -> McubootOptions:
    return options._replace(
        version="1.2.3+4", header_size=0x200, pad_header=True, slot_size=0x10000
    )


@pytest.mark.external
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bytes_are_imgtools(layout: str, keys: Keys) -> None:
    words, options, counter = LAYOUTS[layout]
    given = [*words.split(), *(["(0,1.0.0+0)(2,1.2)"] if layout == "dependencies" else [])]
    path = keys.path("Ed25519")
    theirs = by_imgtool(keys.place, [*given, "--pad-header"], key=path, body=BODY)
    ours = sign(BODY, [keys.held("Ed25519")], security_version=counter, options=with_sizes(options))
    assert ours == theirs  # Ed25519 is deterministic: wholly identical
    # And with another digest, apart from the signature.
    p384 = keys.path("P-384")
    theirs = by_imgtool(keys.place, [*given, "--pad-header"], key=p384, body=BODY)
    ours = sign(BODY, [keys.held("P-384")], security_version=counter, options=with_sizes(options))
    assert unsigned(ours) == unsigned(theirs)
    assert read(theirs, [keys.held("P-384").public_key]) is not None


@pytest.mark.external
@pytest.mark.parametrize("kind", KINDS)
def test_each_algorithm_goes_both_ways(kind: str, keys: Keys) -> None:
    path, held = keys.path(kind), keys.held(kind)
    body = bytes(0x200) + BODY  # room for the header
    theirs = by_imgtool(keys.place, ["--security-counter", "5"], key=path, body=body)
    options = with_sizes(McubootOptions())._replace(pad_header=False)
    ours = sign(body, [held], security_version=5, options=options)
    assert unsigned(ours) == unsigned(theirs)
    out = keys.place / "ours.bin"
    out.write_bytes(ours)
    assert "Image was correctly validated" in imgtool("verify", "--key", path, out)
    for image in (ours, theirs):
        found = read(image, [held.public_key])
        assert found is not None
        assert (found.kind, found.security_version) == ("mcuboot", 5)
        (one,) = found.signatures
        assert one.public_key == held.public_key
        assert one.algorithm.replace("ECDSA ", "") == kind
        digest = hashlib.sha384 if kind == "P-384" else hashlib.sha256
        form = PublicFormat.PKCS1 if "RSA" in kind else PublicFormat.SubjectPublicKeyInfo
        encoded = one.public_key.public_bytes(Encoding.DER, form)
        assert one.key_digest == digest(encoded).digest()


@pytest.mark.external
@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--pure", McubootOptions(pure=True)),
        ("--sha 512", McubootOptions(digest="SHA-512")),
        ("--sha 256", McubootOptions(digest="SHA-256")),
        ("--pure --public-key-format full", McubootOptions(pure=True, full_key=True)),
    ],
)
def test_digests_of_ed25519_are_imgtools(words: str, options: McubootOptions, keys: Keys) -> None:
    path, held = keys.path("Ed25519"), keys.held("Ed25519")
    given = [*words.split(), "--pad-header"]
    theirs = by_imgtool(keys.place, given, key=path, body=BODY)
    assert sign(BODY, [held], options=with_sizes(options)) == theirs
    found = read(theirs, [held.public_key])
    assert found is not None
    assert found.signatures[0].public_key == held.public_key


IMGTOOL_OPTIONS = (
    "--pad-sig",
    "--vid acme.example --cid x1",
    "--compression lzma2",
    "--compression lzma2armthumb --security-counter 3",
    "--public-key-format full --pad",
    "--security-counter auto",
)


@pytest.mark.external
@pytest.mark.parametrize("kind", ["P-256", "P-384"])
@pytest.mark.parametrize("words", IMGTOOL_OPTIONS)
def test_what_imgtool_makes_is_read_and_checked(words: str, kind: str, keys: Keys) -> None:
    body = b"code" * 2000  # which gets smaller
    given = [*words.split(), "--pad-header"]
    theirs = by_imgtool(keys.place, given, key=keys.path(kind), body=body)
    public = keys.held(kind).public_key
    found = read(theirs, [private(kind, 1).public_key(), public])
    assert found is not None
    assert found.signatures[0].public_key == public
    assert found.security_version == {"auto": (1 << 24) + (2 << 16) + 3, "3": 3}.get(
        words.rpartition(" ")[2]
    )


@pytest.mark.external
def test_a_signature_in_an_encrypted_image_is_never_called_checked(keys: Keys) -> None:
    path, public = keys.path("P-256"), keys.held("P-256").public_key
    words = ["--pad-header", "--encrypt", path]
    theirs = by_imgtool(keys.place, words, key=path, body=BODY)
    found = read(theirs, [public])
    assert found is not None
    assert [one.public_key for one in found.signatures] == [None]
    with pytest.raises(Failed) as refusal:
        sign(theirs, [keys.held("P-256", 1)])
    assert refusal.value.code == "io.format"
    assert refusal.value.message == (
        "mcuboot image: expected one that is neither encrypted nor compressed, found encrypted"
    )


@pytest.mark.external
def test_two_keys_sign_and_imgtool_accepts_each(keys: Keys) -> None:
    old, new = keys.held("P-256"), keys.held("P-256", 1)
    image = sign(BODY, [old, new], security_version=2, options=HEADED)
    out = keys.place / "bridge.bin"
    out.write_bytes(image)
    for number in (0, 1):
        said = imgtool("verify", "--key", keys.path("P-256", number), out)
        assert "Image was correctly validated" in said
    found = read(image, [new.public_key])
    assert found is not None
    assert [one.public_key for one in found.signatures] == [None, new.public_key]


@pytest.mark.external
def test_an_image_of_imgtool_gets_a_second_signature(keys: Keys) -> None:
    old, new = keys.path("P-256"), keys.held("P-256", 1)
    theirs = by_imgtool(keys.place, ["--pad-header", "-s", "4"], key=old, body=BODY)
    both = sign(theirs, [new])
    assert unsigned(both).startswith(unsigned(theirs))
    found = read(both, [keys.held("P-256").public_key, new.public_key])
    assert found is not None
    assert None not in [one.public_key for one in found.signatures]
    assert sign(both, [new]) == both  # a key signs once
    with pytest.raises(Unsuitable) as refusal:
        sign(theirs, [new], security_version=5)
    assert refusal.value.code == "unsuitable.security-version"
    assert refusal.value.message == (
        "mcuboot: the image has signatures over security counter 4, and 5 was asked for"
    )


@pytest.mark.external
def test_an_unsigned_image_of_imgtool_is_signed_with_a_counter(keys: Keys) -> None:
    theirs = by_imgtool(keys.place, ["--pad-header", "-s", "4"], key=None, body=BODY)
    key = keys.held("Ed25519")
    expected = sign(BODY, [key], security_version=9, options=HEADED)
    assert read(theirs) is None
    assert sign(theirs, [key], security_version=9) == expected


def test_same_inputs_give_the_same_bytes(keys: Keys) -> None:
    for kind in ("P-256", "P-384", "Ed25519"):
        made = {sign(BODY, [keys.held(kind)], options=HEADED) for _ in range(3)}
        assert len(made) == 1


def test_a_signature_whose_key_is_not_given_has_no_key(keys: Keys) -> None:
    image = sign(BODY, [keys.held("P-256")], options=HEADED)
    found = read(image, [private("P-256", 1).public_key()])
    assert found is not None
    assert found.signatures[0].public_key is None
    assert len(found.key_digests[0]) == 32


def test_what_has_no_signature_has_none(keys: Keys) -> None:
    assert read(b"") is None
    assert read(b"\xe9" * 100) is None
    signed = sign(BODY, [keys.held("Ed25519")], options=HEADED)
    assert read(signed[: 0x200 + len(BODY)]) is None  # no TLVs at all


AREA = 0x200 + len(BODY) + 12
"""Where the unprotected TLVs of `image_with_counter` begin."""


def image_with_counter(keys: Keys, *kinds: tuple[str, int]) -> bytes:
    held = [keys.held(*one) for one in kinds or (("P-256", 0),)]
    return sign(BODY, held, security_version=7, options=HEADED)


def tlvs_of(image: bytes) -> list[tuple[int, bytes]]:
    found, at = [], AREA + 4
    while at < len(image):
        kind, length = struct.unpack_from("<HH", image, at)
        found.append((kind, image[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def with_tlvs(image: bytes, tlvs: Sequence[tuple[int, bytes]]) -> bytes:
    area = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in tlvs)
    return image[:AREA] + struct.pack("<HH", 0x6907, 4 + len(area)) + area


def changed(number: int, value: bytes) -> Callable[[bytes], bytes]:
    """Replace the value of an unprotected TLV."""

    def change(image: bytes) -> bytes:
        tlvs = tlvs_of(image)
        tlvs[number] = (tlvs[number][0], value)
        return with_tlvs(image, tlvs)

    return change


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda image: image[:at] + bytes([image[at] ^ 1]) + image[at + 1 :]


def added(kind: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda image: with_tlvs(image, [*tlvs_of(image), (kind, value)])


def ordered(*numbers: int) -> Callable[[bytes], bytes]:
    return lambda image: with_tlvs(image, [tlvs_of(image)[one] for one in numbers])


def with_protected(*tlvs: tuple[int, bytes]) -> Callable[[bytes], bytes]:
    """Replace the protected TLVs, and let the hash follow: the signature does not."""

    def change(image: bytes) -> bytes:
        area = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in tlvs)
        head = image[:10] + struct.pack("<H", 4 + len(area)) + image[12 : 0x200 + len(BODY)]
        hashed = head + struct.pack("<HH", 0x6908, 4 + len(area)) + area
        rest = image[AREA:]
        return hashed + rest[:8] + hashlib.sha256(hashed).digest() + rest[40:]

    return change


MUTATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "version": (flipped(20), "mcuboot image: sha256: expected "),
    "flags": (flipped(16), "mcuboot image: sha256: expected "),
    "payload": (flipped(0x300), "mcuboot image: sha256: expected "),
    "padding of the header": (flipped(100), "mcuboot image: sha256: expected "),
    "security counter": (flipped(AREA - 2), "mcuboot image: sha256: expected "),
    "hash": (changed(0, bytes(32)), "mcuboot image: sha256: expected "),
    "short hash": (changed(0, bytes(31)), "mcuboot image: sha256: expected 32 bytes, found 31"),
    "short key hash": (
        changed(1, bytes(16)),
        "mcuboot image: key hash: expected 32 bytes, found 16 bytes",
    ),
    "signature of other bytes": (
        with_protected((0x50, struct.pack("<I", 8))),
        "mcuboot: signature 0: expected one that verifies with key ",
    ),
    "no protected area": (
        lambda image: image[:10] + b"\0\0" + image[12:],
        "mcuboot image: magic of tlvs: expected 0x6907, found 0x6908",
    ),
    "counter of 5 bytes": (
        with_protected((0x50, bytes(5))),
        "mcuboot image: security counter: expected 4 bytes, found 5 bytes",
    ),
    "two counters": (
        with_protected((0x50, bytes(4)), (0x50, bytes(4))),
        "mcuboot image: protected tlvs: expected each type once, found type 0x50 again",
    ),
    "protected key hash": (
        with_protected((0x50, bytes(4)), (1, bytes(32))),
        "mcuboot image: protected tlvs: expected no key and no signature, found type 0x1",
    ),
    "unprotected counter": (
        added(0x50, struct.pack("<I", 999)),
        (
            "mcuboot image: tlvs: expected a hash, key, signature or wrapped key, found type 0x50, "
            "which nothing protects"
        ),
    ),
    "unprotected dependency": (
        added(0x40, bytes(12)),
        (
            "mcuboot image: tlvs: expected a hash, key, signature or wrapped key, found type 0x40, "
            "which nothing protects"
        ),
    ),
    "unprotected tlv of a vendor": (
        added(0xA0, b"EVIL"),
        "mcuboot image: tlvs: expected none of a vendor, which nothing protects, found type 0xa0",
    ),
    "two hashes": (
        added(0x11, bytes(48)),
        "mcuboot image: tlvs: expected one hash, found 2 hashes",
    ),
    "key without a signature": (
        ordered(0, 1),
        "mcuboot image: tlvs: expected a signature after its key, found no signature",
    ),
    "signature without a key": (
        ordered(0, 2),
        "mcuboot image: tlvs: expected a key before its signature, found type 0x22",
    ),
    "signature before its key": (
        ordered(0, 2, 1),
        "mcuboot image: tlvs: expected a key before its signature, found type 0x22",
    ),
    "two keys": (
        ordered(0, 1, 1, 2),
        "mcuboot image: tlvs: expected a signature after its key, found type 0x1",
    ),
    "a signature twice": (
        ordered(0, 1, 2, 1, 2),
        "mcuboot image: tlvs: expected each key once, found key ",
    ),
    "no hash": (ordered(1, 2), "mcuboot image: tlvs: expected one hash, found 0 hashes"),
    "no der": (
        changed(2, bytes(70)),
        "mcuboot image: signature: expected a DER signature, found 70 bytes",
    ),
    "empty signature": (
        changed(2, b""),
        "mcuboot image: signature: expected a DER signature, found 0 bytes",
    ),
    "pure with ecdsa": (
        added(0x25, b"\1"),
        (
            "mcuboot image: signature: expected an algorithm that suits the hash, found ecdsa with "
            "SHA-256, pure"
        ),
    ),
    "pure that is none": (
        added(0x25, b"\0"),
        "mcuboot image: mark of a pure signature: expected 01, found 00",
    ),
    "other algorithm": (
        lambda image: with_tlvs(image, [*tlvs_of(image)[:2], (0x24, bytes(64))]),
        "mcuboot: signature 0: expected one that verifies with key ",
    ),
    "short rsa": (
        lambda image: with_tlvs(image, [*tlvs_of(image)[:2], (0x23, bytes(256))]),
        "mcuboot image: signature: expected 384 bytes, found 256 bytes",
    ),
    "p-224": (
        lambda image: with_tlvs(image, [*tlvs_of(image)[:2], (0x21, bytes(64))]),
        (
            "mcuboot image: signature: expected an algorithm that suits the hash, "
            "found ecdsa p-224 with SHA-256"
        ),
    ),
    "no public key": (
        lambda image: with_tlvs(image, [tlvs_of(image)[0], (2, b"key"), tlvs_of(image)[2]]),
        "mcuboot image: public key: expected a key in DER, found 3 bytes of something else",
    ),
    "bytes after it": (
        lambda image: image + b"EVIL" * 100,
        "mcuboot image: bytes after the tlvs: expected erased flash, found 45",
    ),
    "hidden bytes in the slot": (
        lambda image: image + b"\xff" * 300 + b"EVIL" + b"\xff" * 100,
        "mcuboot image: trailer: expected erased flash or the magic, found ",
    ),
}


def test_a_key_of_another_kind_than_the_signature_is_refused(keys: Keys) -> None:
    """A P-384 key over SHA-256: it verifies, and is none of MCUboot's algorithms."""
    image, p384 = image_with_counter(keys), private("P-384")
    tlvs = tlvs_of(image)
    spki = p384.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = p384.sign(image[:AREA], ec.ECDSA(hashes.SHA256()))
    while len(signature) > 104:
        signature = p384.sign(image[:AREA], ec.ECDSA(hashes.SHA256()))
    forged = with_tlvs(image, [tlvs[0], (1, hashlib.sha256(spki).digest()), (0x22, signature)])
    with pytest.raises(Tampered) as refusal:
        read(forged, [p384.public_key()])
    assert refusal.value.message == (
        "mcuboot: signature 0: expected one that verifies with key "
        f"{hashlib.sha256(spki).hexdigest()}, found another ECDSA P-256 signature"
    )
    full = with_tlvs(image, [tlvs[0], (2, spki), (0x22, signature)])
    with pytest.raises(Tampered):
        read(full)


def test_a_key_in_another_encoding_is_refused(keys: Keys) -> None:
    image, rsa_key = image_with_counter(keys), private("RSA-2048").public_key()
    spki = rsa_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tlvs = [tlvs_of(image)[0], (2, spki), (0x20, bytes(256))]
    with pytest.raises(Malformed) as refusal:
        read(with_tlvs(image, tlvs))
    assert refusal.value.message == (
        "mcuboot image: public key: expected a key in DER, found 294 bytes of something else"
    )


@pytest.mark.parametrize("kind", ["P-256", "RSA-2048"])
def test_images_are_the_same_apart_from_random_signatures(kind: str, keys: Keys) -> None:
    """A key that signs at random, as RSA and tokens do."""
    key = RandomKey(keys.held(kind), private(kind, 0))
    slot = HEADED._replace(pad=True, slot_size=0x8000)
    for options in (HEADED, slot):
        one, two = (sign(BODY, [key], security_version=1, options=options) for _ in range(2))
        assert one != two
        assert native.same("mcuboot", one, two)
        other = sign(BODY, [key], security_version=2, options=options)
        assert not native.same("mcuboot", one, other)
    assert not native.same("mcuboot", sign(BODY, [key], options=HEADED), BODY)


class RandomKey:
    """A held key whose ECDSA is random."""

    def __init__(self, held: HeldKey, own: Any) -> None:
        self._held, self._own = held, own
        self.place, self.public_key = held.place, held.public_key

    def sign_raw(self, scheme: Any, data: bytes, digest: str = "") -> bytes:
        if scheme is not Scheme.ECDSA:
            return self._held.sign_raw(scheme, data, digest)
        r, s = decode_dss_signature(self._own.sign(data, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mutation_is_refused_by_name(mutation: str, keys: Keys) -> None:
    mutate, message = MUTATIONS[mutation]
    image = image_with_counter(keys)
    assert read(image, [keys.held("P-256").public_key]) is not None
    with pytest.raises((Malformed, Tampered)) as refusal:
        read(mutate(image), [keys.held("P-256").public_key])
    code = "tampered.native" if message.startswith("mcuboot:") else "malformed.image"
    assert refusal.value.code == code
    assert refusal.value.message.startswith(message)


def test_any_flipped_byte_is_refused_or_names_another_key(keys: Keys) -> None:
    image, public = image_with_counter(keys), keys.held("P-256").public_key
    for at in [*range(4, 0x30), *range(0x1F0, 0x230), *range(AREA - 12, len(image))]:
        if at in range(AREA + 44, AREA + 76):  # the key's hash: then it is another key
            found = read(flipped(at)(image), [public])
            assert found is not None
            assert found.signatures[0].public_key is None
            continue
        with pytest.raises((Malformed, Tampered)):
            read(flipped(at)(image), [public])


def test_any_cut_is_refused(keys: Keys) -> None:
    image, public = image_with_counter(keys), keys.held("P-256").public_key
    for size in [*range(4, 0x40), *range(0x200 + len(BODY), len(image))]:
        with pytest.raises(Malformed) as refusal:
            read(image[:size], [public])
        assert refusal.value.code == "malformed.image"


REFUSED_OPTIONS: dict[str, tuple[McubootOptions, str]] = {
    "no header size": (
        McubootOptions(),
        "header size: expected 32 to 65535 bytes, for an image without, found 0",
    ),
    "small header": (
        McubootOptions(header_size=31),
        "header size: expected 32 to 65535 bytes, for an image without, found 31",
    ),
    "large header": (
        McubootOptions(header_size=0x10000, pad_header=True),
        "header size: expected 32 to 65535 bytes, for an image without, found 65536",
    ),
    "no room for the header": (
        McubootOptions(header_size=32),
        (
            "start of the image: expected 32 zeros, as room for the header, "
            "found 000102030405060708090a0b0c0d0e0f"
        ),
    ),
    "image smaller than its header": (
        McubootOptions(header_size=0x4000),
        (
            "start of the image: expected 16384 zeros, as room for the header, "
            "found 000102030405060708090a0b0c0d0e0f"
        ),
    ),
    "no version": (
        HEADED._replace(version="v1"),
        (
            "version of an mcuboot image: expected MAJOR.MINOR.REVISION+BUILD of at most "
            '255.255.65535+4294967295, found "v1"'
        ),
    ),
    "large version": (
        HEADED._replace(version="256.0.0"),
        (
            "version of an mcuboot image: expected MAJOR.MINOR.REVISION+BUILD of at most "
            '255.255.65535+4294967295, found "256.0.0"'
        ),
    ),
    "alignment": (
        HEADED._replace(align=3),
        "align: expected 1 or 2 or 4 or 8 or 16 or 32, found 3",
    ),
    "largest alignment": (
        HEADED._replace(max_align=4),
        "max-align: expected 0 or 8 or 16 or 32, found 4",
    ),
    "erased value": (
        HEADED._replace(erased=1),
        "erased value: expected 255 or 0, found 1",
    ),
    "two addresses": (
        HEADED._replace(load_address=1, rom_fixed=2),
        "load address and rom-fixed address: expected one of them, found 0x1 and 0x2",
    ),
    "large slot": (
        HEADED._replace(slot_size=1 << 27, pad=True),
        "slot size: expected 0 to 67108864, found 134217728",
    ),
    "load address": (
        HEADED._replace(load_address=1 << 32),
        "load address: expected 0 to 4294967295, found 4294967296",
    ),
    "rom-fixed address": (
        HEADED._replace(rom_fixed=-1),
        "rom-fixed address: expected 0 to 4294967295, found -1",
    ),
    "number of a dependency": (
        HEADED._replace(dependencies=((256, "1.0"),)),
        "dependency 256: expected 0 to 255, found 256",
    ),
    "version of a dependency": (
        HEADED._replace(dependencies=((1, "one"),)),
        "version of an mcuboot image: expected MAJOR.MINOR.REVISION+BUILD ",
    ),
    "no slot to fill": (
        HEADED._replace(pad=True),
        "slot size: expected a size, since the slot is filled, found none",
    ),
    "small slot": (
        HEADED._replace(slot_size=3000),
        "mcuboot image: expected at most 3000 bytes, the slot's size, found ",
    ),
    "long boot record": (
        HEADED._replace(boot_record="x" * 13),
        'boot record: expected at most 12 ascii characters, found "xxxxxxxxxxxxx"',
    ),
    "custom tlv that is not": (
        HEADED._replace(custom=((0x50, ""),)),
        "type of a custom tlv: expected a low byte of 0xa0 to 0xfe, found 0x0050",
    ),
    "custom tlv twice": (
        HEADED._replace(custom=((0xA0, ""), (0xA0, "78"))),
        "custom tlvs: expected each type once, found 0x00a0, 0x00a0",
    ),
    "custom tlv that is not hex": (
        HEADED._replace(custom=((0xA0, "0x1"),)),
        'value of custom tlv 0x00a0: expected hex, two digits a byte, found "0x1"',
    ),
    "long custom tlv": (
        HEADED._replace(custom=((0xA0, "00" * 0xFFFF),)),
        "tlvs of the image: expected at most 65535 bytes, found 65543 bytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED_OPTIONS)
def test_options_that_do_not_fit_are_refused(case: str, keys: Keys) -> None:
    options, message = REFUSED_OPTIONS[case]
    with pytest.raises(Failed) as refusal:
        sign(BODY, [keys.held("P-256")], options=options)
    assert refusal.value.code == "io.format"
    assert refusal.value.message.startswith(message)


@pytest.mark.parametrize("counter", [-1, 1 << 32])
def test_a_counter_that_no_image_has_is_refused(counter: int, keys: Keys) -> None:
    with pytest.raises(Failed) as refusal:
        sign(BODY, [keys.held("P-256")], security_version=counter, options=HEADED)
    assert refusal.value.message == (f"security counter: expected 0 to 4294967295, found {counter}")


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        ((), HEADED, "mcuboot: no key was given"),
        (
            (("secp256k1", 0),),
            HEADED,
            (
                "mcuboot checks no signatures of secp256k1, only of "
                "P-256, P-384, RSA-2048, RSA-3072, Ed25519"
            ),
        ),
        (
            (("P-256", 0), ("P-384", 0)),
            HEADED,
            "mcuboot: ECDSA P-384 signs SHA-384, and the image has SHA-256: ",
        ),
        (
            (("P-256", 0),),
            HEADED._replace(digest="SHA-512"),
            "mcuboot: ECDSA P-256 signs SHA-256, and the image has SHA-512: ",
        ),
        (
            (("P-256", 0),),
            HEADED._replace(pure=True),
            "mcuboot: ECDSA P-256 makes no pure signatures: ",
        ),
        (
            (("Ed25519", 0),),
            HEADED._replace(pure=True, digest="SHA-256"),
            "mcuboot: Ed25519 signs SHA-512, and the image has SHA-256: ",
        ),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    kinds: Sequence[tuple[str, int]], options: McubootOptions, message: str, keys: Keys
) -> None:
    with pytest.raises(Failed) as refusal:
        sign(BODY, [keys.held(*one) for one in kinds], options=options)
    assert refusal.value.code == "key.unsupported"
    assert refusal.value.message.startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (McubootOptions(version="2.0"), "version of the image: expected (2, 0, 0, 0), found (1, "),
        (McubootOptions(header_size=32), "header size of the image: expected 32, found 512"),
        (McubootOptions(load_address=4), "load address of the image: expected 4, found 0"),
        (
            McubootOptions(boot_record="x"),
            "mcuboot image: expected one without a header, for new protected tlvs, found a header",
        ),
        (
            McubootOptions(full_key=True, digest="SHA-512"),
            "signatures that the image has: expected SHA-512, found SHA-256",
        ),
    ],
)
def test_an_image_with_a_header_keeps_it(options: McubootOptions, message: str, keys: Keys) -> None:
    image = sign(BODY, [keys.held("Ed25519")], options=HEADED)
    with pytest.raises(Failed) as refusal:
        sign(image, [keys.held("Ed25519", 1)], options=options)
    assert refusal.value.code == "io.format"
    assert refusal.value.message.startswith(message)


def test_a_filled_slot_is_filled_anew_only_if_asked(keys: Keys) -> None:
    one, two = keys.held("Ed25519"), keys.held("Ed25519", 1)
    padded = with_sizes(McubootOptions(pad=True))
    slot = sign(BODY, [one], options=padded)
    with pytest.raises(Failed) as refusal:
        sign(slot, [two])
    assert refusal.value.message == (
        "mcuboot image: expected no bytes after it, found a slot that is filled"
    )
    again = sign(slot, [two], options=McubootOptions(slot_size=0x10000, pad=True))
    assert again == sign(BODY, [one, two], options=padded)
    assert len(again) == 0x10000


def test_an_image_that_is_wrong_gets_no_signature(keys: Keys) -> None:
    one, two = keys.held("P-256"), keys.held("P-256", 1)
    image = image_with_counter(keys)
    with pytest.raises(Malformed) as refusal:
        sign(flipped(0x300)(image), [two])
    assert refusal.value.code == "malformed.image"
    with pytest.raises(FwsignError) as refusal_too:
        sign(with_protected((0x50, bytes(4)))(image), [one, two])
    assert refusal_too.value.code == "tampered.native"


class LyingKey:
    """A held key that signs something else."""

    def __init__(self, held: HeldKey) -> None:
        self._held = held
        self.place, self.public_key = held.place, held.public_key

    def sign_raw(self, scheme: Any, data: bytes, digest: str = "") -> bytes:
        return self._held.sign_raw(scheme, bytes(len(data)), digest)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_signs_something_else_is_found_out(kind: str, keys: Keys) -> None:
    with pytest.raises(Failed) as refusal:
        sign(BODY, [LyingKey(keys.held(kind))], options=HEADED)
    assert refusal.value.code == "key.failed"
    assert refusal.value.message.startswith(
        f"the signature that {keys.path(kind)} made does not verify"
    )


@pytest.mark.external
@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa2048"])
def test_a_token_signs_and_imgtool_verifies(kind: str, softhsm: SoftHsm, tmp_path: Path) -> None:
    uri = softhsm.make(kind, f"mcuboot-{kind}")
    key = open_key(uri, PIN.encode)
    try:
        made = sign(BODY, [key], security_version=4, options=HEADED)
    finally:
        key.close()
    image, public = tmp_path / "app.bin", tmp_path / "public.pem"
    image.write_bytes(made)
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(softhsm.public_key(f"mcuboot-{kind}").public_bytes(Encoding.PEM, spki))
    assert "Image was correctly validated" in imgtool("verify", "--key", public, image)
