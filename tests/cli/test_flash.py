"""`fwsign flash` and `fwsign ports`, on simulated boards."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cli.kit import SAMPLES, command, environment, good, refused, run
from fwsign.errors import Failed
from fwsign.flash import ports
from fwsign.flash.simulate import Simulated
from native_kit import espsecure_sign
from support import require_package

APP = SAMPLES / "blink-esp32c3.bin"
ONE = "sim:esp32c3?flash=one.flash&id=a0b765c1d2e3"
TWO = "sim:esp32c3?flash=two.flash&id=a0b765ffffff"
PICO = "sim:pico-uart?flash=pico.flash"


@pytest.fixture(autouse=True)
def _needed() -> None:
    require_package("serial")
    require_package("esptool")


@pytest.fixture
def esp(project: Path) -> Path:
    """A project with a signed application for the ESP32-C3."""
    (project / "app.bin").write_bytes(APP.read_bytes())
    good("sign", "app.bin", "--sequence", "1000")
    return project


@pytest.fixture
def pico(project: Path) -> Path:
    """A project with a signed program for the Pico's UART boot loader."""
    (project / "pico.bin").write_bytes((SAMPLES / "blink-rp2040-uart.bin").read_bytes())
    good("sign", "pico.bin", "--target", "rp2040@0x4000", "--sequence", "1000")
    return project


def lines(out: str) -> list[dict[str, Any]]:
    """Read what --json prints: an object on each line."""
    return [json.loads(line) for line in out.splitlines()]


def sign_again(sequence: int, change: bytes = b"") -> None:
    """Sign the application again."""
    if change:
        Path("app.bin").write_bytes(Path("app.bin").read_bytes() + change)
    good("sign", "app.bin", "--sequence", sequence, "--force")


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ('kind = "esp-secure-boot-v2"', "tampered.native", "expected a native signature"),
        (f'key_digests = ["{"0" * 64}"]', "untrusted.native-key", "by a key that is not expected"),
    ],
)
def test_what_fwsign_toml_says_of_native_signatures_is_demanded(
    settings: str, code: str, words: str, esp: Path
) -> None:
    if code == "untrusted.native-key":
        (esp / "app.bin").write_bytes(espsecure_sign(APP.read_bytes(), "rsa3072", folder=esp))
        sign_again(1001)
    path = esp / "fwsign.toml"
    path.write_text(f"{path.read_text()}[native]\n{settings}\n")
    found = run("flash", "app.bin.suit", "--port", ONE, "--json")
    (told,) = lines(found.out)
    assert (found.status, told["code"]) == (1, code)
    assert words in told["message"]
    assert not (esp / "one.flash").exists()


def test_the_happy_path_needs_an_envelope_and_a_port(esp: Path) -> None:
    found = run("flash", "app.bin.suit", "--port", ONE)
    assert found.status == 0, found
    first, second = found.out.splitlines()[:2]
    assert first.startswith(f"verified  {ONE}  esp32c3 mac:a0b765c1d2e3  592 bytes, 4096 written")
    assert second.endswith("by md5")
    assert (esp / "one.flash").read_bytes()[0x10000:][:592] == APP.read_bytes()
    boards = esp / ".local/state/fwsign/boards.db"
    if os.name == "posix" and boards.exists():  # elsewhere the system has another place
        assert f"first use: what boards accept is remembered in {boards}" in found.err


def test_what_is_there_is_not_written_again(esp: Path) -> None:
    del esp
    good("flash", "app.bin.suit", "--port", ONE)
    assert "592 bytes, 0 written" in good("flash", "app.bin.suit", "--port", ONE)


def test_an_older_release_is_refused_on_that_board_alone(esp: Path) -> None:
    del esp
    sign_again(2000)
    good("flash", "app.bin.suit", "--port", ONE)
    sign_again(1000)
    found = run("flash", "app.bin.suit", "--port", ONE)
    assert found.status == 4
    assert "sequence number 1000 is below 2000" in found.err
    assert found.out.startswith("refused")
    good("flash", "app.bin.suit", "--port", TWO)
    good("flash", "app.bin.suit", "--port", ONE, "--no-rollback-check")


def test_min_sequence_is_a_floor_too(esp: Path) -> None:
    del esp
    found = run("flash", "app.bin.suit", "--port", ONE, "--min-sequence", "1001")
    refused(
        found,
        4,
        "sequence number 1000 is below 1001, the lowest that is still accepted",
        "install the newest release",
    )


