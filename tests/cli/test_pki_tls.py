# SPDX-License-Identifier: Apache-2.0
"""The commands know the issuing CA for TLS, and how a PKI without one gets it."""

import json
from pathlib import Path

import pytest

from cli.kit import good, refused, run, tree
from pki_kit import before_tls

PLAIN = "--no-passphrase"
NAMES = ("--org", "Acme", "--vendor", "acme.example", PLAIN)


@pytest.fixture
def old(project: Path) -> Path:
    """A project of the time before there was a CA for TLS."""
    before_tls(project / "pki")
    return project


@pytest.mark.usefixtures("old")
class TestBringOver:
    def test_what_is_issued_names_the_command(self) -> None:
        found = run("pki", "issue", "server", "b.acme.example", PLAIN)
        words = 'mbedTLS, as in ESP-IDF, cannot read the CA "issuing": fwsign pki renew issuing-tls'
        assert f"fwsign: {words} makes one for TLS\n" in found.err

    def test_one_command(self) -> None:
        good("pki", "issue", "client", "c", PLAIN)
        assert run("pki", "renew", "issuing-tls", PLAIN) == (
            0,
            "pki/issued/issuing-tls.crt\n",
            (
                'fwsign: the CA "issuing-tls" issues servers and clients from now on; '
                "what is there stays good\n"
                "fwsign: next: fwsign pki renew NAME, for each server and client\n"
            ),
        )
        good("pki", "verify", "pki/issued/c.crt", "--purpose", "client")
        good("pki", "renew", "c")
        good("pki", "verify", "pki/issued/c.crt", "--purpose", "client")
        found = run("pki", "issue", "server", "anything", PLAIN)
        assert (found.status, "mbedTLS" in found.err) == (0, False)
        good("sign", "build.bin")
        good("verify", "build.bin.suit", "--revocation", "require")
        assert good("pki", "lint").splitlines()[-1].startswith("clean")
        assert run("pki", "expire").status == 0
        assert good("pki", "crl").splitlines() == [
            f"pki/crl/{name}.pem" for name in ("ca", "issuing", "issuing-tls")
        ]
        found_ = json.loads(good("pki", "show", "--json"))["certificates"]
        assert {one["name"] for one in found_} >= {"issuing-tls", "anything"}

    def test_the_roots_key_is_elsewhere(self, old: Path) -> None:
        (old / "pki/private/ca.key").rename(old / "ca.key")
        assert run("pki", "renew", "issuing-tls", PLAIN) == (
            0,
            "pki/reqs/issuing-tls.csr\n",
            (
                "fwsign: the root's key is not here: pki/private/ca.key is missing\n"
                "fwsign: next, where the root is: "
                "fwsign pki sign-ca issuing-tls.csr --pki DIR --tls\n"
            ),
        )
        assert run("pki", "issue", "client", "c", PLAIN).status == 0  # as before

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--for", "5y"), "--for and --new-key exclude each other for an issuing CA"),
            (("--permit", "a.example"), "--permit is for an issuing CA that keeps its key"),
        ],
    )
    def test_usage(self, more: tuple[str, ...], words: str) -> None:
        found = run("pki", "renew", "issuing-tls", PLAIN, *more)
        refused(found, 2, words, "fwsign pki renew --help shows how")


@pytest.mark.usefixtures("project")
class TestRevoked:
    def test_servers_and_clients_are_dead_and_signers_are_not(self) -> None:
        good("pki", "issue", "client", "c", PLAIN)
        good("pki", "revoke", "issuing-tls", "--reason", "keyCompromise")
        found = json.loads(good("pki", "show", "--json"))["certificates"]
        assert {one["name"]: one["standing"] for one in found} == {
            "c": "below a revoked CA",
            "ca": "valid",
            "issuing": "valid",
            "issuing-tls": "revoked",
            "release": "valid",
        }
        found_ = run("pki", "expire")
        assert "certificate c" in found_.out
        assert found_.err.startswith(
            "fwsign: replace what is below a revoked CA: fwsign pki renew issuing-tls --new-key; "
            "then fwsign pki renew --all\n"
        )
        refused(
            run("pki", "renew", "--all"),
            5,
            'the CA "Acme TLS CA" was revoked 2026-11-22',
            "fwsign pki renew issuing-tls --new-key makes another one",
        )
        assert run("pki", "renew", "issuing-tls", "--new-key", PLAIN).err == (
            'fwsign: the CA "issuing-tls-2" issues servers and clients from now on; the old one '
            "was revoked 2026-11-22, and nothing that it issued counts\n"
            "fwsign: next: fwsign pki renew --all\n"
        )
        good("pki", "renew", "--all")
        assert run("pki", "expire").status == 0
        good("sign", "build.bin")
        good("verify", "build.bin.suit", "--revocation", "require")

    def test_both_are_named(self) -> None:
        good("pki", "issue", "client", "c", PLAIN)
        for name in ("issuing", "issuing-tls"):
            good("pki", "revoke", name, "--reason", "keyCompromise")
        assert (
            "fwsign pki renew issuing --new-key; then fwsign pki renew issuing-tls --new-key; "
            "then fwsign pki renew --all\n"
        ) in run("pki", "expire").err


