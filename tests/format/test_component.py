"""Components: which names, places and uris are allowed, and that no two can meet."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Malformed
from fwsign.format.component import (
    MAX_URI_LENGTH,
    BlockList,
    Component,
    Digest,
    check_unique,
    check_uri,
    is_url,
)
from fwsign.format.kinds import check_identifier, check_name, file_identifier, flash_identifier
from support import component, refused

DIGEST = Digest(-16, bytes(32))


@pytest.mark.parametrize(
    "name", ["a", "0", "_x", "build.bin", "v1.2+rc-3_x", "console", "nulls.bin", "com10", "a" * 100]
)
def test_names_that_are_allowed(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "+x",
        "a/b",
        "../a",
        "/etc/passwd",
        "a\\b",
        "c:x",
        "a b",
        "a\0",
        "a\n",
        "ä",
        "a\u202eb",
        "#a",
        "a" * 101,
    ],
)
def test_names_that_are_no_plain_file_name_are_refused(name: str) -> None:
    with refused(
        "malformed.component",
        f"component: name {name!r} is not allowed",
        "expected 1 to 100 of A-Z a-z 0-9 . _ + -, not . + or - first",
    ):
        check_name(name)


@pytest.mark.parametrize("name", ["con", "NUL", "Aux.txt", "com1", "LPT9.tar.gz", "prn.", "a."])
def test_names_that_windows_cannot_have_are_refused(name: str) -> None:
    with refused("malformed.component", repr(name), "a name that Windows can have too"):
        check_name(name)


@given(st.text(max_size=20))
def test_an_allowed_name_has_no_path_in_it(name: str) -> None:
    try:
        check_name(name)
    except Malformed:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>| ')
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "uri",
    [
        "build.bin",
        "#build.bin",
        "https://acme.example/a?b=c#d",
        "coap+tcp://[2001:db8::1]/x",
        "https://" + "a" * (MAX_URI_LENGTH - 8),
    ],
)
def test_uris_that_are_allowed(uri: str) -> None:
    assert check_uri(uri) == uri


@pytest.mark.parametrize("uri", [None, 1, b"build.bin", "https://" + "a" * (MAX_URI_LENGTH - 7)])
def test_uris_that_are_no_short_text_are_refused(uri: Any) -> None:
    with refused("malformed.component", "uri is not allowed, expected a text of at most 2048"):
        check_uri(uri)


@pytest.mark.parametrize(
    "uri", ["", "#", "##a", "#../a", "../a", "a/b", "https://", "https://a b", "HTTPS://a", "://a"]
)
def test_uris_that_are_neither_name_nor_url_are_refused(uri: str) -> None:
    with refused("malformed.component", "is not allowed, expected 1 to 100 of"):
        check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "url"), [("a://b", True), ("a", False), ("#a", False), ("a://b\n", False)]
)
def test_is_url(uri: str, url: bool) -> None:
    assert is_url(uri) is url


def test_file_identifier() -> None:
    assert file_identifier("build.bin") == (b"file", b"build.bin")


@pytest.mark.parametrize("offset", [0, 0x10000, 2**32 - 1])
def test_flash_identifier(offset: int) -> None:
    made = flash_identifier("esp32c3", offset)
    assert made == (b"flash", b"esp32c3", offset.to_bytes(4, "big"))


@pytest.mark.parametrize("offset", [-1, 2**32])
def test_offsets_beyond_32_bits_are_refused(offset: int) -> None:
    words = f"offset 0x{offset:x} is not allowed, expected an offset of at most 32 bits"
    with refused("malformed.component", words):
        flash_identifier("esp32c3", offset)


@pytest.mark.parametrize("chip", ["", "e", "ESP32", "3sp", "a" * 17, "a b", "ä2"])
def test_chips_of_another_form_are_refused(chip: str) -> None:
    with refused("malformed.component", "chip '", "expected lower-case letters, digits and hyph"):
        flash_identifier(chip, 0)


@pytest.mark.parametrize(
    "identifier",
    [
        (),
        (b"file",),
        (b"file", "build.bin"),
        ("file", b"build.bin"),
        (b"file", b"a", b"b"),
        (b"FILE", b"a"),
        (b"flash", b"esp32c3"),
        (b"flash", b"esp32c3", b"\0\0\0"),
        (b"flash", b"esp32c3", b"\0\0\0\0\0"),
        (b"flash", b"esp32c3", 65536),
        (b"trust",),
        b"file",
        None,
    ],
)
def test_identifiers_of_another_form_are_refused(identifier: Any) -> None:
    words = "is not allowed, expected ['file', NAME] or ['flash', CHIP, OFFSET]"
    with refused("malformed.component", words):
        check_identifier(identifier)


def test_a_block_list_is_no_component() -> None:
    words = "a block list is not allowed, expected block lists after all components"
    with refused("malformed.component", words):
        check_identifier((b"blocks", b"\0"))


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with refused("malformed.component", "name 'a\ufffd' is not allowed"):
        check_identifier((b"file", b"a\xff"))


def test_refusals_carry_what_was_expected_and_found() -> None:
    with refused("malformed.component") as caught:
        check_name("a/b")
    assert caught.value.found == "name 'a/b'"
    assert str(caught.value.expected).startswith("1 to 100 of")


def test_names_of_components() -> None:
    flash = Component(flash_identifier("esp32c3", 0x10000), DIGEST, 1, "build.bin")
    assert (component().name, flash.name) == ("build.bin", "esp32c3@0x10000")


def test_different_places_and_payloads_are_unique() -> None:
    flash = Component(flash_identifier("esp32c3", 0), DIGEST, 1, "boot.bin")
    check_unique((component(), component(file="other.bin"), flash))


@pytest.mark.parametrize(
    ("file", "uri"),
    [("build.bin", "x"), ("BUILD.bin", "x"), ("x", "Build.bin"), ("x", "#build.bin")],
)
def test_the_same_place_or_payload_twice_is_refused_ignoring_case(file: str, uri: str) -> None:
    words = f"{file!r} twice is not allowed, expected names that differ in more than case"
    with refused("malformed.component", words):
        check_unique((component(), component(file=file, uri=uri)))


def test_the_same_flash_region_twice_is_refused() -> None:
    first = Component(flash_identifier("esp32c3", 0x10000), DIGEST, 1, "a")
    with refused("malformed.component", "'esp32c3@0x10000' twice"):
        check_unique((first, first._replace(uri="b")))


def universal(chip: str, **other: Any) -> Component:
    """Return a payload for the flash of a chip, which another chip may share."""
    return Component(flash_identifier(chip, 0), DIGEST, 1, "pico.uf2")._replace(**other)


def test_one_payload_for_several_chips_is_accepted() -> None:
    check_unique((universal("rp2040"), universal("rp2350")))
    check_unique(tuple(universal(chip, uri="#a") for chip in ("rp2040", "rp2350", "esp32")))


@pytest.mark.parametrize(
    "other",
    [
        universal("rp2350", digest=DIGEST._replace(value=b"1" * 32)),
        universal("rp2350", size=2),
        universal("rp2350", uri="PICO.uf2"),
        universal("rp2350", uri="#pico.uf2"),
        universal("rp2350", identifier=(b"file", b"rp2350")),
        universal("rp2040", identifier=flash_identifier("rp2040", 0x1000)),
    ],
)
def test_a_payload_that_only_looks_shared_is_refused(other: Component) -> None:
    with refused("malformed.component", f"{other.name!r} twice is not allowed"):
        check_unique((universal("rp2040"), other))


def test_a_payload_for_two_places_of_one_chip_is_refused_after_another_chip() -> None:
    second = universal("rp2350", identifier=flash_identifier("rp2350", 0x1000))
    with refused("malformed.component", "'rp2350@0x1000' twice"):
        check_unique((universal("rp2040"), universal("rp2350"), second))


def test_a_shared_payload_with_the_name_of_a_block_list_is_refused() -> None:
    lists = (BlockList(0, DIGEST, 1),)
    both = (universal("rp2040", uri="blocks-0"), universal("rp2350", uri="blocks-0"))
    with refused("malformed.component", "'rp2040@0x0' twice"):
        check_unique(both, lists)
