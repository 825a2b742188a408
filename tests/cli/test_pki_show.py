# SPDX-License-Identifier: Apache-2.0
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cli.kit import EXAMPLE, good, program, refused, run, tree
from fwsign.cli import ui
from fwsign.pki.report import page

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
    hint = "--html names another page, --force replaces one that an earlier run has written"
    refused(run("pki", "show", "--html", "pki.html"), 5, exists, hint)
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
    assert len(found["certificates"]) == 4
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


def container(project: Path) -> None:
    """Write release.p12 with the passphrase of the variable P, and chain.p7b."""
    good("key", "convert", "pki/private/release.key", "release.p12", "--to", "p12",
         "--cert", "pki/issued/release.crt", "--cert", "pki/issued/issuing.crt",
         "--new-pass", "env:P", env={"P": "secret"})  # fmt: skip
    names = ("pki/ca.crt", "pki/issued/issuing.crt", "pki/issued/release.crt")
    own = [x509.load_pem_x509_certificate((project / name).read_bytes()) for name in names]
    (project / "chain.p7b").write_bytes(pkcs7.serialize_certificates(own, Encoding.DER))


@pytest.mark.parametrize(("command", "status"), [("show", 0), ("lint", 3), ("verify", 0)])
def test_pkcs12_and_pkcs7_wherever_a_certificate_is(
    project: Path, command: str, status: int
) -> None:
    container(project)
    opened = run("pki", command, "release.p12", "--pass", "env:P", env={"P": "secret"})
    assert (opened.status, opened.err) == (status, "")
    assert "Acme Issuing CA" in opened.out
    locked = run("pki", command, "release.p12")
    hint = "give it with --pass env:NAME, file:PATH or fd:N"
    refused(locked, 2, "no passphrase for release.p12, and no terminal to ask", hint)
    wrong = run("pki", command, "release.p12", "--pass", "env:P", env={"P": "other"})
    words = "wrong passphrase for release.p12, or the key in it is damaged"
    refused(wrong, 5, words, "is it the passphrase of this key?")
    bundled = run("pki", command, "chain.p7b")
    assert (bundled.status, bundled.err) == (status, "")


def test_a_terminal_is_asked_for_the_passphrase_of_one_file_and_not_of_a_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container(project)
    monkeypatch.setattr(ui, "is_terminal", lambda _: True)
    asked = run("pki", "show", "release.p12", stdin="secret\n")
    assert (asked.status, "Passphrase of release.p12" in asked.err) == (0, True)
    folder = run("pki", "show", ".", stdin="")
    assert folder.status == 0
    assert "! release.p12 is encrypted PKCS#12, without its passphrase" in folder.out


def test_what_is_anchored_may_be_in_any_form(project: Path) -> None:
    container(project)
    good("key", "convert", "pki/ca.crt", "root.pub", "--to", "public", "--der")
    for anchor in ("chain.p7b", "root.pub", "pki/ca.crt"):
        good("pki", "verify", "chain.p7b", "--anchor", anchor)
    other = run("pki", "verify", "pki/private/release.key", "--anchor", "pki/ca.crt")
    refused(other, 5, "pki/private/release.key has no certificate, it has PRIVATE KEY")
    (project / "x.der").write_bytes((project / "root.pub").read_bytes())
    other = run("pki", "verify", "x.der", "--anchor", "pki/ca.crt")
    refused(other, 5, "x.der has no certificate, it has public key")
    (project / "x.der").write_bytes(b"0\x03\2\1\1")
    other = run("pki", "verify", "x.der", "--anchor", "pki/ca.crt")
    assert (other.status, "rule malformed.certificate" in other.err) == (1, True)
