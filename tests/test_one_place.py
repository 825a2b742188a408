"""One place for one fact: a row that is added to a table reaches every command."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fwsign
from cli.kit import SAMPLES
from support import require_package

PACKAGE = Path(fwsign.__file__).parent


class Changed(NamedTuple):
    """A copy of the program in which one module has other rows, and a directory to work in."""

    source: Path
    work: Path

    def run(self, *words: object, status: int = 0) -> str:
        """Run a command; return what it printed, on both channels."""
        done = self._done(words, status)
        return done.stdout + done.stderr

    def told(self, *words: object, status: int = 0) -> Any:
        """Run a command with --json; return what it told."""
        return json.loads(self._done((*words, "--json"), status).stdout)

    def _done(self, words: Sequence[object], status: int) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("FWSIGN_")},
            "PYTHONPATH": str(self.source),
            "XDG_STATE_HOME": str(self.work / "state"),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [sys.executable, "-m", "fwsign", *map(str, words)],
            cwd=self.work,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done


def changed(place: Path, module: str, edits: Mapping[str, str]) -> Changed:
    """Copy the program to a directory, and replace lines of one module."""
    source, work = place / "source", place / "work"
    shutil.copytree(PACKAGE, source / "fwsign", ignore=shutil.ignore_patterns("__pycache__"))
    path = source / "fwsign" / module
    text = path.read_text(encoding="utf-8")
    for old, new in edits.items():
        assert text.count(old) == 1, f"{module} has {text.count(old)} of {old!r}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    work.mkdir()
    return Changed(source, work)


# --- algorithms -----------------------------------------------------------------------------


class Fake(NamedTuple):
    """An algorithm that fwsign does not have, and the lines that add it."""

    alg: str
    key: str
    cose: str
    edits: Mapping[str, str]


LAST_ROW = '    Algorithm(-50, "ML-DSA-87", "ML-DSA-87", jose="ML-DSA-87"),\n'
P521_ROW = '    KeyKind("P-521", "ECDSA", "ec.SECP521R1", _ECDSA, "SHA-512"),'
ML_DSA_44 = 'MappingProxyType({"": bytes.fromhex("300b0609608648016503040311")})'
FAKES = (
    Fake(  # RFC 9864
        "p521",
        "P-521",
        "ESP512",
        {
            P521_ROW: P521_ROW.replace('"),', '", (NewKeyKind("p521"),)),'),
            LAST_ROW: LAST_ROW + '    Algorithm(-52, "ESP512", "P-521", "SHA-512", 66, "ES512"),\n',
        },
    ),
    Fake(  # RFC 9964
        "ml-dsa-44",
        "ML-DSA-44",
        "ML-DSA-44",
        {
            P521_ROW: '    KeyKind("ML-DSA-44", "ML-DSA", "mldsa.MLDSA44", '
            f'{ML_DSA_44}, "", (NewKeyKind("ml-dsa-44"),)),\n{P521_ROW}',
            LAST_ROW: LAST_ROW
            + '    Algorithm(-48, "ML-DSA-44", "ML-DSA-44", jose="ML-DSA-44"),\n',
        },
    ),
)


@pytest.mark.parametrize("fake", FAKES, ids=[one.alg for one in FAKES])
def test_an_algorithm_added_to_the_table_works_from_key_to_receipt(
    tmp_path: Path, fake: Fake
) -> None:
    program = changed(tmp_path, "format/algorithms.py", fake.edits)
    run, work = program.run, program.work
    named = ("--vendor", "acme.example", "--product", "x1")
    (work / "app.bin").write_bytes(b"update")

    # A CA, its certificates and CRLs, and a key of the new kind alone.
    assert fake.alg in run("pki", "init", "--help")
    made = ("--org", "Acme", "--vendor", "acme.example", "--alg", fake.alg, "--no-passphrase")
    run("pki", "init", "pki", *made)
    run("key", "new", "device.key", "--alg", fake.alg, "--no-passphrase")
    run("key", "convert", "device.key", "device.pub", "--to", "public")
    assert f"fwsign sign, as {fake.cose}" in run("key", "show", "device.key")
    run("pki", "verify", "--pki", "pki", "pki/issued/release.crt")

    run("sign", "app.bin", "--pki", "pki", "--product", "x1", "--target", "file")
    told = program.told("verify", "app.bin.suit", "--anchor", "pki/ca.crt", *named)
    assert [one["algorithm"] for one in told["release"]["signers"]] == [fake.cose]
    shown = run("show", "app.bin.suit")
    assert fake.cose in shown

    enrolled = ("--config", "device.toml", "--state", "memory.db", "--target-dir", work / "target")
    (work / "target").mkdir(mode=0o700)
    run("device", "init", *named, "--anchor", "pki/ca.crt", *enrolled, "--device-key", "device.key")
    run("install", "app.bin.suit", "--config", "device.toml")
    receipts = ("receipts", "verify", "--config", "device.toml", "--key", "device.pub")
    counts = program.told(*receipts)
    assert counts["receipts"] == counts["signed"] > 0


# --- kinds of components --------------------------------------------------------------------

MODEM = """        b"modem": Kind(
            form="['modem', SLOT]",
            target="modem:SLOT",
            example="modem:1",
            words="firmware of a modem",
            installer="modem",
            takes=lambda parts: len(parts) == 1 and parts[0] in {b"1", b"2"},
            name=lambda slot: f"modem:{slot.decode()}",
            parse=lambda text, _: (text[6:].encode(),) if text.startswith("modem:") else None,
        ),
