"""CSV files of per-device data: every cell is checked, and none is shown."""

import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_data.test_policy import POLICY
from fwsign.device_data.policy import parse
from fwsign.device_data.rows import MAX_FILE, Rows, hex_of, read
from fwsign.errors import FwsignError, Malformed, Unsuitable

KEY = "ab" * 32
SECRET = "hunter2"


def rows(text: str | bytes) -> Rows:
    data = text if isinstance(text, bytes) else text.encode()
    return read(data, parse(POLICY.encode()), "boards.csv")


def test_rows_are_read() -> None:
    found = rows(f'serial,mac,key,channel\nSN-1,A0:B7:65:C1:D2:E3,{KEY},6\n"SN-2",,{"cd" * 32},\n')
    first, second = found.by_serial.values()
    assert (first.serial, first.mac, first.line) == ("SN-1", "a0b765c1d2e3", 2)
    assert first.cells == {"serial": b"SN-1", "key": bytes.fromhex(KEY), "channel": b"\x06"}
    assert (second.serial, second.mac, second.line) == ("SN-2", None, 3)
    assert "channel" not in second.cells
    assert found.by_mac == {"a0b765c1d2e3": first}
    assert found.get("SN-2") is second


@pytest.mark.parametrize(
    "text",
    [
        f"serial,key\r\nSN-1,{KEY}\r\n",
        f"\ufeffserial,key\nSN-1,{KEY}",
        f"\n\nserial,key\n\nSN-1,{KEY}\n\n",
        f"key,serial\n{KEY},SN-1\n",
    ],
)
def test_what_programs_write(text: str) -> None:
    assert list(rows(text).by_serial) == ["SN-1"]


def test_a_cell_may_have_lines() -> None:
    text = f'serial,key,certificate\nSN-1,{KEY},"a\nb\n"\nSN-2,{"cd" * 32},\n'
    found = rows(text)
    assert found.get("SN-1").cells["certificate"] == b"a\nb\n"
    assert found.get("SN-2").line == 5


def test_the_mac_is_the_serial_number_where_there_is_no_other() -> None:
    policy = POLICY.replace('column = "serial"', 'column = "mac"')
    found = read(f"mac,key\na0-b7-65-c1-d2-e3,{KEY}\n".encode(), parse(policy.encode()), "x")
    (row,) = found.by_serial.values()
    assert (row.serial, row.mac) == ("a0b765c1d2e3", "a0b765c1d2e3")
    assert row.cells["mac"] == b"a0-b7-65-c1-d2-e3"


