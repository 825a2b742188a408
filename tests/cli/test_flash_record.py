# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash`: the result, --json and the receipts say the same, and leave nothing out."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import SAMPLES, good, refused, run
from flash.kit import OTA_TABLE, esp_image
from flash.smp_kit import image
from fwsign.cli import ui
from fwsign.cli.flash.table import short_names, sum_up
from fwsign.errors import Failed
from fwsign.flash.outcome import Outcome, never_reached
from fwsign.flash.simulate import Simulated
from support import require_package

C3 = "sim:esp32c3?flash=c3.flash"


@pytest.fixture(autouse=True)
def _needed() -> None:
    require_package("serial")
    require_package("esptool")


@pytest.fixture(autouse=True)
def release(project: Path) -> Path:
    """A project with a release of an application and of a file."""
    (project / "app.bin").write_bytes(esp_image())
    (project / "table.bin").write_bytes(OTA_TABLE)
    (project / "notes.txt").write_bytes(b"notes")
    good("sign", "app.bin", "--sequence", "1000")
    good("sign", "app.bin", "notes.txt", "--output", "all.suit", "--sequence", "1000")
    good("sign", "app.bin", "table.bin", "--output", "whole.suit", "--sequence", "1000")
    return project


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_file_that_boards_do_not_take_makes_it_incomplete(release: Path) -> None:
    found = run("flash", "all.suit", "--port", C3)
    assert found.status == 5
    assert found.out.startswith(f"incomplete  {C3}  esp32c3 mac:")
    hint = (
        "--leave-out notes.txt flashes the rest; what is for the board is signed so: "
        "fwsign sign FILE --target CHIP@OFFSET"
    )
    assert found.errors == [
        f"error: {C3}: not for flash, and not left out by name: notes.txt",
        f"hint: {hint}",
    ]
    with Simulated("sim:esp32c3") as fresh:
        assert (release / "c3.flash").read_bytes() == fresh.flash
    assert "left out: " not in found.out  # nobody has left it out


def test_what_is_left_out_by_name_is_said_everywhere(release: Path) -> None:
    typed = ("flash", "all.suit", "--leave-out", "notes.txt", "--receipt", "line.jsonl")
    first = good(*typed, "--port", C3).splitlines()[0]
    assert first.startswith("verified")
    assert first.endswith("  left out: notes.txt")
    (told,) = lines(good(*typed, "--port", C3, "--json"))
    assert (told["result"], told["left_out"], told["waived"]) == ("verified", ["notes.txt"], [])
    assert "\n  left out: notes.txt\n" in good("receipts", "show", release / "line.jsonl")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nots.txt", '"nots.txt" is not in the release'),
        ("esp32c3@0x10000", '"esp32c3@0x10000" is for flash, and is always written'),
        ("app.bin", '"app.bin" is for flash, and is always written'),
    ],
)
def test_only_what_is_there_and_not_for_flash_is_left_out(name: str, words: str) -> None:
    refused(
        run("flash", "all.suit", "--port", C3, "--leave-out", name),
        2,
        f"--leave-out {name}: {words}",
        "what can be left out: notes.txt",
    )
    found = run("flash", "app.bin.suit", "--port", C3, "--leave-out", name)
    assert found.errors[1] == "hint: what can be left out: none"


@pytest.mark.parametrize(
    ("target", "port"),
    [("rp2040@0x4000", "sim:pico-uart"), ("nrf52840@0x0", "sim:smp")],
)
def test_every_kind_of_board_leaves_nothing_out_silently(
    release: Path, target: str, port: str
) -> None:
    program = (SAMPLES / "blink-rp2040-uart.bin").read_bytes()
    (release / "app.bin").write_bytes(image() if port == "sim:smp" else program)
    typed = ("app.bin", "notes.txt", "--output", "all.suit", "--force")
    good("sign", *typed, "--target", f"app.bin={target}")
    found = run("flash", "all.suit", "--port", port, "--json")
    (told,) = lines(found.out)
    assert (found.status, told["result"], told["code"]) == (5, "incomplete", "device.left-out")
    (told,) = lines(good("flash", "all.suit", "--port", port, "--json", "--leave-out", "notes.txt"))
    assert told["result"] in ("verified", "device-reported")


