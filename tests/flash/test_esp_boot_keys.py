"""Boards with secure boot: which keys their eFuses know, and what they start."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from flash.kit import board_info, content, held, partition_table
from fwsign import native
from fwsign.errors import Failed, Tampered, Unsuitable
from fwsign.flash import plan as planning
from fwsign.flash.backends import ConnectOptions, attached
from fwsign.flash.boards.board import SECURE_BOOT, SECURE_DOWNLOAD, BoardInfo
from fwsign.flash.esp import fuses
from fwsign.flash.esp.fuses import FUSES, BootKey
from fwsign.flash.simulate import Simulated, check
from images_kit import boot
from native_kit import app, espsecure_digest, espsecure_sign
from native_kit import held as held_key
from picobin_kit import unsealed

KIND = "esp-secure-boot-v2"
KEYS = [hashlib.sha256(b"key %d" % number).digest() for number in range(3)]
TABLE = partition_table(("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x80000))
LAYOUTS = {
    "esp32c6": ("p256", 0x0),
    "esp32c3": ("rsa3072", 0x0),
    "esp32": ("rsa3072", 0x1000),
    "esp32c2": ("p256", 0x0),
    "esp32c5": ("p384", 0x2000),
}


def reader(chip: str, keys: tuple[BootKey, ...], version: int) -> Callable[[int], int]:
    words: dict[int, int] = {}
    for address, bits in fuses.burnt(chip, keys, version):
        words[address] = words.get(address, 0) | bits
    return lambda address: words.get(address, 0)


# --- eFuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", FUSES)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_what_is_burnt_is_read(chip: str, count: int) -> None:
    keys = tuple(
        BootKey(digest, revoked=number == 1) for number, digest in enumerate(KEYS[:count])
    )[: fuses.most_keys(chip)]
    version = FUSES[chip].version.width // 2
    read = reader(chip, keys, version)
    size = FUSES[chip].size
    assert fuses.read_keys(chip, read) == tuple(
        BootKey(one.digest[:size], one.revoked) for one in keys
    )
    assert fuses.read_version(chip, read) == version


@pytest.mark.parametrize(
    ("chip", "address", "word"),
    [  # by espefuse's definitions: KEY_PURPOSE_0, SECURE_BOOT_KEY_REVOKE1, SECURE_VERSION, digests
        ("esp32s2", 0x3F41A034, 9 << 24 | 1 << 22),
        ("esp32s2", 0x3F41A03C, 0b111 << 11),
        ("esp32c3", 0x60008834, 9 << 24 | 10 << 28 | 1 << 22),
        ("esp32c3", 0x6000883C, 0b111 << 14),
        ("esp32s3", 0x6000703C, 0b111 << 14),
        ("esp32c6", 0x600B083C, 0b111 << 14),
        ("esp32h2", 0x600B083C, 0b111 << 9),
        ("esp32p4", 0x5012D03C, 0b111 << 9),
        ("esp32c5", 0x600B4834, 9 << 22 | 10 << 27 | 1 << 20),
        ("esp32c5", 0x600B483C, 0b111 << 9),
        ("esp32c61", 0x600B4830, 1 << 27),
        ("esp32c61", 0x600B4834, 9 | 10 << 4 | 11 << 8),
        ("esp32c61", 0x600B4838, 0b111 << 8),
        ("esp32c2", 0x60008830, 0b111 << 22),
        ("esp32c2", 0x60008870, int.from_bytes(KEYS[0][:4], "little")),
        ("esp32c3", 0x6000889C, int.from_bytes(KEYS[0][:4], "little")),
        ("esp32c3", 0x600088BC, int.from_bytes(KEYS[1][:4], "little")),
        ("esp32", 0x3FF5A058, int.from_bytes(KEYS[0][:4], "little")),
        ("esp32", 0x3FF5A088, 0b111),
    ],
)
def test_the_places_are_those_of_the_manuals(chip: str, address: int, word: int) -> None:
    keys = tuple(BootKey(digest, number == 1) for number, digest in enumerate(KEYS))
    read = reader(chip, keys[: fuses.most_keys(chip)], 3)
    assert read(address) & word == word


def test_a_key_of_another_purpose_is_none() -> None:
    read = reader("esp32c3", (BootKey(KEYS[0]), BootKey(KEYS[1])), 0)
    purpose = FUSES["esp32c3"].purposes[1]

    def other(address: int) -> int:
        return read(address) & ~((0xF << purpose.shift) if address == purpose.address else 0)

    assert fuses.read_keys("esp32c3", other) == (BootKey(KEYS[0]),)


def test_a_digest_that_cannot_be_read_is_none() -> None:
    assert fuses.read_keys("esp32", lambda _: 0) == ()


# --- what a board starts --------------------------------------------------------------------


def plan(
    parts: dict[str, bytes], chip: str, keys: tuple[bytes, ...] | None, version: int = 0
) -> planning.Plan:
    place = LAYOUTS[chip][1]
    own = content(**{f"at_{place:x}": boot(chip)}, at_8000=TABLE)
    info: BoardInfo = board_info(
        chip=chip,
        locks=(SECURE_BOOT,),
        boot_keys=keys,
        security_version=version,
        flash_size=4 << 20,
    )
    info = info if keys is not None else info._replace(locks=())
    return planning.make(held(parts), info, lambda at, size: own[at : at + size], ("unbootable",))


def signed(folder: Path, chip: str, *others: str, data: bytes | None = None) -> bytes:
    name = LAYOUTS[chip][0]
    names = [f"{name} {other}".strip() for other in others]
    keys = [held_key(folder, one) for one in names]
    return native.sign(KIND, data or app(chip), keys)


def whole(folder: Path, chip: str, *others: str) -> dict[str, bytes]:
    """Return a release with a boot loader and an application, signed by the same keys."""
    place = LAYOUTS[chip][1]
    return {
        f"{chip}@0x{place:x}": signed(folder, chip, *others, data=boot(chip)),
        f"{chip}@0x10000": signed(folder, chip, *others),
    }


def digests(folder: Path, chip: str, *others: str) -> tuple[bytes, ...]:
    name, size = LAYOUTS[chip][0], FUSES[chip].size
    return tuple(espsecure_digest(f"{name} {one}".strip(), folder)[:size] for one in others)


@pytest.mark.parametrize("chip", LAYOUTS)
def test_an_image_by_a_burnt_key_is_written(chip: str, tmp_path: Path) -> None:
    known = digests(tmp_path, chip, "")
    assert len(plan(whole(tmp_path, chip, ""), chip, (bytes(len(known[0])), *known)).regions) == 2


@pytest.mark.parametrize("chip", LAYOUTS)
def test_an_image_by_another_key_is_refused(chip: str, tmp_path: Path) -> None:
    known = digests(tmp_path, chip, "other")
    (made,) = digests_whole(tmp_path, chip, "")
    with pytest.raises(Unsuitable) as caught:
        plan(whole(tmp_path, chip, ""), chip, known)
    assert caught.value.code == "unsuitable.locked"
    assert caught.value.message == (
        f"no key that the board's secure boot knows has signed {chip}@0x{LAYOUTS[chip][1]:x}: "
        f"expected {known[0].hex()}, found {made.hex()}"
    )
    assert (caught.value.expected, caught.value.found) == (known[0].hex(), made.hex())
    assert str(caught.value.hint).endswith("fwsign sign --native esp-secure-boot-v2")


def digests_whole(folder: Path, chip: str, *others: str) -> tuple[bytes, ...]:
    name = LAYOUTS[chip][0]
    return tuple(espsecure_digest(f"{name} {one}".strip(), folder) for one in others)


def test_every_bit_of_a_burnt_digest_counts(tmp_path: Path) -> None:
    parts, (known,) = whole(tmp_path, "esp32c6", ""), digests(tmp_path, "esp32c6", "")
    for bit in range(0, 256, 17):
        other = bytearray(known)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Unsuitable, match="no key that the board's secure boot knows"):
            plan(parts, "esp32c6", (bytes(other),))


def test_one_of_three_signatures_is_enough(tmp_path: Path) -> None:
    parts = whole(tmp_path, "esp32c6", "", "other", "third")
    for one in ("", "other", "third"):
        assert plan(parts, "esp32c6", digests(tmp_path, "esp32c6", one)).regions
    with pytest.raises(Unsuitable, match="no key that the board's secure boot knows"):
        plan(parts, "esp32c6", digests(tmp_path, "esp32c6", "fourth"))


def test_a_board_whose_keys_are_all_revoked_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unsuitable) as caught:
        plan(whole(tmp_path, "esp32c6", ""), "esp32c6", ())
    assert caught.value.expected == "none: all are revoked"


def test_a_second_block_is_no_use_on_a_chip_that_looks_at_one(tmp_path: Path) -> None:
    both = {
        "esp32@0x1000": espsecure_sign(boot("esp32"), "rsa3072", "rsa3072 other", folder=tmp_path),
        "esp32@0x10000": espsecure_sign(app("esp32"), "rsa3072", "rsa3072 other", folder=tmp_path),
    }
    assert plan(both, "esp32", digests(tmp_path, "esp32", "")).regions
    with pytest.raises(Unsuitable, match="no key that the board's secure boot knows"):
        plan(both, "esp32", digests(tmp_path, "esp32", "other"))


def test_a_kind_of_key_that_the_rom_cannot_verify_is_none(tmp_path: Path) -> None:
    theirs = {"esp32c3@0x10000": espsecure_sign(app("esp32c3"), "p256", folder=tmp_path)}
    with pytest.raises(Unsuitable) as caught:
        plan(theirs, "esp32c3", digests(tmp_path, "esp32c6", ""))
    assert caught.value.found == "none that its ROM can verify"


def test_a_signature_that_does_not_verify_is_refused(tmp_path: Path) -> None:
    parts = whole(tmp_path, "esp32c6", "", "other")
    image = bytearray(parts["esp32c6@0x10000"])
    image[-4096 + 110] ^= 1  # the first block's signature; its crc is then wrong, too
    with pytest.raises(Tampered) as caught:
        plan({"esp32c6@0x10000": bytes(image)}, "esp32c6", digests(tmp_path, "esp32c6", "other"))
    assert caught.value.code == "tampered.native"


def test_an_unlocked_board_takes_any_image(tmp_path: Path) -> None:
    assert plan({"esp32c6@0x10000": app("esp32c6")}, "esp32c6", None).regions
    assert plan(whole(tmp_path, "esp32c6", ""), "esp32c6", None).regions


@pytest.mark.parametrize(("own", "least"), [(0, 1), (7, 8), (7, 16)])
def test_an_application_below_the_burnt_version_is_refused(own: int, least: int) -> None:
    parts = {"esp32c6@0x10000": app("esp32c6", secure_version=own)}
    with pytest.raises(Unsuitable) as caught:
        plan(parts, "esp32c6", None, least)
    assert caught.value.code == "unsuitable.security-version"
    assert caught.value.message == (
        f"esp32c6@0x10000 has security version {own}, the chip {least}: it starts no older one"
    )
    assert (caught.value.expected, caught.value.found) == (f"{least} or more", str(own))
    assert plan(parts, "esp32c6", None, own).regions


# --- a simulated board ----------------------------------------------------------------------


def uri(folder: Path, chip: str, *more: str) -> str:
    (known,) = digests_whole(folder, chip, "")
    return f"sim:{chip}?lock=secure-boot&key={known.hex()}" + "".join(f"&{one}" for one in more)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("key=abc", "expected key with 64 hex digits, perhaps :revoked"),
        (f"key={KEYS[0].hex()}:gone", "expected key with 64 hex digits, perhaps :revoked"),
        ("security-version=many", "expected security-version with a number"),
        ("&".join(f"key={one.hex()}" for one in [*KEYS, bytes(32)]), "expected at most 3 and 16"),
        ("security-version=17", "expected at most 3 and 16"),
    ],
)
def test_an_impossible_simulated_board_is_refused(asked: str, words: str) -> None:
    with pytest.raises(Failed) as caught:
        check(f"sim:esp32c6?{asked}")
    assert caught.value.code == "device.port"
    assert words in caught.value.message


def test_only_an_esp_has_such_keys() -> None:
    with pytest.raises(Failed, match="an ESP for it"):
        check(f"sim:smp?key={KEYS[0].hex()}")


@pytest.mark.parametrize("locked", [False, True])
def test_a_simulated_board_tells_its_keys(locked: bool, tmp_path: Path) -> None:
    more = [f"key={KEYS[1].hex()}:revoked", "security-version=5"]
    more += ["lock=secure-download-mode"] * locked
    with attached(uri(tmp_path, "esp32c6", *more), ConnectOptions("esp")) as connect:
        board = connect(0)
        try:
            info = board.probe()
        finally:
            board.close()
    (known,) = digests(tmp_path, "esp32c6", "")
    assert info.boot_keys == (None if locked else (known,))
    assert info.security_version == (None if locked else 5)
    assert (SECURE_DOWNLOAD in info.locks) is locked
    details = dict(info.details)
    told = {name: details.get(name) for name in ("secure boot key 0", "secure boot key 1")}
    both = {
        "secure boot key 0": known.hex(),
        "secure boot key 1": f"{KEYS[1].hex()} (revoked)",
    }
    assert told == (dict.fromkeys(both) if locked else both)
    assert details.get("security version") == (None if locked else "5")


def test_a_simulated_board_starts_what_its_key_has_signed(tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    for others, version, words in (
        (("",), 7, "application at 0x10000"),
        (("other",), 7, "nothing: boot loader: no key that it knows has signed it"),
        (("other", ""), 8, "application at 0x10000: security version 7, the chip has 8"),
    ):
        parts = whole(tmp_path, "esp32c6", *others)
        places = {f"at_{int(name.partition('@')[2], 0):x}": data for name, data in parts.items()}
        flash.write_bytes(content(**places, at_8000=TABLE))
        asked = uri(tmp_path, "esp32c6", f"security-version={version}", f"flash={flash}")
        with Simulated(asked) as board:
            assert words in str(board.started)


# --- RP2350 ---------------------------------------------------------------------------------


def pico(data: bytes, *locks: str) -> planning.Plan:
    info = board_info(
        kind="pico-uf2", chip="rp2350", digest=None, flash_size=1 << 22, locks=tuple(locks)
    )
    erased = b"\xff" * (1 << 22)
    return planning.make(held({"rp2350@0x0": data}), info, lambda at, size: erased[at : at + size])


def test_an_rp2350_with_secure_boot_takes_what_is_sealed(tmp_path: Path) -> None:
    image = unsealed(size=4096 - 20)
    with pytest.raises(Unsuitable) as caught:
        pico(image, SECURE_BOOT)
    assert caught.value.code == "unsuitable.locked"
    assert caught.value.message == (
        "the board has secure boot switched on, and rp2350@0x0 has no signature for it"
    )
    assert str(caught.value.hint).endswith("fwsign sign --native rp2350")
    sealed = native.sign("rp2350", image, [held_key(tmp_path, "k256")])
    assert pico(image).regions
    assert pico(sealed, SECURE_BOOT).regions
    at = sealed.rindex(b"\x09\x01\xa1\x00") if b"\x09\x01\xa1\x00" in sealed else len(sealed) - 60
    changed = sealed[: at - 40] + bytes([sealed[at - 40] ^ 1]) + sealed[at - 39 :]
    with pytest.raises(Tampered, match="rp2350"):
        pico(changed, SECURE_BOOT)
