# SPDX-License-Identifier: Apache-2.0
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.kit import EXAMPLE, good, program, refused, run, tree
from fwsign.cli import ui
from fwsign.pki import page

DRAWN = """\
3 certificates, 2 CRLs, as of 2026-11-22 12:00 UTC
ca  root CA                         ██████████ until 2046-11-01, 19 years left
│  NOT FOR PRODUCTION Example Root CA · P-256
│  key in private/ca.key, not encrypted · CA:TRUE
│  key usage certificate sign, CRL sign · serial 68319087…
│  SHA-256 e83e62cc408f3689…
└─ issuing  CA                      ██████████ until 2036-10-31, 9 years left
"""


def test_the_tree_of_a_pki(project: Path) -> None:
    del project
    shutil.copytree(EXAMPLE, "example")
    assert good("pki", "show", "example").startswith(DRAWN)
    named = good("pki", "show", "--pki", "example")
    assert named == good("pki", "show", "example")


def test_the_pki_of_fwsign_toml_is_the_default(project: Path) -> None:
    del project
    text = good("pki", "show")
    assert "└─ release  signer" in text
    assert "SAN acme.example" in text
    assert "crl/issuing.pem" in text


def test_revoked_is_said_at_once(project: Path) -> None:
    del project
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    assert "release  signer  REVOKED (keyCompromise)" in good("pki", "show")
    found = json.loads(good("pki", "show", "--json"))
    (release,) = [one for one in found["certificates"] if one["name"] == "release"]
    assert release["revoked"]["reason"] == "keyCompromise"
    assert release["standing"] == "revoked"


def test_one_file(project: Path) -> None:
    found = json.loads(good("pki", "show", project / "pki/issued/release.crt", "--json"))
    assert [one["issuers"] for one in found["certificates"]] == [[]]


def test_colour_on_a_terminal_and_not_elsewhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del project
    written: list[str] = []
    monkeypatch.setattr(ui, "_write", written.append)
    good("pki", "show")
    assert "\x1b" not in "".join(written)
    monkeypatch.setattr(ui, "is_terminal", lambda _: True)
    good("pki", "show")
    assert "\x1b[32m██████████ until" in "".join(written)
    written.clear()
    good("pki", "show", env={"NO_COLOR": "1"})
    good("--no-color", "pki", "show")
    assert "\x1b" not in "".join(written)


def test_ascii_where_the_output_has_nothing_else(project: Path) -> None:
    (project / "pki/ünï.crt").write_bytes((EXAMPLE / "ca.crt").read_bytes())
    found = program("pki", "show", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert found.returncode == 0, found.stderr
    assert found.stdout.isascii()
    assert "`- issuing  CA" in found.stdout
    assert r"\xfcn\xef" in found.stdout


def test_nothing_is_written_but_the_page(project: Path) -> None:
    before = tree(project)
    good("pki", "show")
    assert tree(project) == before
    assert good("pki", "show", "--html", "pki.html") == "pki.html\n"
    text = (project / "pki.html").read_bytes()
    assert text.startswith(page.FIRST_LINE)
    assert tree(project) == {**before, "pki.html": text}


def test_a_page_is_replaced_with_force_and_other_files_never(project: Path) -> None:
    good("pki", "show", "--html", "pki.html")
    exists = "cannot write pki.html: exists already"
    refused(run("pki", "show", "--html", "pki.html"), 5, exists)
    good("pki", "show", "--html", "pki.html", "--force")
    key = project / "pki/private/release.key"
    before = key.read_bytes()
    refused(
        run("pki", "show", "--html", key, "--force"),
        5,
        f"cannot write {key}: exists already, and is no page of fwsign pki show",
        "name another file, or remove this one",
    )
    assert key.read_bytes() == before
    (project / "empty.html").touch()
    good("pki", "show", "--html", "empty.html", "--force")
    found = run("pki", "show", "--html", "pki", "--force")
    refused(found, 5, "cannot write pki: is a directory")


def test_page_and_json_together(project: Path) -> None:
    found = json.loads(good("pki", "show", "--json", "--html", "pki.html"))
    assert len(found["certificates"]) == 3
    assert (project / "pki.html").exists()


def test_places_that_are_no_pki(project: Path) -> None:
    refused(run("pki", "show", "none"), 5, "cannot read none: no such file or directory")
    (project / "void").mkdir()
    refused(
        run("pki", "show", "void"),
        5,
        "void has no certificate and no CRL in it",
        "fwsign init makes a PKI; fwsign show FILE tells what a file is",
    )
    found = run("pki", "show", "void", "--json")
    assert (found.status, json.loads(found.out)["code"]) == (5, "state.pki")


def test_damage_is_listed_and_the_rest_is_there(project: Path) -> None:
    (project / "pki/issued/release.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    text = good("pki", "show")
    assert "issued/release.crt is damaged: BEGIN CERTIFICATE without its END" in text
    assert "issuing  CA" in text


def test_what_cannot_be_meant(project: Path) -> None:
    del project
    found = run("pki", "show", "pki", "--pki", "pki")
    refused(found, 2, "DIR and --pki exclude each other", "fwsign pki show --help shows how")
    found = run("pki", "show", "--force")
    refused(found, 2, "--force goes with --html", "fwsign pki show --help shows how")


@pytest.mark.parametrize("arguments", [("sign", "build.bin"), ("pki", "crl"), ("--help",)])
def test_other_commands_do_not_load_it(arguments: tuple[str, ...], today: Path) -> None:
    del today
    code = "import sys; from fwsign.cli import main\ntry:\n  main()\nfinally:\n"
    code += "  print(sorted(m for m in sys.modules if 'inventory' in m or 'pki.page' in m))"
    found = program_of(code, *arguments)
    assert "\n[]\n" in found, found


def program_of(code: str, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return found.stdout + found.stderr
