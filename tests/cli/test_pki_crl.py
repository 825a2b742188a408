"""`fwsign pki crl`: keys with several passphrases, and CRLs that were lost."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good, refused, run, tree
from fwsign.cli import inputs, ui
from fwsign.keys.file import encode_private_key, load_private_key
from support import NOW

HELP = "fwsign pki crl --help shows how"
SECRETS = {"ca": "root", "issuing": "daily", "issuing-tls": "tls"}
ENV = {"R": "root", "D": "daily", "T": "tls", "WRONG": "x"}
SOURCES = ("ca=env:R", "issuing=env:D", "issuing-tls=env:T")
TLS = "pki/crl/issuing-tls.pem\n"


@pytest.fixture
def sealed(project: Path, cheap: None) -> Path:
    """A project whose three CAs have a passphrase each."""
    del cheap
    for name, secret in SECRETS.items():
        path = project / f"pki/private/{name}.key"
        key = load_private_key(path, lambda: None)
        path.write_bytes(encode_private_key(key, secret.encode()))
    return project


def given(*sources: str) -> tuple[str, ...]:
    return tuple(part for source in sources for part in ("--ca-pass", source))


@pytest.mark.usefixtures("sealed")
class TestPassphrases:
    @pytest.mark.parametrize(
        "sources",
        [
            SOURCES,
            ("env:D", "ca=env:R", "issuing-tls=env:T"),
            ("issuing=env:D", "env:R", "issuing-tls=env:T"),
        ],
    )
    def test_each_ca_has_its_own(self, sources: tuple[str, ...]) -> None:
        made = good("pki", "crl", *given(*sources), env=ENV)
        assert made == f"pki/crl/ca.pem\npki/crl/issuing.pem\n{TLS}"

    def test_a_name_counts_before_the_roots_option(self) -> None:
        more = ("--root-pass", "env:WRONG")
        good("pki", "crl", *given("ca=env:R", "env:D", "issuing-tls=env:T"), *more, env=ENV)

    def test_one_that_is_missing_keeps_the_old_crl_of_its_ca(self, sealed: Path) -> None:
        before = tree(sealed)
        found = run("pki", "crl", *given(*SOURCES[1:]), env=ENV)
        assert (found.status, found.out) == (5, f"pki/crl/issuing.pem\n{TLS}")
        assert found.errors == [
            (
                'error: no new CRL of CA "ca", the one here is good until 2027-12-27: no '
                'passphrase for the key of CA "ca", and no terminal to ask'
            ),
            "hint: give the passphrase of that key with --ca-pass ca=SRC",
        ]
        changed = {name for name, data in tree(sealed).items() if before[name] != data}
        assert changed == {
            "pki/crl/issuing.pem",
            "pki/crl/issuing-tls.pem",
            "pki/crl/bundle.pem",
            "pki/log.jsonl",
        }

    def test_a_wrong_one_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(200))
        found = run("pki", "crl", *given("issuing=env:WRONG", "env:R", SOURCES[2]), env=ENV)
        assert (found.status, found.out) == (5, f"pki/crl/ca.pem\n{TLS}")
        assert found.errors == [
            (
                'error: no new CRL of CA "issuing", the one here is stale since 2027-02-20: wrong '
                "passphrase for pki/private/issuing.key, or the key in it is damaged"
            ),
            "hint: give the passphrase of that key with --ca-pass issuing=SRC",
        ]

    def test_all_wrong_writes_nothing(self, sealed: Path) -> None:
        before = tree(sealed)
        found = run("pki", "crl", *given("env:WRONG"), env=ENV)
        assert (found.status, found.out, len(found.errors)) == (5, "", 6)
        assert tree(sealed) == before

    def test_a_damaged_key_does_not_stop_the_other_ca(self, sealed: Path) -> None:
        (sealed / "pki/private/ca.key").write_bytes(b"no key\n")
        found = run("pki", "crl", *given("env:D", SOURCES[2]), env=ENV)
        assert (found.status, found.out) == (5, f"pki/crl/issuing.pem\n{TLS}")
        assert found.errors[0].startswith(
            'error: no new CRL of CA "ca", the one here is good until'
        )

    def test_only_the_cas_that_are_named(self) -> None:
        assert good("pki", "crl", "issuing", *given("env:D"), env=ENV) == "pki/crl/issuing.pem\n"

    def test_of_the_others_a_stale_crl_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(500))
        words = ("issuing", "issuing-tls", *given("env:D", SOURCES[2]))
        found = run("pki", "crl", *words, env=ENV)
        assert (found.status, found.out) == (3, f"pki/crl/issuing.pem\n{TLS}")
        assert found.errors == [
            (
                'error: the CRL of CA "ca" is stale since 2027-12-27: devices refuse what is below '
                "that CA"
            ),
            "hint: fwsign pki crl ca",
        ]

    @pytest.mark.parametrize(
        ("sources", "message", "hint"),
        [
            (
                ("isuing=env:D",),
                '--ca-pass names "isuing", which is no CA of pki',
                "did you mean issuing?",
            ),
            (
                ("x=env:D",),
                '--ca-pass names "x", which is no CA of pki',
                "choose from ca, issuing, issuing-tls",
            ),
            (
                ("ca=env:R", "ca=env:D"),
                '--ca-pass is given twice for the CA "ca"',
                HELP,
            ),
            (
                ("env:R", "env:D"),
                "--ca-pass SRC is given twice",
                "--ca-pass NAME=SRC is for one CA",
            ),
            (
                ("ca=root",),
                "a passphrase is given as env:NAME, file:PATH or fd:N",
                "never on the command line itself, where other users can see it",
            ),
            (
                ("ca=env:NONE",),
                "the environment has no variable NONE",
                "set it first: export NONE=...",
            ),
        ],
    )
    def test_sources_that_are_none(
        self, sources: tuple[str, ...], message: str, hint: str, sealed: Path
    ) -> None:
        before = tree(sealed)
        refused(run("pki", "crl", *given(*sources), env=ENV), 2, message, hint)
        assert tree(sealed) == before

    def test_one_descriptor_for_two_names(self) -> None:
        for name, secret in SECRETS.items():
            path = Path(f"pki/private/{name}.key")
            key = load_private_key(path, secret.encode)
            path.write_bytes(encode_private_key(key, b"same"))
        reader, writer = os.pipe()
        os.write(writer, b"same\n")
        os.close(writer)
        sources = (f"{name}=fd:{reader}" for name in SECRETS)
        good("pki", "crl", *given(*sources))
        os.close(reader)

    def test_at_a_terminal_each_is_asked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def prompt(text: str, **_: object) -> str:
            asked.append(text)
            return SECRETS[text.split('"')[1]]

        monkeypatch.setattr(ui, "is_terminal", lambda _: True)
        monkeypatch.setattr("typer.prompt", prompt)
        good("pki", "crl")
        assert asked == [
            'Passphrase of the key of CA "ca"',
            'Passphrase of the key of CA "issuing"',
            'Passphrase of the key of CA "issuing-tls"',
        ]

    def test_other_commands_take_names(self) -> None:
        both = given(*SOURCES)
        good("pki", "revoke", "release", "--reason", "superseded", *both, env=ENV)
        good("pki", "renew", "release", "--new-key", "--no-passphrase", *both, env=ENV)
        good("pki", "renew", "issuing", *both, env=ENV)
        good("pki", "renew", "--all", *both, env=ENV)
        good("pki", "renew", "issuing", "--new-key", "--no-passphrase", *both, env=ENV)
        for kind, name in (("signer", "ci"), ("server", "b.acme.example")):
            good("pki", "issue", kind, name, "--no-passphrase", *both, env=ENV)
        good("pki", "standby", "--no-passphrase")
        good("pki", "rotate", "--no-passphrase", *both, env=ENV)
        good("pki", "revoke", "issuing", "--reason", "superseded", *both, env=ENV)

    def test_a_name_in_another_command_that_is_no_ca(self) -> None:
        words = ("--reason", "superseded", *given("tls=env:D"))
        found = run("pki", "revoke", "release", *words, env=ENV)
        assert found.errors[0] == 'error: --ca-pass names "tls", which is no CA of pki'


class TestLost:
    def test_it_is_back(self, project: Path) -> None:
        good("pki", "revoke", "release", "--reason", "superseded")
        (project / "pki/crl/issuing.pem").unlink()
        refused(
            run("sign", "build.bin"),
            5,
            "pki/crl/issuing.pem is missing",
            "fwsign pki crl restores it",
        )
        found = run("pki", "crl")
        assert (found.status, found.out) == (0, f"pki/crl/ca.pem\npki/crl/issuing.pem\n{TLS}")
        note = "fwsign: pki/crl/issuing.pem was lost, and is back from a copy: revocations: 1\n"
        assert note in found.err

    def test_the_roots_as_it_was_where_its_key_is_elsewhere(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(10))
        (project / "pki/private/ca.key").rename(project / "ca.key")
        was = (project / "pki/crl/ca.pem").read_bytes()
        (project / "pki/crl/ca.pem").unlink()
        found = run("pki", "crl")
        assert (found.status, found.out) == (0, f"pki/crl/ca.pem\npki/crl/issuing.pem\n{TLS}")
        note = "pki/crl/ca.pem was lost, and is back from a copy, of 2026-11-22: revocations: 0\n"
        assert note in found.err
        assert (project / "pki/crl/ca.pem").read_bytes() == was

    def test_the_roots_without_a_copy(self, project: Path) -> None:
        (project / "pki/private/ca.key").rename(project / "ca.key")
        for name in ("ca", "bundle"):
            (project / f"pki/crl/{name}.pem").unlink()
        found = run("pki", "crl")
        assert (found.status, found.out) == (5, f"pki/crl/issuing.pem\n{TLS}")
        assert found.errors == [
            (
                'error: the CRL of CA "ca" is lost, no copy of it is here, and its key is not here '
                "either"
            ),
            (
                "hint: bring pki/private/ca.key here, run fwsign pki crl again, and take it away "
                "afterwards"
            ),
        ]

    def test_nowhere(self, project: Path) -> None:
        for name in ("issuing", "bundle"):
            (project / f"pki/crl/{name}.pem").unlink()
        found = run("pki", "crl")
        assert (found.status, found.out) == (5, f"pki/crl/ca.pem\n{TLS}")
        assert found.errors == [
            (
                'error: no new CRL of CA "issuing", there is none here: pki/crl/issuing.pem is '
                "missing, and there is no copy in pki/crl/bundle.pem"
            ),
            (
                "hint: fwsign pki crl --from FILE takes a copy, also from an envelope or a "
                "backup; if none is left: fwsign pki crl --forget issuing"
            ),
        ]

    def test_back_from_an_envelope(self, project: Path) -> None:
        good("pki", "issue", "signer", "gone", "--no-passphrase")
        good("pki", "revoke", "gone", "--reason", "keyCompromise")
        good("sign", "build.bin")
        for name in ("issuing", "bundle"):
            (project / f"pki/crl/{name}.pem").unlink()
        good("pki", "crl", "--from", "build.bin.suit")
        assert "cRLReason: keyCompromise" in good("show", "pki/crl/issuing.pem")

    def test_back_from_files(self, project: Path) -> None:
        shutil.copy("pki/crl/bundle.pem", "copies.pem")
        der = x509.load_pem_x509_crl(Path("pki/crl/issuing.pem").read_bytes())
        for name in ("issuing", "bundle"):
            (project / f"pki/crl/{name}.pem").unlink()
        good("pki", "crl", "--from", "copies.pem")
        Path("one.crl").write_bytes(der.public_bytes(Encoding.DER))
        good("pki", "crl", "--from", "one.crl", "--from", "copies.pem")

    def test_a_copy_of_another_pki(self) -> None:
        good("pki", "init", "other", "--org", "B", "--vendor", "b.example", "--no-passphrase")
        good("pki", "init", "pki", "--org", "A", "--vendor", "a.example", "--no-passphrase")
        found = run("pki", "crl", "--pki", "pki", "--from", "other/crl/bundle.pem")
        refused(found, 5, "other/crl/bundle.pem has no CRL of a CA of pki")

    def test_begun_anew(self, project: Path) -> None:
        for name in ("issuing", "bundle"):
            (project / f"pki/crl/{name}.pem").unlink()
        found = run("pki", "crl", "--forget", "issuing", "--number", "99999999999")
        assert (found.status, found.out) == (0, f"pki/crl/ca.pem\npki/crl/issuing.pem\n{TLS}")
        assert (
            "fwsign: warning: pki/crl/issuing.pem has no revocations: fwsign pki revoke again "
            "what was revoked\n"
        ) in found.err
        assert "cRLNumber: 99999999999" in good("show", "pki/crl/issuing.pem")

    @pytest.mark.usefixtures("project")
    def test_a_number_alone(self) -> None:
        refused(run("pki", "crl", "--number", "7"), 2, "--number is for --forget", HELP)
        refused(
            run("pki", "crl", "--forget", "issuing"),
            5,
            'the revocations of the CA "issuing" are here: they are not forgotten',
            "without --forget, fwsign pki crl makes a CRL that has them",
        )
