# SPDX-License-Identifier: Apache-2.0
"""`fwsign board` and `fwsign ports --probe`, on simulated boards."""

import json
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from fwsign.flash import ports
from support import require_package

ONE = "sim:esp32c3?id=a0b765c1d2e3"


@pytest.fixture(autouse=True)
def _needed() -> None:
    require_package("serial")
    require_package("esptool")


def test_a_board_is_described_without_a_release() -> None:
    out = good("board", ONE).splitlines()
    assert out[:5] == [
        ONE,
        "  chip      esp32c3, revision v0.0",
        "  identity  mac:a0b765c1d2e3",
        "  flash     4 MB",
        "  locks     none",
    ]
    words = [" ".join(line.split()) for line in out[5:]]
    assert words[0] == "through stub"
    assert words[1].startswith("0x0 boot loader built ")
    assert words[2] == "0x8000 partition table partitions 5"
    assert words[-2].startswith("0x10000 ota_0 application stock 1.0, ")
    assert words[-2].endswith(", starts")
    assert words[-1] == "0x200000 ota_1 blank"


def test_the_keys_of_secure_boot_are_told() -> None:
    one, other = "ab" * 32, "cd" * 32
    port = f"{ONE}&lock=secure-boot&key={one}&key={other}:revoked&security-version=3"
    assert good("board", port).splitlines()[4:8] == [
        "  locks     secure boot",
        f"  boot key  {one}",
        f"  boot key  {other} (revoked)",
        "  security  version 3",
    ]
    details = json.loads(good("board", port, "--json"))["board"]["details"]
    assert details["secure boot key 1"] == f"{other} (revoked)"
    assert (details["secure boot key 0"], details["security version"]) == (one, "3")


def test_json_has_the_same() -> None:
    found = json.loads(good("board", ONE, "--json", "--no-stub"))
    assert (found["port"], found["board"]["identity"]) == (ONE, "mac:a0b765c1d2e3")
    assert (found["board"]["revision"], found["board"]["simulated"]) == (0, True)
    assert found["board"]["details"]["boot loader"] == "rom"
    (app,) = [one for one in found["content"] if one["name"] == "ota_0"]
    assert (app["offset"], app["project"], app["version"]) == (0x10000, "stock", "1.0")
    assert (app["holds"], app["starts"]) == ("application", True)
    assert found["notes"] == []


def test_a_port_that_is_not_there_is_an_error() -> None:
    found = run("board", "/dev/there-is-none", "--board", "esp")
    hint = "fwsign ports lists the ports; is it in use, and may you open it?"
    refused(found, 5, "cannot open /dev/there-is-none: no such file or directory", hint)
    found = run("board", "/dev/there-is-none", "--json")
    assert (found.status, json.loads(found.out)["code"]) == (5, "device.port")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["sim:x"], 'no simulated board can be "x"', "see fwsign ports"),
        (["ftp://x"], '"ftp://x" is not a port', "see fwsign ports"),
        ([ONE, "--board", "toaster"], '--board "toaster"', "choose from esp, pico-uart"),
        ([ONE, "--after", "dinner"], '--after "dinner"', "choose from hard-reset"),
    ],
)
def test_impossible_values_are_usage_errors(arguments: list[str], error: str, hint: str) -> None:
    found = run("board", *arguments)
    assert found.status == 2
    assert found.errors[0].startswith(f"error: {error}")
    assert found.errors[1].startswith(f"hint: {hint}")


class TestProbe:
    @pytest.fixture(autouse=True)
    def _here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = [
            ports.PortInfo(ONE, ONE, "Espressif USB", ("esp",), "S1", 0x303A),
            ports.PortInfo("/dev/none", "/dev/none", "Espressif USB", ("esp",)),
            ports.PortInfo("/dev/ttyS0", "/dev/ttyS0", "serial port"),
            ports.PortInfo("sim:pico-uart", "x", "Raspberry Pi Debug Probe", ("pico-uart", "smp")),
        ]
        monkeypatch.setattr(ports, "find", lambda: here)

    def test_a_port_that_fails_hides_no_other(self) -> None:
        found = run("ports", "--probe")
        assert found.status == 5
        out = found.out.splitlines()
        assert out[:2] == [ONE, "  what      Espressif USB, serial number S1"]
        assert "  identity  mac:a0b765c1d2e3" in out
        assert "  failed     cannot open /dev/none: no such file or directory" in out
        assert "  not asked: its USB identity does not tell; fwsign board PORT asks" in out
        assert "  chip      rp2040" in out
        assert "  through   UART boot loader, PICO" in out

    def test_json_has_an_answer_or_an_error_for_each(self) -> None:
        found = run("ports", "--probe", "--json")
        one, none, unknown, pico = json.loads(found.out)["ports"]
        assert (found.status, one["code"], one["board"]["chip"]) == (5, None, "esp32c3")
        assert (none["code"], "board" in none) == ("device.port", False)
        assert "code" not in unknown
        assert pico["board"]["kind"] == "pico-uart"

    def test_without_it_no_board_is_asked(self) -> None:
        out = good("ports")
        assert "identity" not in out
        assert "  esp       write, compare, read back" in out


def test_flashing_without_the_stub(project: Path) -> None:
    from cli.kit import SAMPLES

    (project / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())
    good("sign", "app.bin", "--sequence", "1000")
    found = json.loads(good("flash", "app.bin.suit", "--port", ONE, "--no-stub", "--json"))
    assert (found["result"], found["board"]["details"]["boot loader"]) == ("verified", "rom")