def test_another_chip_is_refused_before_a_byte_is_erased(esp: Path) -> None:
    found = run("flash", "app.bin.suit", "--port", "sim:esp32s3?content=blank&flash=s3.flash")
    assert found.status == 4
    assert "the release is for esp32c3, the board is esp32s3" in found.err
    assert set((esp / "s3.flash").read_bytes()) == {0xFF}


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_a_changed_payload_is_refused_before_any_port_is_opened(
    esp: Path, extra: tuple[str, ...]
) -> None:
    (esp / "app.bin").write_bytes(APP.read_bytes()[::-1])
    found = run("flash", "app.bin.suit", "--port", "/dev/there-is-none", *extra)
    assert found.status == 1
    assert "digest" in found.err


def test_an_envelope_that_does_not_verify_is_refused(esp: Path) -> None:
    data = bytearray((esp / "app.bin.suit").read_bytes())
    data[60] ^= 1
    (esp / "app.bin.suit").write_bytes(data)
    found = run("flash", "app.bin.suit", "--port", ONE, "--json")
    assert found.status == 1
    assert json.loads(found.out)["verdict"] == "refused"
    assert not (esp / "one.flash").exists()


def test_without_crls_nothing_is_flashed_unless_that_was_typed(esp: Path) -> None:
    good("sign", "app.bin", "--force", "--key", "pki/private/release.key", "--chain", chain(esp))
    found = run("flash", "app.bin.suit", "--port", ONE)
    assert found.status == 3
    (receipt,) = lines(
        good("flash", "app.bin.suit", "--port", ONE, "--revocation", "off", "--json")
    )
    assert receipt["waived"] == ["revocation"]


def chain(project: Path) -> Path:
    """Write the chain of the signer."""
    parts = ("issued/release.crt", "issued/issuing.crt", "ca.crt")
    (project / "chain.pem").write_bytes(
        b"".join((project / "pki" / part).read_bytes() for part in parts)
    )
    return project / "chain.pem"


def test_a_product_must_be_named_or_waived(esp: Path) -> None:
    text = (esp / "fwsign.toml").read_text()
    (esp / "fwsign.toml").write_text(text.replace('product = "gateway-x1"\n', ""))
    found = run("flash", "app.bin.suit", "--port", ONE)
    assert found.status == 5
    assert "not checked, and not waived by name: product" in found.err
    (receipt,) = lines(good("flash", "app.bin.suit", "--port", ONE, "--any-product", "--json"))
    assert receipt["waived"] == ["product"]


def test_no_rollback_check_moves_no_floor_and_keeps_a_receipt(esp: Path) -> None:
    state = esp / "boards.db"
    sign_again(2000)
    out = good("flash", "app.bin.suit", "--port", ONE, "--no-rollback-check", "--state", state)
    assert out.splitlines()[0].endswith("  waived: rollback")
    sign_again(1000)
    good("flash", "app.bin.suit", "--port", ONE, "--state", state)  # 2000 was not remembered
    shown = good("receipts", "show", "--state", state)
    assert [line.count("waived: rollback") for line in shown.splitlines()] == [0, 0, 1, 0]


def test_a_dry_run_writes_nothing_and_remembers_nothing(esp: Path) -> None:
    state = esp / "boards.db"
    out = good("flash", "app.bin.suit", "--port", ONE, "--dry-run", "--state", state)
    assert out.startswith("dry run")
    assert not state.exists()
    with Simulated("sim:esp32c3") as fresh:
        assert (esp / "one.flash").read_bytes() == fresh.flash


def test_one_bad_board_does_not_stop_the_others(esp: Path) -> None:
    bad = "sim:esp32c3?id=badbadbadbad&fault=stuck@65537"
    ports = [one for port in (ONE, bad, TWO) for one in ("--port", port)]
    found = run("flash", "app.bin.suit", *ports, "--json")
    assert found.status == 5
    results = {one["board"]["identity"]: one["result"] for one in lines(found.out)}
    assert results == {
        "mac:a0b765c1d2e3": "verified",
        "mac:badbadbadbad": "incomplete",
        "mac:a0b765ffffff": "verified",
    }
    for name in ("one.flash", "two.flash"):
        assert (esp / name).read_bytes()[0x10000:][:592] == APP.read_bytes()


def test_the_worst_exit_status_counts(esp: Path) -> None:
    del esp
    wrong, dead = "sim:esp32s3", "/dev/there-is-none"
    ports = [one for port in (ONE, wrong, dead) for one in ("--port", port)]
    assert run("flash", "app.bin.suit", *ports).status == 5
    assert run("flash", "app.bin.suit", *ports[:4]).status == 4


def test_a_port_is_given_once(esp: Path) -> None:
    del esp
    found = run("flash", "app.bin.suit", "--port", ONE, "--port", ONE)
    assert found.status == 5
    assert f"{ONE} was given twice" in found.err
    assert found.errors[1] == "hint: name at most 64 boards, each once"


