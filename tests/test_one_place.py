"""One place for one fact: a row that is added to a table reaches every command."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import fwsign

PACKAGE = Path(fwsign.__file__).parent


class Changed(NamedTuple):
    """A copy of the program in which one module has other rows, and a directory to work in."""

    source: Path
    work: Path

    def run(self, *words: object, status: int = 0) -> str:
        """Run a command; return what it printed, on both channels."""
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
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


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
            P521_ROW: P521_ROW.replace('"),', '", (NewKey("p521"),)),'),
            LAST_ROW: LAST_ROW + '    Algorithm(-52, "ESP512", "P-521", "SHA-512", 66, "ES512"),\n',
        },
    ),
    Fake(  # RFC 9964
        "ml-dsa-44",
        "ML-DSA-44",
        "ML-DSA-44",
        {
            P521_ROW: '    KeyKind("ML-DSA-44", "ML-DSA", "mldsa.MLDSA44", '
            f'{ML_DSA_44}, "", (NewKey("ml-dsa-44"),)),\n{P521_ROW}',
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
    told = json.loads(run("verify", "app.bin.suit", "--anchor", "pki/ca.crt", *named, "--json"))
    assert [one["algorithm"] for one in told["signers"]] == [fake.cose]
    shown = run("show", "app.bin.suit")
    assert fake.cose in shown

    enrolled = ("--config", "device.toml", "--state", "memory.db", "--target-dir", work / "target")
    (work / "target").mkdir(mode=0o700)
    run("device", "init", *named, "--anchor", "pki/ca.crt", *enrolled, "--device-key", "device.key")
    run("install", "app.bin.suit", "--config", "device.toml")
    receipts = ("receipts", "verify", "--config", "device.toml", "--key", "device.pub")
    assert "1" in run(*receipts)
