# SPDX-License-Identifier: Apache-2.0
"""The commands know the issuing CA for TLS, and how a PKI without one gets it."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from cli.kit import good, refused, run, tree
from fwsign.keys.encryption import describe_encryption
from fwsign.keys.file import load_private_key
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


@pytest.mark.usefixtures("project")
class TestExport:
    @pytest.mark.parametrize(
        ("program", "lines"),
        [
            (
                "esp-idf",
                (
                    "CMakeLists.txt: EMBED_TXTFILES with c.pem, pki/ca.crt and the key",
                    (
                        "esp_tls_cfg_t: clientcert_buf, cacert_buf, clientkey_buf; sizes with the "
                        "final zero"
                    ),
                    (
                        "the key in clear, with flash encryption: fwsign key convert "
                        "pki/private/c.key OUT --no-passphrase"
                    ),
                ),
            ),
            (
                "node",
                (
                    "cert c.pem, key pki/private/c.key, ca pki/ca.crt",
                    (
                        "crl: [pki/crl/ca.pem, pki/crl/issuing-tls.pem], each read by itself: of "
                        "one file Node takes the first list alone"
                    ),
                ),
            ),
            (
                "mosquitto",
                (
                    "certfile c.pem",
                    "keyfile pki/private/c.key, readable by its user",
                    "cafile pki/ca.crt",
                    "crlfile pki/crl/bundle.pem, again after each fwsign pki crl",
                ),
            ),
            (
                "gnutls",
                (
                    (
                        "trusts both, in one file: pki/ca.crt, pki/issued/issuing-tls.crt; it "
                        "takes a CRL only of a CA that it trusts"
                    ),
                    "CRLs of these CAs, in one file: pki/crl/ca.pem, pki/crl/issuing-tls.pem",
                ),
            ),
            (
                "wolfssl",
                (
                    (
                        "wolfSSL_CTX_load_verify_locations: pki/ca.crt, "
                        "pki/issued/issuing-tls.crt, in one file"
                    ),
                    (
                        "wolfSSL_CTX_LoadCRLFile, once for each: pki/crl/ca.pem, "
                        "pki/crl/issuing-tls.pem"
                    ),
                ),
            ),
            (
                "java",
                (
                    "keystore: fwsign key convert pki/private/c.key c.p12 --to p12 --cert c.pem",
                    "truststore: keytool -importcert -file pki/ca.crt",
                ),
            ),
        ],
    )
    def test_what_a_program_needs(self, program: str, lines: tuple[str, ...]) -> None:
        good("pki", "issue", "client", "c", PLAIN)
        assert run("pki", "export", "chain", "c", "c.pem", "--for", program) == (
            0,
            "c.pem\n",
            "".join(f"fwsign: {line}\n" for line in lines),
        )

    def test_a_program_that_is_not_known(self) -> None:
        found = run("pki", "export", "chain", "release", "c.pem", "--for", "word")
        words = '"word" is not a program that is known here'
        hint = "choose from esp-idf, gnutls, java, mosquitto, node, wolfssl"
        refused(found, 2, words, hint)

    def test_mbedtls_cannot_read_an_older_pki(self, project: Path) -> None:
        before_tls(project / "pki")
        good("pki", "issue", "client", "c", PLAIN)
        refused(
            run("pki", "export", "chain", "c", "c.pem", "--for", "esp-idf"),
            5,
            'mbedTLS cannot read the CA "Acme Issuing CA": its name constraints are critical',
            "servers and clients need a CA without them: fwsign pki renew issuing-tls, then "
            "fwsign pki renew NAME",
        )
        assert not (project / "c.pem").exists()
        good("pki", "export", "chain", "c", "c.pem", "--for", "mosquitto")

    @pytest.mark.parametrize(("alg", "name"), [("ed25519", "Ed25519"), ("ml-dsa-65", "ML-DSA-65")])
    def test_nor_some_keys(self, alg: str, name: str) -> None:
        good("pki", "init", "other", *NAMES, "--alg", alg)
        good("pki", "issue", "client", "c", "--pki", "other", "--alg", "p256", PLAIN)
        refused(
            run("pki", "export", "chain", "c", "c.pem", "--for", "esp-idf", "--pki", "other"),
            5,
            f'mbedTLS cannot read "Acme TLS CA": its key is {name}, expected P-256, P-384, P-521, '
            "RSA",
            "the whole path needs such keys, the root included: another PKI for these devices, "
            "fwsign pki init --alg p256",
        )


KDF = {"scrypt": "scrypt N=16384 r=8 p=5", "pbkdf2": "PBKDF2-HMAC-SHA256, 600000 iterations"}


def kdf(path: str) -> str:
    found = describe_encryption(Path(path).read_bytes())
    assert found is not None
    assert (found.verdict, found.cipher) == ("good", "AES-256-CBC")
    load_private_key(path, lambda: b"secret")
    return {text: name for name, text in KDF.items()}[found.kdf]


@pytest.mark.usefixtures("project")
class TestKdf:
    env: ClassVar = {"P": "secret"}
    new: ClassVar = ("--pass", "env:P")

    @pytest.mark.parametrize(
        ("kind", "default"),
        [("signer", "scrypt"), ("tsa", "scrypt"), ("server", "pbkdf2"), ("client", "pbkdf2")],
    )
    def test_the_default_follows_the_purpose(self, kind: str, default: str) -> None:
        good("pki", "issue", kind, "x", *self.new, env=self.env)
        assert kdf("pki/private/x.key") == default
        other = "scrypt" if default == "pbkdf2" else "pbkdf2"
        good("pki", "renew", "x", "--new-key", "--kdf", other, *self.new, env=self.env)
        assert kdf("pki/private/x.key") == other
        good("pki", "renew", "x", "--new-key", *self.new, env=self.env)
        assert kdf("pki/private/x.key") == default
        good("pki", "issue", kind, "y", "--kdf", other, *self.new, env=self.env)
        assert kdf("pki/private/y.key") == other
        name = {"scrypt": "scrypt", "pbkdf2": "PBKDF2"}[other]
        assert f"y.key, encrypted with {name}" in good("pki", "show", env={"COLUMNS": "100"})
        found = json.loads(good("pki", "show", "--json"))["certificates"]
        keys = {one["name"]: one["private_key"] for one in found}
        assert keys["y"]["derivation"] == KDF[other]
        shown = good("key", "show", "pki/private/y.key")
        assert f"derivation: {KDF[other]}\n" in shown

    @pytest.mark.parametrize("wanted", ["scrypt", "pbkdf2"])
    def test_keys_of_cas(self, wanted: str) -> None:
        for line in ("issuing", "issuing-tls"):
            more = ("--new-key", "--kdf", wanted, *self.new)
            good("pki", "renew", line, *more, env=self.env)
            assert kdf(f"pki/private/{line}-2.key") == wanted

    def test_keys_alone(self) -> None:
        good("key", "new", "a.key", *self.new, env=self.env)
        assert kdf("a.key") == "scrypt"
        both = ("--pass", "env:P", "--new-pass", "env:P")
        good("key", "convert", "a.key", "b.key", "--kdf", "pbkdf2", *both, env=self.env)
        assert kdf("b.key") == "pbkdf2"
        good("key", "convert", "b.key", "c.key", *both, env=self.env)
        assert kdf("c.key") == "scrypt"
        good("key", "passwd", "b.key", *both, env=self.env)  # some program needs it
        assert kdf("b.key") == "pbkdf2"
        good("key", "passwd", "b.key", "--kdf", "scrypt", *both, env=self.env)
        assert kdf("b.key") == "scrypt"
        good("key", "new", "d.key", "--kdf", "pbkdf2", *self.new, env=self.env)
        assert kdf("d.key") == "pbkdf2"

    def test_a_weak_one_becomes_scrypt(self) -> None:
        key = load_private_key("pki/private/release.key", lambda: None)
        form = BestAvailableEncryption(b"secret")  # PBKDF2, 2048 times
        Path("w.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, form))
        both = ("--pass", "env:P", "--new-pass", "env:P")
        good("key", "passwd", "w.key", *both, env=self.env)
        assert kdf("w.key") == "scrypt"

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (("key", "new", "x.key", "--kdf", "md5"), '"md5" is not a key derivation'),
            (
                ("pki", "issue", "client", "x", "--kdf", "scrypt", PLAIN),
                "--kdf and --no-passphrase exclude each other",
            ),
            (
                ("pki", "issue", "client", "x", "--kdf", "scrypt", "--csr", "x.csr"),
                "--csr and --kdf exclude each other",
            ),
            (
                ("pki", "renew", "release", "--kdf", "scrypt"),
                "--pass, --no-passphrase, --kdf and --alg are for --new-key",
            ),
            (
                ("key", "convert", "a", "b", "--to", "p12", "--kdf", "scrypt"),
                "--kdf is for --to pkcs8 alone",
            ),
            (
                ("key", "passwd", "a", "--kdf", "scrypt", PLAIN),
                "--kdf and --no-passphrase exclude each other",
            ),
        ],
    )
    def test_usage(self, command: tuple[str, ...], words: str) -> None:
        found = run(*command)
        assert (found.status, found.errors[0]) == (2, f"error: {words}")


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
        'the CA "Acme Issuing CA" may not issue a client: it is for codeSigning, timeStamping, '
        "configSigning",
        "fwsign pki renew issuing-tls makes a CA for servers and clients",
    )
    good("pki", "renew", "issuing-tls", "--pki", "ours", PLAIN)
    good("pki", "sign-ca", "ours/reqs/issuing-tls.csr", "--pki", "pki", "--tls")
    good("pki", "accept", "ours", "pki/issued/issuing-tls-2.crt")
    good("pki", "issue", "client", "c", "--pki", "ours", PLAIN)