def test_ports_or_all(esp: Path) -> None:
    del esp
    error = "a board is named with --port PORT or --all, one of the two"
    refused(run("flash", "app.bin.suit"), 2, error, "see fwsign ports")
    refused(run("flash", "app.bin.suit", "--port", ONE, "--all"), 2, error, "see fwsign ports")


class TestAll:
    def test_all_boards_that_fit_are_flashed(
        self, esp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        del esp
        found = [
            ports.PortInfo(ONE, "ttyUSB0", "Espressif USB", ("esp",), None, 0x303A),
            ports.PortInfo("/dev/x", "ttyUSB1", "Raspberry Pi Pico, running", ("pico-uf2",)),
            ports.PortInfo(TWO, "ttyUSB2", "CP210x UART bridge", ("esp", "smp"), None, 0x10C4),
        ]
        monkeypatch.setattr(ports, "find", lambda: found)
        results = lines(good("flash", "app.bin.suit", "--all", "--json"))
        assert sorted((one["port"], one["result"]) for one in results) == [
            (ONE, "verified"),
            (TWO, "verified"),
        ]

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            ([], "no port at all"),
            ([ports.PortInfo("/dev/x", "x", "serial port")], "/dev/x (serial port)"),
        ],
    )
    def test_none_is_said(
        self, esp: Path, monkeypatch: pytest.MonkeyPatch, found: list[ports.PortInfo], words: str
    ) -> None:
        del esp
        monkeypatch.setattr(ports, "find", lambda: found)
        error = f"no board here may be for esp32c3: {words}"
        hint = "is it connected, powered, and in its boot loader?"
        refused(run("flash", "app.bin.suit", "--all"), 5, error, hint)


@pytest.mark.parametrize("option", ["--board", "--before", "--after", "--readback"])
def test_choices_are_checked(esp: Path, option: str) -> None:
    del esp
    found = run("flash", "app.bin.suit", "--port", ONE, option, "x")
    assert (found.status, found.errors[0]) == (2, f'error: {option} "x"')


def test_secure_download_mode_needs_its_waiver(esp: Path) -> None:
    del esp
    locked = "sim:esp32c3?lock=secure-download-mode"
    found = run("flash", "app.bin.suit", "--port", locked)
    assert found.status == 4
    assert "cannot show what it holds" in found.err
    found = run("flash", "app.bin.suit", "--port", locked, "--accept-unverifiable")
    assert found.status == 0, found
    assert found.out.startswith("not verifiable")
    assert "..., not verified\n" in found.out


def test_a_read_back_in_full(esp: Path) -> None:
    del esp
    assert "by sha256" in good("flash", "app.bin.suit", "--port", ONE, "--readback", "full")


def test_a_pico_over_its_uart_boot_loader(pico: Path) -> None:
    (receipt,) = lines(good("flash", "pico.bin.suit", "--port", PICO, "--json"))
    assert (receipt["result"], receipt["floor"]) == ("verified", "shared")
    assert receipt["board"]["chip"] == "rp2040"
    content = (pico / "pico.flash").read_bytes()
    assert content[0x4000:][:240] == (pico / "pico.bin").read_bytes()
    assert "240 bytes, 0 written" in good("flash", "pico.bin.suit", "--port", PICO)


def test_a_release_for_files_is_not_for_boards(signed: Path) -> None:
    del signed
    found = run("flash", "build.bin.suit", "--port", ONE)
    assert found.status == 4
    assert "nothing in this release is for flash, it has build.bin" in found.err


