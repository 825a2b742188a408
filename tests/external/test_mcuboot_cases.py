# SPDX-License-Identifier: Apache-2.0
"""MCUboot images after reports about other programs: what each is, and its hash over SMP."""

import io

import pytest

from flash.kit import held
from fwsign.errors import Malformed
from fwsign.flash.boards.board import Run
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judged, Options
from fwsign.flash.simulate import Settings
from fwsign.flash.simulate.line import Line
from fwsign.flash.simulate.smp import Simulator
from fwsign.flash.smp.board import connect
from fwsign.images import Image, recognise
from fwsign.images.mcuboot import image_hash
from support import cases, needs_cases

pytestmark = [pytest.mark.external, needs_cases()]

SIGNED = {"trailer": None, "signature": "ecdsa"}
READ: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "m-after-swap": (
        {
            "trailer": "confirmed",
            "swap": "permanent, image 0",
            "swap size": "4096 bytes",
            "copy done": "yes",
            "swap status": "6 entries",
        },
        ("it is a slot with the status of a swap: a boot loader may go on with that swap",),
    ),
    "m-be": ({"byte order": "big-endian"}, ("it is for a big-endian target",)),
    "m-confirm": ({"trailer": "confirmed", "swap status": None}, ()),
    "m-ed512": ({"signature": "ed25519"}, ()),
    "m-ed512-own": ({"signature": "ed25519"}, ()),
    "m-enc-ec": ({"flags": "encrypted, aes-128", "wrapped key, p-256": "113 bytes"}, ()),
    "m-lzma2": ({"flags": "compressed, lzma2", "decompressed size": "4 bytes"}, ()),
    "m-no-tlv": (
        {"signature": None},
        ("it has no TLVs, neither hash nor signature: MCUboot starts no such image",),
    ),
    "m-p256": (SIGNED, ()),
    "m-p384": (SIGNED, ()),
    "m-pure": ({"signature": "ed25519, pure"}, ()),
    "m-two-sigs": (SIGNED, ()),
    "m-vendor-unprot": (
        {"tlv 0x00a0": "4 bytes"},
        ("the signature does not cover the vendor's TLVs: 0x00a0",),
    ),
}
HASHES = {"m-ed512": "sha512", "m-ed512-own": "sha512", "m-pure": "sha512", "m-p384": "sha384"}
ON_BOARDS = [name for name in READ if name != "m-no-tlv"]


def data_of(name: str) -> bytes:
    return (cases() / "images" / f"{name}.bin").read_bytes()


def image_of(name: str) -> Image:
    return recognise(io.BytesIO(data_of(name)))


def test_every_file_has_its_row() -> None:
    found = {path.stem for path in (cases() / "images").glob("m-*.bin")}
    assert found == {*READ, "m-hash-bit"}


@pytest.mark.parametrize("name", READ)
def test_image_is_read(name: str) -> None:
    details, notes = READ[name]
    image = image_of(name)
    assert (image.kind, image.chip, image.version) == ("mcuboot", None, "1.2.3+4")
    assert image.notes == notes
    found = dict(image.details)
    assert {key: found.get(key) for key in details} == details
    expected = () if name == "m-no-tlv" else (HASHES.get(name, "sha256"),)
    assert tuple(key for key in ("sha256", "sha384", "sha512") if key in found) == expected


def test_both_signatures_are_listed() -> None:
    details = image_of("m-two-sigs").details
    keys = [value for key, value in details if key == "key hash"]
    assert len(set(keys)) == len(keys) == 2
    assert [value for key, value in details if key == "signature"] == ["ecdsa", "ecdsa"]


def test_damaged_image_is_refused() -> None:
    with pytest.raises(
        Malformed, match=r"mcuboot image: sha256: expected \w+, found \w+"
    ) as caught:
        image_of("m-hash-bit")
    assert caught.value.code == "malformed.image"


@pytest.mark.parametrize("name", ON_BOARDS)
def test_board_lists_the_hash_that_the_image_has(name: str) -> None:
    data = data_of(name)
    with Line(Simulator(Settings("smp"))) as line:
        board = connect(line.port)(0)
        assert board.probe().digest == "image"
        board.write([Run(0, data)], lambda _: None)
        assert board.digest(0, len(data)) == image_hash(data)
        board.close()


@pytest.mark.parametrize("encoding", ["console", "raw"])
@pytest.mark.parametrize("name", ON_BOARDS)
def test_board_reports_what_was_signed(name: str, encoding: str) -> None:
    judged = Judged(held({"nrf52840@0x0": data_of(name)}), lambda: None)
    with Line(Simulator(Settings("smp", encoding=encoding))) as line:
        reach = connect(line.port, encoding=encoding)
        found = flash(reach, lambda _: judged, Options(), lambda _: None)
    assert (found.status, found.error) == ("device-reported", None)
    assert [one.how for one in found.regions] == ["image"]


def test_image_without_a_hash_is_refused_before_anything_is_written() -> None:
    judged = Judged(held({"nrf52840@0x0": data_of("m-no-tlv")}), lambda: None)
    with Line(Simulator(Settings("smp"))) as line:
        found = flash(connect(line.port), lambda _: judged, Options(), lambda _: None)
    assert (found.status, found.touched) == ("refused", False)
    assert found.error is not None
    assert found.error.code == "malformed.image"
    assert "tlvs: expected one hash, found no tlvs" in found.error.message
