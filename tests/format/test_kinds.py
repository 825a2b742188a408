"""Kinds of components: places as people write them, names, and places in flash."""

import pytest

from fwsign.format.kinds import KINDS, FlashPlace, flash_place, name_of, target_identifier
from support import refused


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("file", (b"file", b"app.bin")),
        ("esp32c3@0x10000", (b"flash", b"esp32c3", b"\0\1\0\0")),
        ("esp32c3@65536", (b"flash", b"esp32c3", b"\0\1\0\0")),
        ("files", None),
        ("esp32c3@", None),
        ("@0x10000", None),
        ("esp32c3@0x100000000", None),
    ],
)
def test_a_place_is_read_as_people_write_it(
    text: str, identifier: tuple[bytes, ...] | None
) -> None:
    assert target_identifier(text, b"app.bin") == identifier


def test_a_place_beyond_32_bits_is_refused() -> None:
    with refused("malformed.component", "offset 0x100000000", "an offset of at most 32 bits"):
        target_identifier("esp32c3@4294967296", b"app.bin")


def test_every_example_is_a_place_of_its_kind_and_is_named_like_it() -> None:
    for kind, one in KINDS.items():
        written = one.example or one.target
        identifier = target_identifier(written, b"app.bin")
        assert identifier is not None
        assert identifier[0] == kind
        assert name_of(identifier) == (one.example or "app.bin")


def test_only_flash_has_a_place_in_flash() -> None:
    place = flash_place((b"flash", b"esp32c3", b"\0\1\0\0"))
    assert place == FlashPlace("esp32c3", 0x10000)
    assert str(place) == "esp32c3@0x10000"
    assert flash_place((b"file", b"app.bin")) is None
    assert flash_place(()) is None
