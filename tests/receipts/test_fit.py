"""Receipts of any content fit a line, and say what was cut."""

import json
from typing import Any

import pytest

from fwsign.receipts.canonical import canonical
from fwsign.receipts.chain import make_line
from fwsign.receipts.fit import MAX_CONTENT, MAX_TEXT, cut, fit


def size(value: Any) -> int:
    return len(canonical(value).encode())


def test_what_fits_stays_as_it_is() -> None:
    receipt = {"a": "x" * MAX_TEXT, "b": [1, None, True, {"c": ["\u20ac"]}], "d": {}}
    assert fit(receipt) == receipt
    assert fit({"a": (1, ("b",))}) == {"a": [1, ["b"]]}


def test_a_long_text_is_cut_with_its_size_as_a_mark() -> None:
    found = fit({"a": {"b": ["x" * 70_000]}})
    (text,) = found["a"]["b"]
    assert text == "x" * (MAX_TEXT - 18) + "[cut, 70000 bytes]"
    assert len(text) == MAX_TEXT
    assert "cut" not in found


def test_a_text_is_cut_between_letters() -> None:
    text = cut("\u20ac" * 1000, 100)
    assert text == "\u20ac" * 27 + "[cut, 3000 bytes]"
    assert len(text.encode()) <= 100


def test_what_utf_8_cannot_express_is_escaped() -> None:
    assert fit({"a": "port \udcff"}) == {"a": "port \\udcff"}


def test_the_longest_lists_are_cut_and_counted() -> None:
    components = [{"name": f"{number:0100}", "sha256": "0" * 64} for number in range(256)]
    receipt: dict[str, Any] = {
        "release": {"components": components, "notes": ["short"]},
        "more": list(range(9)),
    }
    found = fit(receipt)
    assert size(found) <= MAX_CONTENT
    kept = found["release"]["components"]
    assert kept == components[: len(kept)]
    assert len(kept) == 128
    assert found["cut"] == {"release.components": 128}
    assert (found["more"], found["release"]["notes"]) == (receipt["more"], ["short"])
    assert len(receipt["release"]["components"]) == 256  # the caller's stays


def test_many_long_texts_are_cut_shorter() -> None:
    found = fit({f"n{number}": "x" * 1000 for number in range(200)})
    assert size(found) <= MAX_CONTENT
    assert found["n7"].endswith("[cut, 1000 bytes]")
    assert len(found["n7"]) == 64


def test_a_long_name_of_a_field_is_cut_too() -> None:
    assert fit({"x" * 1000: 1}) == {"x" * 47 + "[cut, 1000 bytes]": 1}


@pytest.mark.parametrize("value", [1.5, b"x", 2**53])
def test_what_no_receipt_can_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        fit({"a": value})


def test_a_receipt_that_was_fitted_makes_a_line() -> None:
    hostile = {"message": "\x1b" * 100_000, "signers": [{"name": "\u202e" * 70_000}] * 9}
    line = make_line(fit(hostile), None)
    assert len(line.encode()) < 8 * MAX_TEXT * 6
    assert json.loads(line)["signers"][0]["name"].endswith("[cut, 210000 bytes]")
