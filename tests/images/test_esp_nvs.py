"""NVS partitions, byte for byte as Espressif's own generator writes them."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.errors import Failed
from fwsign.images import esp_nvs
from fwsign.images.esp_nvs import NvsEntry, partition
from support import require_package

SIZE = 0x6000
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=15)


def number(kind: str, value: int) -> bytes:
    _, size, signed = esp_nvs.NUMBERS[kind]
    return value.to_bytes(size, "little", signed=signed)


def oracle(entries: Sequence[NvsEntry], size: int) -> bytes:
    """Return what Espressif's generator makes of the same values."""
    require_package("esp_idf_nvs_partition_gen")
    from esp_idf_nvs_partition_gen import nvs_partition_gen as gen

    out = io.BytesIO()
    made: Any = gen.nvs_open(out, size - 4096, gen.Page.VERSION2)
    for entry in entries:
        made.write_namespace(entry.namespace)
        index = made.written_namespaces[entry.namespace]
        if entry.type in esp_nvs.NUMBERS:
            signed = esp_nvs.NUMBERS[entry.type][2]
            value: object = int.from_bytes(entry.data, "little", signed=signed)
            made.write_entry(entry.key, value, entry.type, index)
        elif entry.type == "string":
            made.write_entry(entry.key, entry.data.decode(), "string", index)
        else:
            made.write_entry(entry.key, entry.data.hex(), "hex2bin", index)
    made.__exit__(None, None, None)
    return out.getvalue()


def entry(kind: str, data: bytes, key: str = "k", namespace: str = "factory") -> NvsEntry:
    return NvsEntry(namespace, key, kind, data)


CASES = {
    "nothing": [],
    "a number": [entry("u8", b"\x07")],
    "every number": [
        entry(kind, number(kind, value), f"k{place}")
        for place, (kind, value) in enumerate(
            [
                *((kind, 1) for kind in esp_nvs.NUMBERS),
                ("u8", 255),
                ("i8", -128),
                ("u16", 65535),
                ("i16", -32768),
                ("u32", (1 << 32) - 1),
                ("i32", -(1 << 31)),
                ("u64", (1 << 64) - 1),
                ("i64", -(1 << 63)),
            ]
        )
    ],
    "a text": [entry("string", b"SN-0001")],
    "texts of whole entries": [
        entry("string", b"a" * size, f"k{size}") for size in (0, 30, 31, 32, 63, 64)
    ],
    "a text in UTF-8": [entry("string", "Größe ✓".encode())],
    "a blob": [entry("blob", bytes(range(100)))],
    "an empty blob": [entry("blob", b"")],
    "a blob of two pages": [entry("blob", bytes(range(250)) * 20)],
    "a blob that fills a page": [entry("blob", bytes(124 * 32)), entry("u8", b"\1", "after")],
    "a blob that ends a page": [entry("blob", bytes(123 * 32)), entry("u8", b"\1", "after")],
    "two namespaces": [entry("u8", b"\1"), entry("u8", b"\2", namespace="wifi")],
    "a namespace again": [
        entry("u8", b"\1"),
        entry("u8", b"\2", namespace="wifi"),
        entry("u8", b"\3", "k2"),
    ],
    "a full page of numbers": [entry("u8", b"\1", f"k{n}") for n in range(125)],
    "a page and a number": [entry("u8", b"\1", f"k{n}") for n in range(126)],
    "the longest text that the generator takes": [entry("string", b"t" * 3967)],
    "longest names": [entry("u32", bytes(4), "k" * 15, "n" * 15)],
}


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_are_those_of_espressifs_generator(case: str) -> None:
    assert partition(CASES[case], SIZE) == oracle(CASES[case], SIZE)


@pytest.mark.parametrize("used", range(110, 128))
@pytest.mark.parametrize("kind", ["string", "blob"])
def test_the_end_of_a_page_is_used_as_by_the_generator(kind: str, used: int) -> None:
    before = [entry("u8", b"\1", f"k{n}") for n in range(used)]
    for size in (0, 1, 31, 32, 33, 100, 300, 3900):
        entries = [*before, entry(kind, b"x" * size, "last")]
        assert partition(entries, SIZE) == oracle(entries, SIZE), size


@st.composite
def values(draw: st.DrawFn) -> list[NvsEntry]:
    found: dict[tuple[str, str], NvsEntry] = {}
    for _ in range(draw(st.integers(0, 12))):
        namespace, key = draw(st.sampled_from(["a", "wifi", "n" * 15])), draw(NAMES)
        kind = draw(st.sampled_from(esp_nvs.TYPES))
        if kind in esp_nvs.NUMBERS:
            data = draw(st.binary(min_size=(size := esp_nvs.NUMBERS[kind][1]), max_size=size))
        elif kind == "string":
            data = draw(st.text(st.characters(exclude_characters="\0"), max_size=300)).encode()
        else:
            data = draw(st.binary(max_size=200)) * draw(st.integers(1, 25))
        found[namespace, key] = NvsEntry(namespace, key, kind, data)
    return list(found.values())


@settings(max_examples=150, deadline=None)
@given(values())
def test_any_values_make_the_same_bytes(entries: list[NvsEntry]) -> None:
    size = 0x20000
    assert partition(entries, size) == oracle(entries, size)


def test_the_longest_text_of_esp_idf_fits_on_a_page() -> None:
    data = partition([entry("string", b"t" * 3999)], SIZE)
    page = data[4096:8192]
    assert (page[64 + 1], page[64 + 2]) == (0x21, 126)
    assert page[96:4096] == b"t" * 3999 + b"\0"


def test_a_partition_without_the_free_page_is_refused() -> None:
    fits, blob = (entry("blob", bytes(size)) for size in (2 * 124 * 32, 2 * 124 * 32 + 1))
    assert partition([fits], 0x3000)[8192:] == b"\xff" * 4096
    assert partition([blob], 0x4000) == oracle([blob], 0x4000)
    with pytest.raises(Failed) as caught:
        partition([blob], 0x3000)
    assert caught.value.code == "state.limit"
    assert caught.value.message == (
        "the data does not fit: expected at most 2 pages of NVS, found 3 pages"
    )


@pytest.mark.parametrize("size", [0, 0x2000, 0x3001, 0x6800])
def test_a_size_that_esp_idf_does_not_open_is_refused(size: int) -> None:
    with pytest.raises(Failed) as caught:
        partition([], size)
    assert caught.value.message == (
        f"the data does not fit: expected a multiple of 4096 from 12288 on, "
        f"found {size} bytes for NVS"
    )


def test_too_many_namespaces_are_refused() -> None:
    many = [entry("u8", b"\1", namespace=f"n{n}") for n in range(255)]
    assert len(partition(many[:254], SIZE)) == SIZE
    with pytest.raises(Failed, match="expected at most 254 namespaces in NVS, found more"):
        partition(many, SIZE)


def test_a_value_is_not_in_its_representation() -> None:
    assert repr(entry("string", b"hunter2")) == "<factory/k, string>"


def test_each_entry_has_its_crc_and_the_rest_is_erased() -> None:
    data = partition([entry("u16", b"\x34\x12")], SIZE)
    assert data[:9] == struct.pack("<IIB", 0xFFFFFFFE, 0, 0xFE)
    for at in (64, 96):
        one = data[at : at + 32]
        crc = zlib.crc32(one[:4] + one[8:], 0xFFFFFFFF)
        assert one[4:8] == crc.to_bytes(4, "little")
    assert data[32:64] == b"\xfa" + b"\xff" * 31
    assert set(data[128:]) == {0xFF}
