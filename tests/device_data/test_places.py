"""Places for per-device data in a partition table: only where data may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.device_data.places import locate
from fwsign.device_data.policy import DataPlace, Value
from fwsign.errors import Unsuitable
from fwsign.images.esp_partitions import Partition

SECTOR = 4096
KEY = Value("k", "string", 20, True, False, "n", "k")
NOTE = Value("note", "string", 20, True, False)
TABLE = [
    Partition("otadata", 1, 0, 0x9000, 0x2000),
    Partition("keys", 1, 4, 0xB000, 0x1000),
    Partition("nvs", 1, 2, 0xC000, 0x4000),
    Partition("app", 0, 0x10, 0x10000, 0x10000),
    Partition("files", 1, 0x82, 0x20000, 0x8000),
    Partition("own", 0x40, 0, 0x28000, 0x8000),
    Partition("twice", 1, 2, 0x30000, 0x3000),
    Partition("twice", 1, 2, 0x33000, 0x3000),
    Partition("small", 1, 2, 0x36000, 0x2000),
    Partition("large", 1, 0x82, 0x100000, 0x200000),
]


def labelled(label: str, form: str = "nvs") -> DataPlace:
    return DataPlace("esp32", label, None, None, form, (KEY if form == "nvs" else NOTE,))


def at(offset: int, size: int = SECTOR) -> DataPlace:
    return DataPlace("esp32", None, offset, size, "raw", (NOTE,))


@pytest.mark.parametrize(
    ("label", "form", "offset"),
    [("nvs", "nvs", 0xC000), ("files", "raw", 0x20000), ("own", "raw", 0x28000)],
)
def test_partitions_for_data(label: str, form: str, offset: int) -> None:
    found = locate(labelled(label, form), TABLE)
    assert (found.offset, found.size) == (offset, found.end - offset)


@pytest.mark.parametrize(
    ("label", "form", "error"),
    [
        ("none", "nvs", 'expected one partition "none", found "otadata", "keys", '),
        ("twice", "nvs", 'expected one partition "twice", found 2 of that name'),
        ("app", "raw", "expected a partition for data, found type 0, subtype 16"),
        ("otadata", "raw", "expected a partition for data, found type 1, subtype 0"),
        ("keys", "nvs", "expected a partition for NVS, found type 1, subtype 4"),
        ("keys", "raw", "expected a partition for data, found type 1, subtype 4"),
        ("files", "nvs", "expected a partition for NVS, found type 1, subtype 130"),
        ("own", "nvs", "expected a partition for NVS, found type 64, subtype 0"),
        ("small", "nvs", "expected a multiple of 4096 from 12288 on for the longest values, found"),
        ("large", "raw", "expected at most 1048576 bytes, found 2097152 bytes"),
    ],
)
def test_other_partitions_are_refused(label: str, form: str, error: str) -> None:
    with pytest.raises(Unsuitable) as caught:
        locate(labelled(label, form), TABLE)
    assert caught.value.code == "unsuitable.device-data"
    assert error in caught.value.message


def test_a_label_needs_a_table() -> None:
    with pytest.raises(Unsuitable) as caught:
        locate(labelled("nvs"), None)
    assert caught.value.message == (
        'device data for esp32, partition "nvs": expected a table with the partition "nvs", '
        "found no known table"
    )


@pytest.mark.parametrize("offset", [0x0, 0x1000, 0x8000])
def test_boot_loader_and_table_are_no_place(offset: int) -> None:
    with pytest.raises(Unsuitable, match="expected 0x9000 or more"):
        locate(at(offset), [])
    with pytest.raises(Unsuitable, match="expected 0x11000 or more"):
        locate(at(0x10000), [], 0x10000)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 0x40]), st.integers(0, 5), st.integers(1, 4))),
    st.integers(0, 40),
    st.integers(1, 6),
)
def test_a_place_lies_in_one_partition_for_data_or_in_none(
    rows: list[tuple[int, int, int]], start: int, size: int
) -> None:
    table, free = [], 0x9000
    for number, (kind, subtype, sectors) in enumerate(rows):
        table.append(Partition(f"p{number}", kind, subtype, free, sectors * SECTOR))
        free += (sectors + subtype % 2) * SECTOR  # some leave a gap
    place = at(start * SECTOR, size * SECTOR)
    touched = {
        part
        for sector in range(start, start + size)
        for part in table
        if part.offset <= sector * SECTOR < part.offset + part.size
    }
    data = [
        one
        for one in touched
        if one.type >= 0x40 or (one.type, one.subtype not in (0, 4)) == (1, True)
    ]
    whole = all(
        one.offset + one.size >= (start + size) * SECTOR >= 0 and one.offset <= start * SECTOR
        for one in touched
    )
    allowed = start * SECTOR >= 0x9000 and (
        not touched or (len(touched) == len(data) == 1 and whole)
    )
    try:
        found = locate(place, table)
    except Unsuitable:
        assert not allowed
    else:
        assert allowed
        assert (found.offset, found.size) == (start * SECTOR, size * SECTOR)