class TestReceipts:
    def test_a_signed_receipt_is_verified(self, esp: Path) -> None:
        good("key", "new", "station.key", "--no-passphrase")
        public = good("key", "convert", "station.key", "station.pub", "--to", "public")
        del public
        receipts = esp / "line.jsonl"
        for port in (ONE, TWO):
            good(
                "flash", "app.bin.suit", "--port", port, "--receipt", receipts,
                "--receipt-key", "station.key",
            )  # fmt: skip
        assert len(receipts.read_text().splitlines()) == 2
        good("receipts", "verify", receipts, "--key", "station.pub")
        receipts.write_text(receipts.read_text().replace('"verified"', '"refused!"', 1))
        assert run("receipts", "verify", receipts, "--key", "station.pub").status == 1

    def test_receipts_are_in_the_state_file(self, esp: Path) -> None:
        state = esp / "boards.db"
        good("flash", "app.bin.suit", "--port", ONE, "--state", state)
        run("flash", "app.bin.suit", "--port", "sim:esp32s3", "--state", state)
        out = good("receipts", "show", "--state", state)
        assert "verified" in out
        assert "refused" in out

    def test_a_receipt_that_cannot_be_written_stops_no_board(
        self, esp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> str:
            raise Failed("io.full", "no space left on device")

        monkeypatch.setattr("fwsign.receipts.file.append", full)
        ports = ("--port", ONE, "--port", TWO)
        found = run("flash", "app.bin.suit", *ports, "--receipt", esp / "line.jsonl")
        assert found.status == 5
        assert found.out.count("verified  ") == 2
        assert found.errors == ["error: no space left on device"]

    @pytest.mark.parametrize("name", ["app.bin", "pki", "nowhere/line.jsonl"])
    def test_a_file_that_takes_no_receipts_is_said_before_any_board_is_asked(
        self, esp: Path, name: str
    ) -> None:
        found = run("flash", "app.bin.suit", "--port", ONE, "--receipt", name)
        assert (found.status, found.out) == (5, "")
        assert name in found.errors[0]
        assert not (esp / "one.flash").exists()
        assert (esp / "app.bin").read_bytes() == APP.read_bytes()

    def test_a_port_with_an_odd_name_has_a_receipt_too(self, esp: Path) -> None:
        del esp
        found = run("flash", "app.bin.suit", "--port", "/dev/\udcff\x1b[31m")
        assert (found.status, len(found.errors)) == (5, 2)
        assert "no such file or directory" in found.errors[0]
        assert "incomplete" in good("receipts", "show")

    def test_who_stops_reading_takes_no_receipt_away(self, esp: Path) -> None:
        receipts = esp / "line.jsonl"
        process = subprocess.Popen(
            command(
                ["flash", "app.bin.suit", "--port", ONE, "--port", TWO, "--receipt", str(receipts)]
            ),
            env=environment(HOME=str(esp)),
            cwd=esp,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.close()
        process.wait(60)
        results = [one["result"] for one in lines(receipts.read_text())]
        assert results == ["verified", "verified"]

    def test_a_key_that_cannot_be_opened_is_said_before_any_board_is_asked(self, esp: Path) -> None:
        found = run("flash", "app.bin.suit", "--port", ONE, "--receipt-key", "none.key")
        assert found.status == 5
        assert not (esp / "one.flash").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
class TestInterrupt:
    @pytest.fixture
    def large(self, today: Path) -> Path:
        data = bytes(range(256)) * 800
        (today / "data.bin").write_bytes(os.urandom(len(data)))
        good("sign", "data.bin", "--target", "esp32c3@0x20000")
        return today

    SLOW = "sim:esp32c3?content=blank&flash=slow.flash&baud=460800"

    def start(self, directory: Path, port: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(["flash", "data.bin.suit", "--port", port]),
            env=environment(HOME=str(directory)),
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, process: subprocess.Popen[str], words: str) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if words in line:
                break

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_ctrl_c_leaves_a_clear_state_and_a_second_run_goes_on(
        self, large: Path, name: str
    ) -> None:
        if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:
            pytest.skip(f"{name} is ignored here, as under nohup, and stays ignored")
        slow = self.SLOW
        process = self.start(large, slow)
        self.wait_for(process, "writing")
        time.sleep(1.5)  # a third of the way
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert out.startswith("incomplete")
        assert "the same command again goes on where it was" in err
        assert "Traceback" not in err
        fast = slow.replace("&baud=460800", "")
        (receipt,) = lines(good("flash", "data.bin.suit", "--port", fast, "--json"))
        assert receipt["result"] == "verified"
        assert 0 < receipt["written"] < 204_800

    def test_a_second_ctrl_c_waits_for_no_board(self, large: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            process = self.start(large, f"socket://127.0.0.1:{silent.getsockname()[1]}")
            with silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                self.wait_for(process, "once more to end at once")
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=2)  # one attempt to connect takes longer
        assert process.returncode == 130
        assert err == "fwsign: error: interrupted\n"
        (told,) = json.loads(good("receipts", "show", "--json"))["receipts"]
        assert (told["result"], told["code"], told["touched"]) == (
            *("incomplete", "device.stopped"),
            True,
        )


def test_ports_says_what_is_here() -> None:
    found = run("ports", "--json")
    assert found.status == 0
    assert isinstance(json.loads(found.out)["ports"], list)
    assert run("ports").status == 0


def test_a_board_gets_only_what_meets_the_policy(esp: Path) -> None:
    settings = esp / "fwsign.toml"
    before = settings.read_text()
    settings.write_text(f'{before}[policy]\nalgorithms = ["classic", "post-quantum"]\n')
    found = run("flash", "app.bin.suit", "--port", ONE)
    words = 'policy "algorithms": classic: met by "release"; post-quantum, found none'
    assert found.status == 1
    assert words in found.errors[0]
    settings.write_text(f'{before}[policy]\nalgorithms = ["classic"]\n')
    assert run("flash", "app.bin.suit", "--port", ONE).status == 0
