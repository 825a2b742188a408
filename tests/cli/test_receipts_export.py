"""`fwsign receipts export`: a row for each board, and labels."""

import csv
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.memory.file import default_path
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest
from fwsign.receipts.file import append

HEAD = "time,result,identity,serial,label,product,version,sequence,code,digest,receipt"


def receipt(number: int = 1, **more: Any) -> dict[str, Any]:
    """Make a receipt as `fwsign flash` does."""
    made = {
        "kind": "flash",
        "clock": f"2026-11-22T{number:02}:00:00+00:00",
        "result": "verified",
        "code": None,
        "port": f"/dev/ttyUSB{number}",
        "board": {"identity": f"mac:a0b765c1d2e{number}"},
        "release": {
            "vendor": "acme.example",
            "product": "x1",
            "version": "1.2",
            "sequence_number": 7,
            "manifest_digest": "ab" * 32,
        },
        "device_data": {"serial": f"SN-{number}", "keys": []},
    }
    return made | more


def write(*receipts: dict[str, Any], path: str = "day.jsonl") -> list[str]:
    """Write receipts, and return their digests."""
    return [line_digest(append(Path(path), one)) for one in receipts]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_row_for_each_board() -> None:
    refusal = receipt(
        2, result="refused", code="unsuitable.chip", board=None, device_data=None, release=None
    )
    first, second = write(receipt(), refusal)
    assert good("receipts", "export", "day.jsonl").splitlines() == [
        HEAD,
        (
            "2026-11-22T01:00:00+00:00,verified,mac:a0b765c1d2e1,SN-1,/dev/ttyUSB1,acme.example/x1,"
            f"1.2,7,,{'ab' * 32},{first}"
        ),
        f"2026-11-22T02:00:00+00:00,refused,,,/dev/ttyUSB2,,,,unsuitable.chip,,{second}",
    ]


def test_into_a_file_that_is_not_replaced() -> None:
    write(receipt())
    found = run("receipts", "export", "day.jsonl", "--csv", "out.csv")
    assert (found.status, found.out) == (0, "")
    assert found.err == "fwsign: rows in out.csv: 1\n"
    assert Path("out.csv").read_text().startswith(HEAD + "\n")
    refused(
        run("receipts", "export", "day.jsonl", "--csv", "out.csv"),
        5,
        "cannot write out.csv: exists already",
        "--force replaces it",
    )
    good("receipts", "export", "day.jsonl", "--csv", "out.csv", "--force")


def test_from_the_memory_of_boards() -> None:
    with State.open(default_path(), create=True) as memory:
        memory.append_receipt(receipt())
    assert len(rows(good("receipts", "export"))) == 1
    assert len(rows(good("receipts", "export", "--state", default_path()))) == 1
    found = run("receipts", "export", "day.jsonl", "--state", default_path())
    assert found.status == 2


def test_a_slots_label_goes_before_its_port() -> None:
    write(receipt(label="left"), receipt(2, label=None))
    found = rows(good("receipts", "export", "day.jsonl"))
    assert [one["label"] for one in found] == ["left", "/dev/ttyUSB2"]


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (None, None, [1, 2, 3, 4]),
        ("2026-11-22T02:00:00Z", None, [2, 3, 4]),
        (None, "2026-11-22T02:00:00Z", [1]),
        ("2026-11-22T03:00:00+01:00", "2026-11-22T04:00:00Z", [2, 3]),
        ("9h", None, [3, 4]),  # it is noon
        ("10h", "9h", [2]),
    ],
)
def test_a_span_of_time(since: str | None, until: str | None, found: list[int]) -> None:
    write(*(receipt(number) for number in range(1, 5)))
    options = [*(("--since", since) if since else ()), *(("--until", until) if until else ())]
    serials = [one["serial"] for one in rows(good("receipts", "export", "day.jsonl", *options))]
    assert serials == [f"SN-{number}" for number in found]


def test_a_receipt_without_a_time_is_in_no_span() -> None:
    write(receipt(clock=None), receipt(clock="noon"), receipt(clock="2026-11-22T12:00:00"))
    assert len(rows(good("receipts", "export", "day.jsonl"))) == 3
    assert len(rows(good("receipts", "export", "day.jsonl", "--since", "1y"))) == 1