HEAD = "serial,mac,key,channel\n"
GOOD = f"SN-1,,{KEY},\n"
WHERE = "boards.csv, line"
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "boards.csv is empty"),
    "a column that is not allowed": (
        f"serial,key,pin\nSN-1,{KEY},{SECRET}\n",
        f'{WHERE} 1: "pin" is not a column that the signed policy allows',
    ),
    "a column that is misspelt": (
        f"serial,key,chanel\nSN-1,{KEY},1\n",
        f'{WHERE} 1: "chanel" is not a column that the signed policy allows',
    ),
    "no header": (
        f"SN-1,{SECRET}\n",
        f"{WHERE} 1: no column says which board a row is for",
    ),
    "semicolons": (
        f"serial;key\nSN-1;{KEY}\n",
        f"{WHERE} 1: no column says which board a row is for",
    ),
    "no row": ("serial,key\n", "boards.csv has no row"),
    "no header, and a value that is nearly a column": (
        f"{SECRET},channel1\n",
        f"{WHERE} 1: no column says which board a row is for",
    ),
    "a column twice": (f"serial,key,key\n{GOOD}", f'{WHERE} 1: the column "key" is there twice'),
    "no board": (f"key\n{KEY}\n", f"{WHERE} 1: no column says which board a row is for"),
    "a required column": ("serial\nSN-1\n", f'{WHERE} 1: the column "key" is missing'),
    "a required cell": (
        f"{HEAD}SN-1,,,\n",
        f'{WHERE} 2, column "key": expected a value, for it is required, found an empty cell',
    ),
    "a wrong number": (
        f"{HEAD}{GOOD}SN-2,,{'cd' * 32},{SECRET}\n",
        f'{WHERE} 3, column "channel": expected a whole number from 0 to 255, found other text',
    ),
    "a wrong blob": (
        f"{HEAD}SN-2,,{SECRET},\n",
        f'{WHERE} 2, column "key": expected pairs of hex digits, found other text',
    ),
    "too few cells": (f"{HEAD}SN-1,{SECRET}\n", f"{WHERE} 2: 2 cells, the first line has 4"),
    "too many cells": (f"{HEAD}SN-1,,{KEY},,{SECRET}\n", f"{WHERE} 2: 5 cells, the first line has"),
    "no serial number": (
        f"{HEAD},,{KEY},\n",
        f'{WHERE} 2, column "serial": expected 1 to 64 characters of ASCII without spaces, f',
    ),
    "a serial number with a space": (
        f"{HEAD}SN 1,,{KEY},\n",
        f'{WHERE} 2, column "serial": expected 1 to 64 characters of ASCII without spaces, f',
    ),
    "a wrong MAC": (
        f"{HEAD}SN-1,a0:b7,{KEY},\n",
        f'{WHERE} 2, column "mac": expected 12 or 16 hex digits, as a0:b7:65:c1:d2:e3, found other',
    ),
    "a serial number twice": (
        f"{HEAD}{GOOD}SN-1,,{'cd' * 32},\n",
        f'{WHERE} 3, column "serial": expected another value in each row, found that of line 2',
    ),
    "a MAC twice": (
        f"{HEAD}SN-1,a0b765c1d2e3,{KEY},\nSN-2,A0:B7:65:C1:D2:E3,{'cd' * 32},\n",
        f'{WHERE} 3, column "mac": expected another value in each row, found that of line 2',
    ),
    "a unique value twice": (
        f"{HEAD}{GOOD}SN-2,,{KEY.upper()},\n",
        f'{WHERE} 3, column "key": expected another value in each row, found that of line 2',
    ),
    "an open quote": (f'{HEAD}SN-1,,"{SECRET}\n', f"{WHERE} 2: not a row of CSV"),
    "text after a quote": (f'{HEAD}SN-1,,"{SECRET}"x,\n', f"{WHERE} 2: not a row of CSV"),
    "no UTF-8": (f"{HEAD}SN-1,,".encode() + b"\xff\n", f"{WHERE} 2: not UTF-8"),
    "UTF-16": (f"{HEAD}{GOOD}".encode("utf-16"), f"{WHERE} 1: not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_that_no_cell_is_shown(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(Malformed) as caught:
        rows(text)
    assert caught.value.code == "malformed.device-data"
    assert caught.value.message.startswith(message)
    told = "".join(traceback.format_exception(caught.value))
    facts = (told, caught.value.hint, caught.value.expected, caught.value.found)
    assert not any(secret in str(one) for one in facts for secret in (SECRET, KEY))


def test_a_misspelt_column_is_answered_with_what_was_meant() -> None:
    with pytest.raises(Malformed) as caught:
        rows(REFUSED["a column that is misspelt"][0])
    assert caught.value.hint == "did you mean channel?"


def test_a_row_that_is_not_there_is_named() -> None:
    with pytest.raises(Unsuitable) as caught:
        rows(HEAD + GOOD).get("SN-2")
    assert caught.value.code == "unsuitable.device-data"
    assert caught.value.message == "boards.csv has no row with the serial number SN-2"
    assert caught.value.hint == "is it mistyped, or in the file of another batch?"


def test_limits() -> None:
    for data, words in (
        (b"x" * (MAX_FILE + 1), f"boards.csv of {MAX_FILE + 1} bytes"),
        (
            ("serial,key\n" + "".join(f"{n},{n:064x}\n" for n in range(100_001))).encode(),
            "boards.csv with 100001 rows",
        ),
        (
            b"serial,key\n" + b"," * (4 << 20) + b"\n",
            f"line 2 of boards.csv with {(4 << 20) + 1} characters",
        ),
    ):
        with pytest.raises(FwsignError) as caught:
            rows(data)
        assert caught.value.code == "malformed.size"
        assert caught.value.message.startswith(words)


def test_a_row_shows_no_value() -> None:
    found = rows(HEAD + GOOD)
    assert repr(found.get("SN-1")) == "<row SN-1 of line 2>"
    assert KEY not in repr(found)


def test_the_digits_of_identities() -> None:
    assert hex_of("mac:a0b765c1d2e3") == hex_of("A0-B7-65-C1-D2-E3") == "a0b765c1d2e3"


CELLS = st.sampled_from(["SN-1", "SN-2", "", KEY, "cd" * 32, "255", "256", SECRET, "a0b765c1d2e3"])
PIECES = st.one_of(
    CELLS, st.sampled_from([",", "\n", '"', "\r", ";", "\0", "é", "\ud7ff"]), st.text()
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=30), st.booleans())
def test_whatever_is_in_a_file_it_is_read_or_refused_without_a_cell(
    pieces: list[str], headed: bool
) -> None:
    text = (HEAD if headed else "") + "".join(pieces)
    try:
        found = rows(text)
    except Malformed as error:
        shown = (error.message, error.hint, error.expected, error.found)
        assert error.code == "malformed.device-data"  # noqa: PT017 - or it is read
        assert not any(SECRET in str(one) for one in shown)
        return
    assert len({row.serial for row in found.by_serial.values()}) == len(found.by_serial) > 0
