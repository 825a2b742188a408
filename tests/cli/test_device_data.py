"""`fwsign flash --device-data`: one row of a CSV file for each board, as the policy allows."""

import json
import random
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cli.kit import REPOSITORY, Result, command, environment, good, refused, run
from cli.test_device_policy import POLICY, TABLE
from flash.kit import esp_image, partition_table
from fwsign.images import esp_nvs
from fwsign.images.esp_nvs import NvsEntry
from fwsign.memory.file import default_path
from support import require_package, stride

SECRET = "correct horse battery"
ROWS = f"serial,password\nSN-1,{SECRET}\nSN-2,another one\nSN-3,\n"
AT, SIZE = 0x80000, 0x3000


def board(number: int, **more: object) -> str:
    options = "".join(f"&{key}={value}" for key, value in more.items())
    return f"sim:esp32c3?flash={number}.flash&id=a0b765c1d2e{number}{options}"


@pytest.fixture(autouse=True)
def files(project: Path) -> Path:
    """A project with a release that allows data for each board, and rows."""
    require_package("serial")
    require_package("esptool")
    return prepare(project)


def prepare(project: Path) -> Path:
    (project / "app.bin").write_bytes(esp_image())
    (project / "boot.bin").write_bytes(esp_image(app=False))
    (project / "table.bin").write_bytes(TABLE)
    (project / "policy.toml").write_text(POLICY)
    (project / "boards.csv").write_text(ROWS)
    sign(1000)
    return project


def sign(sequence: int, *more: object) -> None:
    good(
        *("sign", "app.bin", "boot.bin", "table.bin", "--device-data", "policy.toml", "--force"),
        *("--output", "all.suit", "--sequence", sequence, *more),
    )


def flash(*arguments: object, **more: Any) -> Result:
    return run("flash", "all.suit", "--device-data", "boards.csv", *arguments, **more)


def receipts(found: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.out.splitlines()]


def there(number: int, at: int = AT, size: int = SIZE) -> bytes:
    return Path(f"{number}.flash").read_bytes()[at : at + size]


def row(serial: str, password: str | None = None) -> bytes:
    entries = [NvsEntry("device", "serial", "string", serial.encode())]
    if password is not None:
        entries.append(NvsEntry("wifi", "password", "string", password.encode()))
    return esp_nvs.partition(entries, SIZE)


def test_a_row_is_written_verified_and_named() -> None:
    found = flash("--port", board(1), "--serial", "SN-1")
    assert found.status == 0, found
    assert "  serial SN-1  " in found.out.splitlines()[0]
    assert '  device data in partition "device"  12288 bytes, ' in found.out
    assert there(1) == row("SN-1", SECRET)
    assert SECRET not in found.out + found.err


def test_the_receipt_has_serial_number_keys_and_digest_and_no_value() -> None:
    import hashlib

    found = flash("--port", board(1), "--serial", "SN-1", "--json", "--receipt", "day.jsonl")
    (receipt,) = receipts(found)
    assert receipt["result"] == "verified"
    assert receipt["device_data"] == {
        "serial": "SN-1",
        "places": [{"place": 'partition "device"', "keys": ["device/serial", "wifi/password"]}],
    }
    digests = {one["component"]: one["sha256"] for one in receipt["regions"]}
    assert (
        digests['device data in partition "device"']
        == hashlib.sha256(row("SN-1", SECRET)).hexdigest()
    )
    assert receipt["left_out"] == []
    assert SECRET not in found.out + found.err + Path("day.jsonl").read_text()
    out = good("receipts", "export", "day.jsonl")
    assert ",SN-1," in out.splitlines()[1]


def test_an_optional_value_may_be_absent() -> None:
    (receipt,) = receipts(flash("--port", board(1), "--serial", "SN-3", "--json"))
    assert receipt["device_data"]["places"][0]["keys"] == ["device/serial"]
    assert there(1) == row("SN-3")


def test_next_takes_the_rows_in_their_order_and_each_once() -> None:
    for number in (1, 2, 3):
        (receipt,) = receipts(flash("--port", board(number), "--next", "--json"))
        assert receipt["device_data"]["serial"] == f"SN-{number}"
    found = flash("--port", board(4), "--next")
    assert found.status == 4
    assert found.errors == [
        (
            f"error: {board(4)}: boards.csv has no row for the board mac:a0b765c1d2e4: "
            "none of 3 is free"
        ),
        "hint: more boards need a file with more rows",
    ]
    assert esp_image() not in Path("4.flash").read_bytes()