@pytest.mark.parametrize(
    "text", ["noon", "2026-11-22T12:00:00", "9999y", "99999999y", "99999999999999y"]
)
def test_what_is_no_time(text: str) -> None:
    write(receipt())
    found = run("receipts", "export", "day.jsonl", "--since", text)
    assert found.status == 2
    assert text in found.errors[0]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])  # noqa: RUF001
def test_no_cell_is_a_formula(begin: str) -> None:
    formula = f"{begin}HYPERLINK(1)"
    write(receipt(label=formula, device_data={"serial": formula}, result=formula))
    (row,) = rows(good("receipts", "export", "day.jsonl"))
    assert (row["label"], row["serial"], row["result"]) == (f"'{formula}",) * 3


def test_cells_are_quoted_and_say_nothing_to_a_terminal() -> None:
    write(receipt(label='a,"b"', device_data={"serial": "\x1b[31m\nx"}))
    out = good("receipts", "export", "day.jsonl")
    assert '"a,""b"""' in out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
    write(receipt(board=[1], release="x", device_data=3), path="odd.jsonl")
    (row,) = rows(good("receipts", "export", "odd.jsonl"))
    assert (row["identity"], row["product"], row["serial"]) == ("", "", "")


def test_other_receipts_are_not_about_boards() -> None:
    write(receipt(kind="install"), {"clock": "x"})
    assert good("receipts", "export", "day.jsonl") == HEAD + "\n"


def test_a_broken_chain_is_refused_and_nothing_is_written() -> None:
    write(receipt(), receipt(2))
    text = Path("day.jsonl").read_text().replace("SN-1", "SN-9")
    Path("day.jsonl").write_text(text)
    found = run("receipts", "export", "day.jsonl", "--csv", "out.csv", "--labels", "labels")
    assert found.status == 1
    assert not Path("out.csv").exists()
    assert not Path("labels").exists()


def test_a_label_for_each_good_board() -> None:
    write(
        receipt(),
        receipt(2, result="incomplete"),
        receipt(3, device_data=None),
        receipt(1, result="incomplete", board={"identity": "mac:a0b765c1d2e4"}),
    )
    found = run("receipts", "export", "day.jsonl", "--csv", "out.csv", "--labels", "labels")
    assert "labels in labels: 2" in found.err
    names = sorted(path.name for path in Path("labels").iterdir())
    assert names == ["label-SN-1.txt", "label-mac-a0b765c1d2e3.txt"]
    assert Path("labels/label-SN-1.txt").read_text() == (
        "serial   SN-1\nmac      a0b765c1d2e1\nproduct  acme.example/x1\nversion  1.2\n"
    )


def test_the_last_receipt_of_a_board_decides_about_its_label() -> None:
    write(receipt(), receipt(2, board={"identity": "mac:a0b765c1d2e1"}, result="incomplete"))
    good("receipts", "export", "day.jsonl", "--csv", "out.csv", "--labels", "labels")
    assert list(Path("labels").iterdir()) == []


def test_labels_are_made_again_and_never_replaced_unasked() -> None:
    write(receipt())
    arguments = ("receipts", "export", "day.jsonl", "--labels", "labels")
    good(*arguments)
    good(*arguments)
    label = Path("labels/label-SN-1.txt")
    label.write_text("by hand")
    refused(run(*arguments), 5, f"{label} exists already", "--force replaces labels")
    assert label.read_text() == "by hand"
    good(*arguments, "--force")
    assert label.read_text().startswith("serial   SN-1\n")


def test_a_place_for_labels_that_cannot_be_made() -> None:
    write(receipt())
    found = run("receipts", "export", "day.jsonl", "--labels", "none/labels", "--csv", "out.csv")
    assert found.status == 5
    assert "cannot write none/labels: no such file or directory" in found.err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize("serial", ["../../x", "/etc/passwd", "..", "a" * 300, "con", "\u202ex"])
def test_a_labels_name_is_no_path(serial: str) -> None:
    write(receipt(device_data={"serial": serial}), receipt(2, device_data={"serial": serial}))
    good("receipts", "export", "day.jsonl", "--labels", "labels")
    names = {path.name for path in Path("labels").iterdir()}
    assert len(names) == 2
    assert all(name.startswith("label-") and len(name) < 90 for name in names)


def test_show_names_the_serial_number_too() -> None:
    write(receipt(), receipt(2, device_data=None))
    lines = good("receipts", "show", "day.jsonl").splitlines()
    assert lines[2] == "  serial: SN-1"
    assert len(lines) == 4