@pytest.mark.parametrize("name", ["nope.suit", "all.suit"])
def test_who_reads_nothing_still_learns_the_status(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> None:
        raise ui.ReaderGone

    monkeypatch.setattr(ui, "_write", gone)
    assert run("flash", name, "--port", C3, "--json").status == 5
    assert run("flash", name, "--port", C3).status == 5


def test_a_table_of_the_release_is_written_with_it(release: Path) -> None:
    (told,) = lines(good("flash", "whole.suit", "--port", C3, "--json"))
    assert [one["component"] for one in told["regions"]] == ["esp32c3@0x10000", "esp32c3@0x8000"]
    assert (release / "c3.flash").read_bytes()[0x8000:][: len(OTA_TABLE)] == OTA_TABLE


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        (("--no-rollback-check",), ["rollback"]),
        (("--allow-example-keys",), ["example-keys"]),
        (("--profile", "compat"), ["compat"]),
        (("--revocation", "off"), ["revocation"]),
        (("--revocation", "allow-stale:30d"), ["stale"]),
        (("--any-product",), ["product"]),
        (("--accept-unverifiable", "--readback", "digest"), ["unverifiable", "readback"]),
        (
            ("--revocation", "off", "--any-product", "--no-rollback-check"),
            ["revocation", "product", "rollback"],
        ),
    ],
)
def test_every_waiver_is_in_the_line_the_json_and_the_receipt(
    typed: tuple[str, ...], names: list[str]
) -> None:
    words = ", ".join(names)
    line = good("flash", "app.bin.suit", "--port", C3, *typed).splitlines()[0]
    assert line.endswith(f"  waived: {words}")
    (told,) = lines(good("flash", "app.bin.suit", "--port", C3, "--json", *typed))
    assert told["waived"] == names
    shown = good("receipts", "show")
    assert shown.count(f"\n  waived: {words}\n") == 2
    wrong = run("flash", "app.bin.suit", "--port", "sim:esp32s3", *typed)
    assert wrong.out.splitlines()[0].endswith(f"  waived: {words}")
    assert wrong.status == 4


def test_receipts_say_why_and_of_which_release() -> None:
    run("flash", "app.bin.suit", "--port", "sim:esp32s3")
    run("flash", "app.bin.suit", "--port", "/dev/there-is-none")
    shown = good("receipts", "show").splitlines()
    assert "(simulated)  acme.example/gateway-x1 1.0 #1000  refused" in shown[1]
    assert shown[2] == "  unsuitable.chip: the release is for esp32c3, the board is esp32s3"
    assert shown[3].split()[1:5] == [
        "/dev/there-is-none",
        "acme.example/gateway-x1",
        "1.0",
        "#1000",
    ]
    assert shown[4].startswith("  device.port: cannot open /dev/there-is-none")


def test_an_older_release_is_told_by_its_own_number() -> None:
    good("flash", "app.bin.suit", "--port", C3)
    good("sign", "app.bin", "--sequence", "900", "--force")
    (told,) = lines(run("flash", "app.bin.suit", "--port", C3, "--json").out)
    assert (told["code"], told["release"]["sequence_number"]) == ("unsuitable.rollback", 900)


def test_simulated_chips_have_identities_of_their_own() -> None:
    found = {}
    for chip in ("esp32c3", "esp32s3", "esp32", "esp8266"):
        (told,) = lines(run("flash", "app.bin.suit", "--port", f"sim:{chip}", "--json").out)
        assert told["board"]["simulated"] is True
        found[told["board"]["identity"]] = chip
    assert len(found) == 4
    assert all(name.startswith("mac:02") for name in found)  # locally administered: nobody's


def test_a_dry_run_says_how_much_would_change() -> None:
    typed = ("flash", "whole.suit", "--port", C3)
    before = good(*typed, "--dry-run").splitlines()[0]
    size = len(esp_image()) // 4096 * 4096 + 4096 + 4096
    assert f"  {size} bytes would change, " in before
    (told,) = lines(good(*typed, "--dry-run", "--json"))
    assert (told["result"], told["differing"], told["written"]) == ("dry run", size, 0)
    good(*typed)
    assert "  0 bytes would change, " in good(*typed, "--dry-run")
    assert lines(good(*typed, "--json"))[0]["differing"] == 0