def test_boards_at_once_never_share_a_row() -> None:
    ports = [word for number in (1, 2, 3) for word in ("--port", board(number))]
    found = flash(*ports, "--next", "--json")
    assert found.status == 0, found
    serials = {one["port"]: one["device_data"]["serial"] for one in receipts(found)}
    assert sorted(serials.values()) == ["SN-1", "SN-2", "SN-3"]
    passwords = {"SN-1": SECRET, "SN-2": "another one", "SN-3": None}
    for number in (1, 2, 3):
        serial = serials[board(number)]
        assert there(number) == row(serial, passwords[serial])


def test_the_same_board_gets_its_own_row_again() -> None:
    flash("--port", board(1), "--serial", "SN-2")
    sign(2000)
    again = flash("--port", board(1), "--json")
    assert receipts(again)[0]["device_data"]["serial"] == "SN-2"
    assert receipts(again)[0]["written"] == 0
    third = flash("--port", board(1), "--next", "--json")
    assert receipts(third)[0]["device_data"]["serial"] == "SN-2"


def test_another_row_for_a_board_that_has_one_is_refused() -> None:
    flash("--port", board(1), "--serial", "SN-2")
    found = flash("--port", board(1), "--serial", "SN-1")
    assert found.status == 4
    assert found.errors[0] == (
        f"error: {board(1)}: two rows for the board mac:a0b765c1d2e1: it has the row SN-2 since it "
        "was first filled, the row SN-1 was typed for it"
    )
    assert there(1) == row("SN-2", "another one")


def test_a_row_that_another_board_has_is_refused() -> None:
    flash("--port", board(1), "--serial", "SN-2")
    found = flash("--port", board(2), "--serial", "SN-2")
    assert found.status == 4
    assert found.errors[0] == (
        f"error: {board(2)}: the row with the serial number SN-2 is that of mac:a0b765c1d2e1, "
        "this board is mac:a0b765c1d2e2"
    )
    assert esp_image() not in Path("2.flash").read_bytes()


def test_the_record_survives_another_file_and_another_receipt_file() -> None:
    flash("--port", board(1), "--next", "--receipt", "a.jsonl", "--no-rollback-check")
    Path("boards.csv").rename("copy.csv")
    found = run(
        "flash", "all.suit", "--device-data", "copy.csv", "--port", board(2), "--serial", "SN-1"
    )
    assert found.status == 4
    assert "is that of mac:a0b765c1d2e1" in found.err


def test_a_board_whose_row_is_not_in_the_file_is_refused() -> None:
    flash("--port", board(1), "--next")
    Path("boards.csv").write_text("serial,password\nSN-7,seven\n")
    found = flash("--port", board(1), "--next")
    assert found.status == 4
    assert "boards.csv has no row with the serial number SN-1" in found.err


def test_rows_may_name_their_board() -> None:
    Path("boards.csv").write_text(
        "serial,mac,password\nSN-1,A0:B7:65:C1:D2:E2,two\nSN-2,a0b765c1d2e1,one\nSN-3,,three\n"
    )
    ports = ("--port", board(1), "--port", board(2), "--port", board(3))
    found = flash(*ports, "--next", "--json")
    assert {one["port"]: one["device_data"]["serial"] for one in receipts(found)} == {
        board(1): "SN-2",
        board(2): "SN-1",
        board(3): "SN-3",
    }


def test_a_row_for_another_mac_is_refused() -> None:
    Path("boards.csv").write_text("serial,mac,password\nSN-1,a0b765c1d2e9,nine\nSN-2,,x\n")
    found = flash("--port", board(1), "--serial", "SN-1")
    assert found.status == 4
    assert found.errors[0] == (
        f"error: {board(1)}: the row with the serial number SN-1 is for the MAC a0b765c1d2e9, "
        "this board is mac:a0b765c1d2e1"
    )
    good("flash", "all.suit", "--device-data", "boards.csv", "--port", board(1), "--next")
    assert there(1) == row("SN-2", "x")


