"""`fwsign pki lint`: transcripts."""

import json
from pathlib import Path

import pytest

from cli.kit import EXAMPLE, good, refused, run


def test_the_pki_of_fwsign_toml_is_clean(project: Path) -> None:
    del project
    found = good("pki", "lint")
    assert "lint.root-key-here" in found
    assert found.splitlines()[-1] == (
        "clean  0 errors, 0 warnings, 5 notes in 4 certificates, 3 CRLs, 4 private keys"
    )


def test_the_pki_is_named_as_for_other_commands(project: Path) -> None:
    (project / "fwsign.toml").unlink()
    assert good("pki", "lint", "--pki", "pki") == good("pki", "lint", "pki")
    found = run("pki", "lint", "pki", "--pki", "pki")
    refused(found, 2, "DIR and --pki exclude each other", "fwsign pki lint --help shows how")


@pytest.mark.parametrize("alg", ["p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
def test_a_new_pki_is_clean_whatever_its_keys(tmp_path: Path, alg: str) -> None:
    good("init", "a", "--org", "Acme", "--vendor", "acme.example", "--alg", alg, "--pass", "env:P",
         env={"P": "secret"})  # fmt: skip
    report = json.loads(good("pki", "lint", tmp_path / "a/pki", "--json"))
    assert [one["code"] for one in report["findings"]] == ["lint.root-key-here"]
    assert report["verdict"] == "clean"


def test_a_finding_says_where_what_it_costs_and_how_to_mend_it(project: Path) -> None:
    (project / "pki/crl/issuing.pem").unlink()
    (project / "pki/crl/bundle.pem").unlink(missing_ok=True)
    (project / "pki/crl/x.pem").write_text("")
    found = run("pki", "lint", "pki")
    assert (found.status, found.err) == (3, "")
    lines = found.out.splitlines()
    assert lines[:4] == [
        'error    lint.damaged  "x.pem": an empty file',
        "         file  pki/crl/x.pem",
        "         cost  fwsign and devices cannot read it; other programs may",
        "         mend  fetch or make it again",
    ]
    assert (
        lines[4]
        == 'warning  lint.crl-missing  "Acme Issuing CA": it has issued, and has no CRL here'
    )
    assert lines[-1].startswith("findings  1 error, 1 warning, ")


def test_json_has_the_same(project: Path) -> None:
    (project / "pki/x.crt").write_text("")
    found = run("pki", "lint", "pki", "--json")
    report = json.loads(found.out)
    assert found.status == 3
    assert report["verdict"] == "findings"
    assert report["findings"][0] == {
        "code": "lint.damaged",
        "severity": "error",
        "subject": "x.crt",
        "file": "pki/x.crt",
        "message": "an empty file",
        "cost": "fwsign and devices cannot read it; other programs may",
        "mend": "fetch or make it again",
    }


def test_one_file(project: Path) -> None:
    del project
    assert "1 note in 1 certificate, 0 CRLs" in good("pki", "lint", "pki/issued/release.crt")


def test_published_keys_are_an_error() -> None:
    found = run("pki", "lint", EXAMPLE)
    assert found.status == 3
    assert found.out.count("error    lint.published-key") == 6


def test_nothing_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = "there is no certificate, CRL or private key in empty"
    refused(run("pki", "lint", "empty"), 5, words)
    found = run("pki", "lint", "none")
    assert (found.status, found.errors) == (
        5,
        ["error: cannot read none: no such file or directory"],
    )


def test_names_that_deceive_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m.crt").write_text("")
    assert "\x1b" not in run("pki", "lint", tmp_path).out


SECRET = "found a URI with a PIN, password or token"
BAD_PLACES = {
    "empty": ("", "found none"),
    "a path": ("/etc/passwd\n", "found none"),
    "two": ("pkcs11:object=a\npkcs11:object=b\n", "found none"),
    "a PIN": ("pkcs11:object=a?pin-value=271828\n", SECRET),
    "another PIN": ("pkcs11:object=a;pin=271828\n", SECRET),
    "a PIN for its source": ("pkcs11:object=a?pin-source=271828\n", SECRET),
    "a password": ("openbao://user:271828@host/ca\n", SECRET),
    "a token": ("openbao:ca?token=271828\n", SECRET),
    "a header": ("openbao:ca?X-Vault-Token=271828\n", SECRET),
    "a key": ("awskms:///alias/ca?secret-access-key=271828\n", SECRET),
    "a passphrase": ("ssh-agent:ca?passphrase=271828\n", SECRET),
    "another scheme": ("gcpkms:key\n", 'no key backend for "gcpkms:"'),
}


@pytest.mark.parametrize("name", ["ca.uri", "ca.uri.0A1B"])
@pytest.mark.parametrize("what", BAD_PLACES)
def test_a_file_that_names_no_place_of_a_key(what: str, name: str, project: Path) -> None:
    text, words = BAD_PLACES[what]
    (project / "pki/private" / name).write_text(text)
    found = run("pki", "lint", "pki", "--json")
    (one,) = [x for x in json.loads(found.out)["findings"] if x["severity"] == "error"]
    assert (found.status, one["code"]) == (3, "lint.damaged")
    assert words in one["message"]
    assert one["file"] == f"pki/private/{name}"
    for shown in (("show",), ("show", "--json"), ("show", "--html", "p.html"), ("key", "ca")):
        again = run("pki", *shown)
        assert "271828" not in again.out + again.err
    assert "271828" not in (project / "p.html").read_text(encoding="utf-8")


def test_one_that_names_a_place(project: Path) -> None:
    for uri in (
        "pkcs11:token=acme;object=ca?pin-source=file:/run/pin",
        "openbao:ca?token-file=t",
        "openbao:ca?role-id=a&secret-id-file=s",
        "openbao:ca?role=a&jwt-env=PIN_OR_TOKEN",
    ):
        (project / "pki/private/ca.uri").write_text(f"{uri}\n")
        assert json.loads(good("pki", "lint", "pki", "--json"))["verdict"] == "clean"