class TestJson:
    def test_a_refusal_before_any_board_is_a_line_for_each(self, release: Path) -> None:
        (release / "app.bin").write_bytes(b"another")
        found = run("flash", "app.bin.suit", "--port", "A", "--port", "B", "--json")
        assert found.status == 1
        told = lines(found.out)
        assert [one["port"] for one in told] == ["A", "B"]
        assert {(one["result"], one["code"]) for one in told} == {
            ("refused", "tampered.payload-size")
        }
        assert len(found.errors) == 2

    def test_a_file_that_takes_no_receipts_too(self) -> None:
        found = run("flash", "app.bin.suit", "--port", C3, "--json", "--receipt", "app.bin")
        (told,) = lines(found.out)
        assert (found.status, told["port"], told["code"]) == (5, C3, "io.format")

    def test_where_no_board_is_named_it_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fwsign.flash.ports.find", list)
        found = run("flash", "app.bin.suit", "--all", "--json")
        (told,) = lines(found.out)
        assert (found.status, told["port"], told["code"]) == (5, None, "device.absent")

    @pytest.mark.parametrize(
        "typed",
        [
            (),
            ("--port", C3, "--all"),
            ("--port", "sim:esp99"),
            ("--port", C3, "--leave-out", "x"),
            ("--port", C3, "--baud", "x"),
            ("--nonsense",),
        ],
    )
    def test_a_usage_error_is_exactly_one_object(self, typed: tuple[str, ...]) -> None:
        found = run("flash", "app.bin.suit", *typed, "--json")
        assert (found.status, json.loads(found.out)["code"]) == (2, "usage")

    def test_a_receipt_that_cannot_be_written_adds_no_object(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> str:
            raise Failed("io.full", "no space left on device")

        monkeypatch.setattr("fwsign.receipts.file.append", full)
        found = run("flash", "app.bin.suit", "--port", C3, "--json", "--receipt", "line.jsonl")
        (told,) = lines(found.out)
        assert (found.status, told["result"]) == (5, "verified")
        assert found.errors == ["error: no space left on device"]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("sim:esp99", "esp8266, esp32, "),
        ("sim:", "esp8266, esp32, "),
        (
            "sim:esp32c3?flsh=x",
            "flash, baud, id, revision, size, table, lines, security-version, content, chip, noise",
        ),
        ("sim:esp32c3?flash=", "flash with a file"),
        ("sim:esp32c3?baud=x", "baud with N or line"),
        ("sim:esp32c3?id=xyz", "12 hex digits"),
        ("sim:pico-uart?id=xyz", "16 hex digits"),
        ("sim:pico-uart?lock=secure-boot", "an ESP for it"),
        ("sim:smp?id=00", "a board that has one"),
        ("sim:esp32c3?lock=nonsense", "secure-boot, flash-encryption, secure-download-mode"),
        ("sim:esp32c3?fault=cabel@1", "NAME or NAME@N"),
        ("sim:esp32c3?fault=cable@x", "NAME or NAME@N"),
        ("socket://board", "socket://HOST:PORT"),
        ("socket://board:x", "socket://HOST:PORT"),
        ("rfc2217://:4000", "rfc2217://HOST:PORT"),
        ("sockets://board:1", "a device, COM5, a drive, sim:BOARD, or one of socket, rfc2217"),
        ("", "a device, COM5"),
    ],
)
def test_a_port_that_cannot_be_meant_is_a_usage_error(
    release: Path, port: str, expected: str
) -> None:
    found = run("flash", "app.bin.suit", "--port", port)
    assert (found.status, found.out) == (2, "")
    assert found.errors[0].startswith(f"error: --port {port}: ")
    assert f"expected {expected}" in found.errors[0]
    assert not (release / ".local").exists()


class TestManyBoards:
    def test_the_last_line_counts(self, release: Path) -> None:
        del release
        ports = [f"sim:esp32c3?id=02000000000{number}" for number in range(2)]
        named = [word for port in (*ports, "sim:esp32s3") for word in ("--port", port)]
        found = run("flash", "app.bin.suit", *named)
        assert found.status == 4
        assert found.out.splitlines()[-1] == "2 of 3 verified, 1 refused"
        dry = run("flash", "app.bin.suit", *named, "--dry-run")
        assert dry.out.splitlines()[-1] == "2 of 3 dry run, 1 refused"

    def test_one_board_needs_no_sum(self, capsys: pytest.CaptureFixture[str]) -> None:
        one = never_reached(Failed("device.lost", "gone"))
        sum_up([one])
        assert capsys.readouterr().out == ""
        good_one: Outcome = one._replace(status="verified")
        sum_up([*[good_one] * 7, one])
        assert capsys.readouterr().out == "7 of 8 verified, 1 incomplete\n"

    def test_names_by_usb_socket_fit_the_table(self) -> None:
        start = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:"
        ports = [f"{start}{at}:1.0-port0" for at in (1, 2)]
        found = short_names(ports, 27)
        assert found[ports[0]] == "...0:14.0-usb-0:1:1.0-port0"
        assert {len(name) for name in found.values()} == {27}
        assert len(set(short_names(ports, 27).values())) == 2
        assert short_names(["/dev/ttyUSB0", "COM5"], 27) == {
            "/dev/ttyUSB0": "/dev/ttyUSB0",
            "COM5": "COM5",
        }

    def test_names_that_end_alike_are_numbered(self) -> None:
        ports = [f"/dev/{letter * 30}/the-same-name" for letter in "ab"]
        assert list(short_names(ports, 16).values()) == ["1 the-same-name", "2 the-same-name"]
        assert all(len(name) <= 8 for name in short_names(ports, 1).values())