def test_a_board_without_a_row_is_refused() -> None:
    found = flash("--port", board(1))
    assert found.status == 4
    assert found.errors == [
        (
            f"error: {board(1)}: boards.csv has no row for the board mac:a0b765c1d2e1: "
            "none of 3 names it"
        ),
        "hint: name it with --serial PORT=SERIAL, --scan, or in a column mac; or take --next",
    ]


def test_simulated_boards_use_up_no_rows_of_real_ones() -> None:
    from fwsign.format.identifiers import class_id, vendor_id
    from fwsign.memory.rows import Batch
    from fwsign.memory.state import State

    flash("--port", board(1), "--next")
    batch = Batch(vendor_id("acme.example"), class_id("acme.example", "gateway-x1"))
    with State.open(default_path()) as memory:
        assert memory.board_of(batch, "SN-1") is None
        assert memory.board_of(batch._replace(simulated=True), "SN-1") == "mac:a0b765c1d2e1"


def test_a_dry_run_allots_nothing() -> None:
    (receipt,) = receipts(flash("--port", board(1), "--next", "--dry-run", "--json"))
    assert receipt["device_data"]["serial"] == "SN-1"
    assert not default_path().exists()
    (receipt,) = receipts(flash("--port", board(2), "--next", "--json"))
    assert receipt["device_data"]["serial"] == "SN-1"
    (receipt,) = receipts(flash("--port", board(1), "--next", "--dry-run", "--json"))
    assert receipt["device_data"]["serial"] == "SN-2"


def test_a_refused_board_uses_up_no_row() -> None:
    locked = board(1, lock="flash-encryption")
    found = flash("--port", locked, "--next", "--json")
    assert found.status == 4
    assert receipts(found)[0]["device_data"] is None
    (receipt,) = receipts(flash("--port", board(2), "--next", "--json"))
    assert receipt["device_data"]["serial"] == "SN-1"


def test_a_board_without_an_identity_is_refused() -> None:
    locked = board(1, lock="secure-download-mode")
    found = flash("--port", locked, "--next", "--accept-unverifiable")
    assert found.status == 4
    assert "the board has no identity, by which it would get its own row again" in found.err


def test_a_run_that_was_cut_goes_on_with_the_same_row() -> None:
    found = flash("--port", board(1, fault="power@40"), "--next", "--json")
    (receipt,) = receipts(found)
    assert receipt["result"] in ("incomplete", "verified")
    assert receipt["device_data"]["serial"] == "SN-1"
    (other,) = receipts(flash("--port", board(2), "--next", "--json"))
    assert other["device_data"]["serial"] == "SN-2"
    (again,) = receipts(flash("--port", board(1), "--next", "--json"))
    assert (again["result"], again["device_data"]["serial"]) == ("verified", "SN-1")
    assert there(1) == row("SN-1", SECRET)


# --- what is refused before any board is asked --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            f"serial,password\nSN-1,{SECRET}\nSN-2,{SECRET}\n",
            (
                'boards.csv, line 3, column "password": expected another value in each row, found '
                "that of line 2"
            ),
        ),
        (
            f"serial,password\nSN-1,{SECRET * 4}\n",
            'boards.csv, line 2, column "password": expected at most 63 bytes, found 84 bytes',
        ),
        (
            f"serial,password,pin\nSN-1,a,{SECRET}\n",
            ('boards.csv, line 1: "pin" is not a column that the signed policy allows'),
        ),
        (f"serial,password\nSN-1,{SECRET},\n", "boards.csv, line 2: 3 cells, the first line has 2"),
    ],
)
def test_a_wrong_file_is_refused_before_any_board_is_asked(text: str, error: str) -> None:
    Path("boards.csv").write_text(text)
    found = flash("--port", board(1), "--next", "--json")
    assert (found.status, found.errors[0]) == (1, f"error: {error}")
    assert json.loads(found.out)["code"] == "malformed.device-data"
    assert SECRET not in found.out + found.err
    assert not Path("1.flash").exists()


def test_a_mistyped_serial_number_is_refused_before_any_board_is_asked() -> None:
    found = flash("--port", board(1), "--serial", "SN-9")
    refused(
        found,
        4,
        "boards.csv has no row with the serial number SN-9",
        "is it mistyped, or in the file of another batch?",
    )
    assert not Path("1.flash").exists()