"""
"""A kind that neither a gateway nor a flasher installs."""
FIRST_KIND = "        FILE: Kind(\n"
DEVICE = ("--anchor", "pki/ca.crt", "--vendor", "acme.example", "--product", "x1")


@pytest.fixture(scope="module")
def modems(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """A program that knows modems, with a PKI."""
    edits = {FIRST_KIND: MODEM + FIRST_KIND}
    program = changed(tmp_path_factory.mktemp("modems"), "format/kinds.py", edits)
    made = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    program.run("pki", "init", "pki", *made)
    (program.work / "modem.bin").write_bytes(b"radio")
    return program


def test_a_kind_added_to_the_table_is_signed_verified_and_shown(modems: Changed) -> None:
    run, signed = modems.run, ("--pki", "pki", "--product", "x1", "--output", "radio.suit")
    assert "modem:SLOT" in run("sign", "--help")
    wrong = run("sign", "modem.bin", *signed, "--target", "modem:3", status=1)
    assert "component: (b'modem', b'3') is not allowed, expected ['modem', SLOT] or " in wrong
    wrong = run("sign", "modem.bin", *signed, "--target", "radio", status=2)
    assert "write modem:SLOT as in modem:1, or file, or CHIP@OFFSET as in " in wrong

    run("sign", "modem.bin", *signed, "--target", "modem:1")
    told = modems.told("verify", "radio.suit", "modem.bin", *DEVICE)
    assert [one["name"] for one in told["release"]["components"]] == ["modem:1"]
    assert "name: modem:1" in run("show", "radio.suit")


def test_a_gateway_refuses_a_kind_that_it_does_not_install(modems: Changed) -> None:
    run, work = modems.run, modems.work
    sign = ("sign", "modem.bin", "--pki", "pki", "--product", "x1", "--target", "modem:2")
    run(*sign, "--output", "gateway.suit")
    (work / "target").mkdir(mode=0o700)
    enrolled = ("--config", "device.toml", "--state", "memory.db", "--target-dir", work / "target")
    run("device", "init", *DEVICE, *enrolled)
    refusal = modems.told("install", "gateway.suit", "--config", "device.toml", status=4)
    words = '"modem:2" is firmware of a modem, which no gateway installs'
    assert (refusal["code"], refusal["message"]) == ("unsuitable.target", words)
    assert refusal["expected"] == "a file, or flash of a board"
    assert list((work / "target").rglob("*.bin")) == []


def test_a_flasher_leaves_a_kind_that_it_does_not_install(modems: Changed) -> None:
    require_package("serial")
    run, work = modems.run, modems.work
    (work / "pico.bin").write_bytes((SAMPLES / "blink-rp2040-uart.bin").read_bytes())
    sign = ("sign", "pico.bin", "modem.bin", "--pki", "pki", "--product", "x1")
    places = ("--target", "pico.bin=rp2040@0x4000", "--target", "modem.bin=modem:1")
    run(*sign, *places, "--output", "both.suit")
    port = "sim:pico-uart?flash=pico.flash"
    flash = ("flash", "both.suit", "--port", port, "--receipt", "log.jsonl", *DEVICE)
    refusal = modems.told(*flash, status=5)
    assert refusal["code"] == "device.left-out"
    assert refusal["message"] == "not for flash, and not left out by name: modem:1"
    run(*flash, "--leave-out", "modem:1")
    receipt = json.loads((work / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert receipt["left_out"] == ["modem:1"]
    run("receipts", "verify", "log.jsonl")

    run("sign", "modem.bin", *sign[3:], "--target", "modem:1", "--output", "alone.suit")
    alone = modems.told("flash", "alone.suit", "--port", port, *DEVICE, status=4)
    assert alone["code"] == "unsuitable.payload"
    assert alone["message"] == "nothing in this release is for flash, it has modem:1"


# --- chips ----------------------------------------------------------------------------------

LAST_CHIP = (
    '    Chip("esp32s31", 32, 0x2000, 0x3101F7C1, *_LARGE, secure_boot=_P384, flashed=False),\n'
)


def test_a_chip_added_to_the_table_is_signed_for_and_can_be_named_as_a_board(
    tmp_path: Path,
) -> None:
    row = '    Chip("esp32x9", 99, 0x2000, 0x12345678, *_LARGE),\n'
    program = changed(tmp_path, "images/esp_chips.py", {LAST_CHIP: LAST_CHIP + row})
    run = program.run
    run("pki", "init", "pki", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    (program.work / "data.bin").write_bytes(b"data of an application")
    sign = ("sign", "data.bin", "--pki", "pki", "--product", "x1", "--target")
    wrong = run(*sign, "esp32x8@0x110000", status=2)
    assert 'there is no chip "esp32x8"' in wrong
    assert "esp32s31, esp32x9, esp8266, rp2040, rp2350" in wrong
    run(*sign, "esp32x9@0x110000")
    told = program.told("verify", "data.bin.suit", *DEVICE)
    assert [one["name"] for one in told["release"]["components"]] == ["esp32x9@0x110000"]
    from_module = "from fwsign.flash.esp.chips import CHIPS; print(CHIPS['esp32x9'])"
    named = subprocess.run(
        [sys.executable, "-c", from_module],
        env={**os.environ, "PYTHONPATH": str(program.source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert named.stdout == "ESP32-X9\n"