class TestFlat:
    def test_one_ca_stays_one(self, tmp_path: Path) -> None:
        good("pki", "init", "pki", *NAMES, "--layout", "easyrsa")
        before = tree(tmp_path)
        refused(
            run("pki", "renew", "issuing-tls", "--pki", "pki", PLAIN),
            5,
            "pki is laid out for easy-rsa, which has one CA",
            "fwsign pki import pki makes one with this CA as the root",
        )
        assert tree(tmp_path) == before

    def test_its_devices_may_have_mbedtls(self) -> None:
        good("pki", "init", "pki", *NAMES, "--layout", "easyrsa")
        found = run("pki", "issue", "server", "b.acme.example", "--pki", "pki", PLAIN)
        assert "mbedTLS" not in found.err
        assert good("pki", "lint", "pki").splitlines()[-1].startswith("clean")

    def test_a_signer_is_still_limited(self) -> None:
        good("pki", "init", "pki", *NAMES, "--layout", "easyrsa")
        found = run("pki", "issue", "signer", "x", "--vendor", "other.example", "--pki", "pki")
        assert found.status == 5
        assert "is limited to: acme.example" in found.errors[0]


class TestOffline:
    def test_the_request_says_what_it_is_for(self) -> None:
        good("pki", "init", "root", *NAMES, "--root-only")
        good("pki", "csr", "pki", *NAMES)
        sign = ("pki", "sign-ca", "pki/reqs/issuing-tls.csr", "--pki", "root")
        words = "no domain is given that the CA may issue for"
        refused(run(*sign), 2, words, "the request asks for --tls")
        refused(
            run(*sign, "--tls", "--permit", "acme.example"),
            2,
            "--permit and --tls exclude each other",
            "a CA of signers has --permit",
        )
        assert good(*sign, "--tls") == "root/issued/issuing-tls.crt\n"
        answer = ("root/ca.crt", "root/issued/issuing-tls.crt", "root/crl/ca.pem")
        good("pki", "accept", "pki", *answer)
        good("pki", "issue", "client", "c", "--pki", "pki", PLAIN)
        found = run("pki", "issue", "signer", "s", "--pki", "pki", PLAIN)
        assert found.errors[0] == "error: there is no issuing CA for a signer in pki"


def test_easy_rsa_goes_on_with_the_ca_for_tls(tmp_path: Path) -> None:
    good("pki", "init", "pki", *NAMES)
    good("pki", "issue", "client", "c", "--pki", "pki", PLAIN)
    export = ("pki", "export", "easyrsa", "theirs", "--pki", "pki", "--ca")
    refused(
        run(*export, "release"),
        5,
        '"release" is not an issuing CA of pki, there are: issuing, issuing-tls',
    )
    assert not (tmp_path / "theirs").exists()
    assert (
        'fwsign: "issuing-tls" is ca.crt there; the CAs above it are in theirs/above.pem\n'
        in run(*export, "issuing-tls").err
    )
    assert (tmp_path / "theirs/issued/c.crt").exists()


def test_it_is_asked_for_in_an_imported_pki_below_a_root() -> None:
    good("pki", "init", "pki", *NAMES)
    good("pki", "export", "easyrsa", "theirs", "--pki", "pki")
    good("pki", "import", "theirs", "--to", "ours")
    refused(
        run("pki", "issue", "client", "c", "--pki", "ours", PLAIN),
        5,
        'the CA "Acme Issuing CA" may not issue a client: it is for codeSigning, timeStamping',
        "fwsign pki renew issuing-tls makes a CA for servers and clients",
    )
    good("pki", "renew", "issuing-tls", "--pki", "ours", PLAIN)
    good("pki", "sign-ca", "ours/reqs/issuing-tls.csr", "--pki", "pki", "--tls")
    good("pki", "accept", "ours", "pki/issued/issuing-tls-2.crt")
    good("pki", "issue", "client", "c", "--pki", "ours", PLAIN)