def test_a_required_policy_is_not_passed_over_silently() -> None:
    found = run("flash", "all.suit", "--port", board(1))
    refused(
        found,
        4,
        "the release requires data for each board, and none was given",
        "--device-data FILE.csv gives it; --leave-out device-data.toml flashes without, and is "
        "recorded",
    )
    assert not Path("1.flash").exists()
    left = run("flash", "all.suit", "--port", board(1), "--leave-out", "device-data.toml", "--json")
    assert left.status == 0
    (receipt,) = receipts(left)
    assert (receipt["left_out"], receipt["device_data"]) == (["device-data.toml"], None)
    assert set(there(1)) == {0xFF}


def test_without_required_the_release_flashes_without_and_says_so() -> None:
    Path("policy.toml").write_text(POLICY.replace("required = true\n[[", "[[", 1))
    sign(1000)
    found = run("flash", "all.suit", "--port", board(1))
    assert found.status == 0
    assert "the release allows data for each board, and none was given" in found.out


def test_a_release_without_a_policy_takes_no_data() -> None:
    good("sign", "app.bin", "boot.bin", "table.bin", "--output", "all.suit", "--force")
    refused(
        flash("--port", board(1), "--next"),
        4,
        "the release does not say which device data may be written",
        "sign it with a policy: fwsign sign FILE --device-data TOML",
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--serial", "SN-1"), "--serial without --device-data"),
        (("--next",), "--next without --device-data"),
        (("--scan",), "--scan without --device-data"),
        (
            ("--device-data", "-", "--scan"),
            "--scan and --device-data - both read standard input",
        ),
        (
            ("--device-data", "boards.csv", "--leave-out", "device-data.toml"),
            "--device-data and --leave-out device-data.toml exclude each other",
        ),
        (
            ("--device-data", "boards.csv", "--serial", "COM1=SN-1"),
            "--serial COM1=SN-1 names no board of this run",
        ),
        (
            ("--device-data", "boards.csv", "--serial", "SN-1", "--serial", "SN-2"),
            f"two serial numbers for {board(1)}: SN-1 and SN-2",
        ),
        (
            (
                *("--device-data", "boards.csv", "--port", board(2)),
                *("--serial", f"{board(1)}=SN-1", "--serial", f"{board(2)}=SN-1"),
            ),
            "the serial number SN-1 was typed for two boards",
        ),
        (
            ("--device-data", "boards.csv", "--port", board(2), "--serial", "SN-1"),
            "--serial SN-1 with 2 boards",
        ),
    ],
)
def test_options_that_do_not_fit(arguments: tuple[str, ...], error: str) -> None:
    found = run("flash", "all.suit", "--port", board(1), *arguments)
    assert (found.status, found.errors[0]) == (2, f"error: {error}")


def test_rows_by_port() -> None:
    ports = ("--port", board(1), "--port", board(2))
    serials = ("--serial", f"{board(2)}=SN-1", "--serial", f"{board(1)}=SN-2")
    found = flash(*ports, *serials, "--json")
    assert {one["port"]: one["device_data"]["serial"] for one in receipts(found)} == {
        board(1): "SN-2",
        board(2): "SN-1",
    }


def test_serial_numbers_are_scanned_one_after_the_other() -> None:
    ports = ("--port", board(1), "--port", board(2))
    scanned = "SN-9\nSN-2\nSN-2\nSN-3\n"
    found = flash(*ports, "--scan", "--json", stdin=scanned)
    assert {one["port"]: one["device_data"]["serial"] for one in receipts(found)} == {
        board(1): "SN-2",
        board(2): "SN-3",
    }
    asked = [line for line in found.err.splitlines() if "serial number" in line]
    assert asked == [
        f"fwsign: serial number of the board at {board(1)}?",
        "fwsign: boards.csv has no row with the serial number SN-9",
        f"fwsign: serial number of the board at {board(1)}?",
        f"fwsign: serial number of the board at {board(2)}?",
        "fwsign: the serial number SN-2 is that of another board of this run",
        f"fwsign: serial number of the board at {board(2)}?",
    ]


