"""`fwsign pki` and what `fwsign init` makes of it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from cli.kit import good, refused, run, tree
from fwsign.cli import inputs
from fwsign.keys import ALGORITHMS
from support import NOW

NAMES = ("--org", "Acme", "--vendor", "acme.example")
PARTS = [
    "ca.crt",
    "crl/bundle.pem",
    "crl/ca.pem",
    "crl/issuing-tls.pem",
    "crl/issuing.pem",
    "issued/issuing-tls.crt",
    "issued/issuing.crt",
    "issued/release.crt",
    "log.jsonl",
    "private/.gitignore",
    "private/ca.key",
    "private/issuing-tls.key",
    "private/issuing.key",
    "private/release.key",
]


def parts(directory: Path) -> list[str]:
    return sorted(path for path, content in tree(directory).items() if content is not None)


def test_pki_init_makes_a_pki_alone(tmp_path: Path) -> None:
    assert run("pki", "init", "mine", *NAMES, "--no-passphrase") == (
        0,
        "mine\n",
        """\
fwsign: root "Acme Root CA": give mine/ca.crt to every device
fwsign: keep mine/private/ca.key offline; signing does not need it
fwsign: warning: keys in mine/private have no passphrase
fwsign: next: fwsign sign FILE --pki mine --product NAME
""",
    )
    assert parts(tmp_path / "mine") == PARTS
    assert not (tmp_path / "fwsign.toml").exists()


@pytest.mark.skipif(os.name == "nt", reason="permission bits are those of POSIX")
def test_private_keys_are_for_their_owner_alone(project: Path) -> None:
    modes = {path.stat().st_mode & 0o077 for path in (project / "pki/private").iterdir()}
    assert modes == {0}


@pytest.mark.parametrize("command", [("init", "d"), ("pki", "init", "d")])
@pytest.mark.parametrize(
    ("option", "value"),
    [("--vendor", "ACME"), ("--org", " "), ("--org", "x" * 54), ("--alg", "rsa1024")],
)
def test_a_value_that_cannot_be_is_a_usage_error(
    tmp_path: Path, command: tuple[str, ...], option: str, value: str
) -> None:
    found = run(*command, *NAMES, "--no-passphrase", option, value)
    assert (found.status, found.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["--org", "--vendor"])
def test_organisation_and_vendor_must_be_said(missing: str) -> None:
    rest = {"--org": "Acme", "--vendor": "acme.example"}
    del rest[missing]
    (pair,) = rest.items()
    refused(
        run("init", *pair),
        2,
        f"missing option {missing}",
        "as in: fwsign init --org Acme --vendor acme.example",
    )


def test_init_never_replaces_a_project(project: Path) -> None:
    before = tree(project)
    refused(
        run("init", *NAMES, "--no-passphrase"),
        5,
        "fwsign.toml exists already: this is a project already",
        "sign in it: fwsign sign FILE; another project is made with: fwsign init DIR",
    )
    assert tree(project) == before


def test_init_that_finds_a_pki_says_how_to_go_on(project: Path) -> None:
    (project / "fwsign.toml").unlink()
    before = tree(project)
    found = run("init", *NAMES, "--no-passphrase", "--product", "x1")
    refused(
        found,
        5,
        f"{project}/pki exists already and is not an empty directory",
        'to use the PKI that is there, write fwsign.toml: vendor = "acme.example", '
        'product = "x1", pki = "pki", signer = "release"',
    )
    assert tree(project) == before


def test_init_in_a_directory_without_a_name_asks_for_a_product(tmp_path: Path) -> None:
    (tmp_path / "---").mkdir()
    refused(
        run("init", "./---", *NAMES, "--no-passphrase"),
        2,
        'no product name can be made of "---": it has no letter a-z and no digit',
        "name it with --product NAME",
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_signer_of_every_algorithm(alg: str) -> None:
    assert run("pki", "issue", "signer", "next", "--alg", alg, "--no-passphrase") == (
        0,
        "pki/issued/next.crt\n",
        "fwsign: next: fwsign sign FILE --signer next\n",
    )
    good("sign", "build.bin", "--signer", "next")
    assert "  signer     next < Acme Issuing CA" in good("verify", "build.bin.suit")


@pytest.mark.usefixtures("project")
class TestIssue:
    def test_its_lifetime_can_be_said(self) -> None:
        good("pki", "issue", "signer", "a", "--for", "30d", "--no-passphrase")
        assert "valid until: 2026-12-22T12:00:00+00:00\n" in good("show", "pki/issued/a.crt")
        until = "2027-01-01T00:00:00Z"
        good("pki", "issue", "signer", "b", "--for", until, "--no-passphrase")
        assert "valid until: 2027-01-01T00:00:00+00:00\n" in good("show", "pki/issued/b.crt")

    def test_a_name_that_is_taken_is_refused(self, project: Path) -> None:
        before = tree(project)
        refused(
            run("pki", "issue", "signer", "release", "--no-passphrase"),
            5,
            'there is a certificate "release" in pki already',
            "choose another name; to issue this one anew: fwsign pki renew release",
        )
        assert tree(project) == before

    @pytest.mark.parametrize("name", ["ca", "issuing", "../x", "a b", "con", "", "x" * 65])
    def test_a_name_that_cannot_be_is_refused(self, name: str) -> None:
        found = run("pki", "issue", "signer", "--no-passphrase", "--", name)
        assert found.status == 2
        assert f'"{name[:80]}"' in found.errors[0]

    def test_another_vendor_than_the_cas_is_refused(self) -> None:
        refused(
            run("pki", "issue", "signer", "x", "--vendor", "other.example", "--no-passphrase"),
            5,
            'vendor "other.example" is outside what the CA "Acme Issuing CA" is limited to: '
            "acme.example",
            "a CA's domains are set when it is made: fwsign pki init --permit DOMAIN",
        )

    def test_a_lifetime_beyond_its_issuers_is_refused(self) -> None:
        found = run("pki", "issue", "signer", "x", "--for", "50y", "--no-passphrase")
        assert found.status == 5
        assert 'but its issuer "Acme Issuing CA" only until' in found.errors[0]
        assert found.errors[1] == "hint: give an earlier end with --for, or leave it out"

    def test_a_lifetime_that_is_over_is_refused(self) -> None:
        found = run(
            "pki", "issue", "signer", "x", "--for", "2020-01-01T00:00:00Z", "--no-passphrase"
        )
        assert found.status == 5


@pytest.mark.usefixtures("project")
class TestRevoke:
    def test_it_is_for_good(self) -> None:
        revoke = ("pki", "revoke", "release", "--reason", "keyCompromise")
        assert run(*revoke) == (
            0,
            "pki/crl/issuing.pem\n",
            (
                "fwsign: devices refuse what it signed, however old\n"
                "fwsign: bring the CRL to devices: fwsign staple ENVELOPE, or sign a new release\n"
            ),
        )
        assert "cRLReasons: keyCompromise\n" in good("show", "pki/crl/issuing.pem").replace(
            "cRLReason:", "cRLReasons:"
        )
        refused(
            run(*revoke),
            5,
            'certificate "release" was revoked 2026-11-22 already',
        )

    def test_a_group_of_devices_signs_nothing_that_would_be_refused(self) -> None:
        good("pki", "issue", "encryption", "pilots", "--no-passphrase")
        found = run("pki", "revoke", "pilots", "--reason", "keyCompromise")
        said = "encrypt nothing to it any more; its key opens what was encrypted before"
        assert (found.status, found.out) == (0, "pki/crl/issuing.pem\n")
        assert found.err == f"fwsign: fwsign sign and rewrap {said}\n"

    @pytest.mark.parametrize("kind", ["server", "client", "idevid", "the CA"])
    def test_the_crl_of_tls_goes_to_the_other_side_and_not_to_devices(self, kind: str) -> None:
        name = "issuing-tls" if kind == "the CA" else "b.acme.example"
        more = ("--serial-number", "SN-1") if kind == "idevid" else ()
        if kind != "the CA":
            good("pki", "issue", kind, name, *more, "--no-passphrase")
        found = run("pki", "revoke", name, "--reason", "superseded")
        words = "fwsign: bring the CRL to the other side of TLS: pki/crl/bundle.pem\n"
        assert (found.status, found.err) == (0, words)

    def test_the_next_command_finds_the_same_pki(self, project: Path) -> None:
        (project / "fwsign.toml").unlink()
        found = run("pki", "revoke", "release", "--reason", "superseded", "--pki", "pki")
        assert ": fwsign staple ENVELOPE --pki pki, or sign a new release\n" in found.err
        found = run("pki", "crl", "--pki", "pki")
        words = "next: fwsign staple ENVELOPE --pki pki, for what is signed already\n"
        assert found.err.endswith(words)
        found = run("pki", "issue", "signer", "ci", "--no-passphrase", "--pki", "pki")
        assert found.err.endswith("FILE --signer ci --pki pki --product NAME\n")
        good("sign", "build.bin", "--signer", "ci", "--pki", "pki", "--product", "name")

    def test_the_issuing_ca_can_be_revoked_and_the_root_cannot(self) -> None:
        assert run("pki", "revoke", "issuing", "--reason", "cACompromise").out == (
            "pki/crl/ca.pem\n"
        )
        assert run("sign", "build.bin").status == 1
        found = run("pki", "revoke", "ca", "--reason", "keyCompromise")
        assert found.errors[0] == (
            "error: the root cannot be revoked: devices trust it until they are given another"
        )

    def test_a_reason_that_there_is_not(self) -> None:
        refused(
            run("pki", "revoke", "release", "--reason", "bored"),
            2,
            '"bored" is not a reason to revoke',
            "choose from unspecified, keyCompromise, cACompromise, affiliationChanged, "
            "superseded, cessationOfOperation, privilegeWithdrawn",
        )

    @pytest.mark.parametrize("name", ["nobody", "../release", ".", ""])
    def test_a_signer_that_there_is_not(self, name: str) -> None:
        refused(
            run("pki", "revoke", name, "--reason", "superseded"),
            5,
            f'no certificate "{name}" in pki, there are: issuing, issuing-tls, release',
        )


@pytest.mark.usefixtures("project")
class TestCrl:
    def test_both_are_made_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(80))
        assert run("pki", "crl") == (
            0,
            "pki/crl/ca.pem\npki/crl/issuing.pem\npki/crl/issuing-tls.pem\n",
            (
                "fwsign: all CRLs in one file, to ship: pki/crl/bundle.pem\n"
                "fwsign: next: fwsign staple ENVELOPE, for what is signed already\n"
            ),
        )
        assert "next update: 2027-05-11T" in good("show", "pki/crl/issuing.pem")

    def test_without_the_roots_key_its_crl_stays(self, project: Path) -> None:
        (project / "pki/private/ca.key").unlink()
        found = run("pki", "crl")
        assert found.out == "pki/crl/issuing.pem\npki/crl/issuing-tls.pem\n"
        assert 'fwsign: the key of CA "ca" is not here: its CRL stays as it is\n' in found.err

    def test_without_any_key_there_is_nothing_to_do(self, project: Path) -> None:
        names = ("ca", "issuing", "issuing-tls")
        for name in names:
            (project / f"pki/private/{name}.key").unlink()
        keys = " or ".join(f"pki/private/{name}.key" for name in names)
        refused(run("pki", "crl"), 5, f"no CA's key is here to sign a CRL: expected {keys}")


@pytest.mark.parametrize(
    "command",
    [
        ("sign", "build.bin", "--product", "x"),
        ("pki", "issue", "signer", "x", "--no-passphrase"),
        ("pki", "crl"),
        ("pki", "revoke", "release", "--reason", "superseded"),
    ],
)
class TestWhichPki:
    def test_none(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "build.bin").write_bytes(b"x")
        refused(
            run(*command),
            2,
            "no PKI given, and no fwsign.toml found",
            "fwsign init makes both; --pki DIR names one",
        )

    def test_no_pki(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "build.bin").write_bytes(b"x")
        (tmp_path / "empty").mkdir()
        refused(
            run(*command, "--pki", "empty"),
            5,
            "empty is not a PKI: there is no ca.crt in it",
            "fwsign init makes a PKI; --pki names one",
        )

    def test_a_damaged_one(self, project: Path, command: tuple[str, ...]) -> None:
        (project / "pki/ca.crt").write_text("nonsense")
        refused(
            run(*command, "--pki", "pki"),
            5,
            "pki/ca.crt is not a certificate in PEM",
        )