def test_a_typed_serial_number_is_not_asked_for_and_the_end_of_input_is_no_board() -> None:
    ports = ("--port", board(1), "--port", board(2))
    found = flash(*ports, "--serial", f"{board(1)}=SN-1", "--scan", stdin="")
    assert found.status == 2
    assert found.errors[0] == f"error: no serial number for {board(2)}"
    assert not Path("1.flash").exists()


def test_a_slots_label_stands_for_its_port() -> None:
    ports = ("--port", board(1), "--port", board(2))
    labels = ("--label", f"{board(1)}=left", "--label", f"{board(2)}=right")
    found = flash(*(*ports, *labels, "--serial", "right=SN-1", "--scan", "--json"), stdin="SN-2\n")
    assert {one["label"]: one["device_data"]["serial"] for one in receipts(found)} == {
        "left": "SN-2",
        "right": "SN-1",
    }
    assert "fwsign: serial number of the board at left?" in found.err


def test_rows_from_standard_input_are_on_no_disk() -> None:
    found = run("flash", "all.suit", "--device-data", "-", "--port", board(1), "--next", stdin=ROWS)
    assert found.status == 0, found
    assert there(1) == row("SN-1", SECRET)


def test_no_value_is_left_in_any_file_but_the_flash(project: Path) -> None:
    run("flash", "all.suit", "--device-data", "-", "--port", board(1), "--next", stdin=ROWS)
    Path("boards.csv").unlink()
    holders = [
        path.name
        for path in project.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert holders == ["1.flash"]


def test_two_programs_at_once_never_share_a_row(
    today: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(today)
    prepare(today)
    good(
        *("sign", "app.bin", "boot.bin", "table.bin", "--device-data", "policy.toml", "--force"),
        *("--output", "all.suit"),
    )
    names = "".join(f"SN-{n},password number {n}\n" for n in range(20))
    Path("boards.csv").write_text("serial,password\n" + names)
    programs = [
        subprocess.Popen(
            command(
                (
                    *("flash", "all.suit", "--device-data", "boards.csv", "--next", "--json"),
                    *("--port", board(2 * number), "--port", board(2 * number + 1)),
                )
            ),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(HOME=str(today)),
        )
        for number in range(3)
    ]
    outs = [one.communicate(timeout=120)[0] for one in programs]
    found = [json.loads(line) for out in outs for line in out.splitlines()]
    assert [one.returncode for one in programs] == [0, 0, 0], found
    serials = [one["device_data"]["serial"] for one in found]
    assert sorted(serials) == [f"SN-{number}" for number in range(6)]


def test_killed_at_any_time_no_row_is_on_two_boards(
    today: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(today)
    prepare(today)
    good(
        *("sign", "app.bin", "boot.bin", "table.bin", "--device-data", "policy.toml", "--force"),
        *("--output", "all.suit"),
    )
    rows = "".join(f"SN-{n},{SECRET} {n}\n" for n in range(20))
    Path("boards.csv").unlink()
    Path("tmp").mkdir()
    dice, boards = random.Random(3), 8 // stride(2)
    options = ("--device-data", "-", "--next", "--receipt", "day.jsonl")

    def begin(number: int) -> "subprocess.Popen[str]":
        started = subprocess.Popen(
            command(("flash", "all.suit", *options, "--port", board(number))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(HOME=str(today), TMPDIR=str(today / "tmp")),
        )
        assert started.stdin is not None
        started.stdin.write("serial,password\n" + rows)
        started.stdin.close()
        return started

    for number in range(boards):
        doomed = begin(number)
        time.sleep(0.5 + 2.5 * dice.random())
        doomed.kill()
        doomed.wait()
        assert doomed.stdout is not None
        doomed.stdout.close()
    for number in range(boards):
        last = begin(number)
        assert last.stdout is not None
        with last.stdout:
            out = last.stdout.read()
        assert last.wait() == 0, out
        assert SECRET not in out
    held = [there(number) for number in range(boards)]
    known = {row(f"SN-{n}", f"{SECRET} {n}"): n for n in range(20)}
    numbers = [known[one] for one in held]
    assert len(set(numbers)) == boards
    holders = [
        path.name
        for path in today.rglob("*")
        if path.is_file()
        and SECRET.encode() in path.read_bytes()
        and ".flash." not in path.name  # what a killed simulator left of its board's flash
    ]
    assert sorted(holders) == [f"{number}.flash" for number in range(boards)]


# --- other places ---------------------------------------------------------------------------------


def test_data_lies_over_a_merged_image_and_is_not_kept() -> None:
    from fwsign.images.esp_partitions import SECTOR

    merged = bytearray(b"\xff" * 0x84000)
    for at, name in ((0, "boot.bin"), (0x8000, "table.bin"), (0x10000, "app.bin")):
        data = Path(name).read_bytes()
        merged[at : at + len(data)] = data
    Path("merged.bin").write_bytes(merged)
    good(
        *("sign", "merged.bin", "--device-data", "policy.toml", "--output", "all.suit", "--force"),
    )
    for options in ((), ("--erase-data",), ("--force-rewrite",)):
        found = flash("--port", board(1), "--serial", "SN-1", "--json", *options)
        (receipt,) = receipts(found)
        assert receipt["result"] == "verified", receipt
        assert "device" not in [one["label"] for one in receipt["kept"]]
        assert there(1) == row("SN-1", SECRET)
        assert there(1, 0x83000, SECTOR) == b"\xff" * SECTOR


def test_a_board_whose_table_has_no_such_place_is_refused() -> None:
    good("flash", "all.suit", "--port", board(1), "--leave-out", "device-data.toml")
    Path("policy.toml").write_text(POLICY.replace('label = "device"', 'label = "settings"'))
    good(
        *("sign", "app.bin", "--device-data", "policy.toml", "--force", "--output", "all.suit"),
    )
    found = flash("--port", board(1), "--next")
    assert found.status == 4
    assert 'expected one partition "settings", found "nvs", "phy_init", "factory"' in found.err
    (receipt,) = receipts(flash("--port", board(1), "--next", "--json"))
    assert receipt["device_data"] is None


def test_another_chip_than_the_policy_is_for_is_refused() -> None:
    Path("s3.bin").write_bytes(esp_image("esp32s3"))
    good(
        *("sign", "app.bin", "boot.bin", "s3.bin", "--device-data", "policy.toml", "--force"),
        *("--output", "all.suit"),
    )
    found = flash("--port", "sim:esp32s3?flash=s3.flash", "--next")
    assert found.status == 4
    assert "the policy for device data is for esp32c3, the board is esp32s3" in found.err


def test_the_data_of_a_board_is_put_back_by_the_same_command() -> None:
    flash("--port", board(1), "--next")
    data = bytearray(Path("1.flash").read_bytes())
    data[AT + 64 : AT + 96] = bytes(32)
    Path("1.flash").write_bytes(data)
    (receipt,) = receipts(flash("--port", board(1), "--next", "--json"))
    assert receipt["result"] == "verified"
    assert receipt["written"] == SIZE
    assert there(1) == row("SN-1", SECRET)


# --- the documentation ----------------------------------------------------------------------------

PAGE = REPOSITORY / "docs" / "device-data.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs")
def test_the_worked_example_of_the_page_runs(project: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    texts = {kind: text for kind, text in blocks if kind != "console"}
    commands = [
        line.removeprefix("$ fwsign ")
        for kind, text in blocks
        if kind == "console"
        for line in text.splitlines()
    ]
    assert len(commands) == 5
    (project / "policy.toml").write_text(texts["toml"])
    (project / "boards.csv").write_text(texts["csv"])
    (project / "bootloader.bin").write_bytes(esp_image(app=False))
    rows = (("factory", 0, 0, 0x10000, 0x70000), ("factory_data", 1, 2, AT, SIZE))
    (project / "partition-table.bin").write_bytes(partition_table(*rows))
    for line in commands:
        good(*shlex.split(line))
    for number, password in ((1, b"correct horse"), (2, b"battery staple"), (3, None)):
        data = (project / f"{number}.bin").read_bytes()[AT : AT + SIZE]
        assert f"SN-000{number}\0".encode() in data
        assert password is None or password + b"\0" in data
    table = (project / "today.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in table] == ["serial", "SN-0001", "SN-0002", "SN-0003"]
    assert len(list((project / "labels").iterdir())) == 3
