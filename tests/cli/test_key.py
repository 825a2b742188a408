# SPDX-License-Identifier: Apache-2.0
"""`fwsign key`: new, show, convert, passwd; and what each refuses without changing anything."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from cli.kit import Result, good, refused, run, tree
from fwsign.cli import strength, ui
from fwsign.cli.hints import HINTS
from fwsign.keys import convert, p12, pbes2
from fwsign.keys.file import load_private_key
from fwsign.keys.formats import read_any
from support import der, make_ca, make_leaf, new_key, tlv

OLD, NEW = "correct horse", "battery staple"
ENV = {"OLD": OLD, "NEW": NEW, "NONE": ""}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pbes2, "SCRYPT_N", 16)
    monkeypatch.setattr(p12, "ITERATIONS", 10)
    monkeypatch.setattr(p12, "MAC_ITERATIONS", 10)
    monkeypatch.setattr(p12, "LEGACY_ITERATIONS", 10)
    monkeypatch.setattr(convert, "BCRYPT_ROUNDS", 1)


def key(*arguments: object) -> Result:
    found = run("key", *arguments, env=ENV)
    assert not any(secret in found.out + found.err for secret in (OLD, NEW))
    return found


def done(*arguments: object) -> Result:
    found = key(*arguments)
    assert found.status == 0, found
    return found


def opened(path: str | Path, secret: str | None = None) -> Any:
    return load_private_key(path, lambda: secret.encode() if secret else None)


def write(path: str, alg: str = "p256", secret: str | None = OLD, form: str = "pkcs8") -> Any:
    made = new_key(alg)
    data = convert.encode_private(made, form, secret.encode() if secret else None)
    Path(path).write_bytes(data)
    return made


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


class TestNew:
    @pytest.mark.parametrize("alg", ["p256", "ed25519", "ml-dsa-65"])
    def test_a_key_is_encrypted_and_private(self, alg: str) -> None:
        found = done("new", "a.key", "--alg", alg, "--pass", "env:OLD")
        assert found.out == "a.key\n"
        assert found.err == "fwsign: next: fwsign key convert a.key a.pub --to public\n"
        assert b"ENCRYPTED" in Path("a.key").read_bytes()
        if os.name == "posix":
            assert mode("a.key") == 0o600
        opened("a.key", OLD)

    def test_without_a_passphrase_it_says_so(self) -> None:
        found = done("new", "a.key", "--no-passphrase")
        assert "warning: the key is not encrypted: whoever reads the file can use it" in found.err
        opened("a.key")

    def test_nothing_is_replaced(self) -> None:
        Path("a.key").write_bytes(b"")
        found = key("new", "a.key", "--no-passphrase")
        hint = "--force replaces a key, a certificate or an empty file"
        refused(found, 5, "a.key exists already", hint)
        done("new", "a.key", "--no-passphrase", "--force")
        done("new", "a.key", "--pass", "env:NEW", "--force")
        opened("a.key", NEW)

    @pytest.mark.parametrize("content", [b"firmware", b"\0", b"-----BEGIN A-----"])
    def test_force_replaces_keys_alone(self, content: bytes) -> None:
        Path("a.bin").write_bytes(content)
        found = key("new", "a.bin", "--no-passphrase", "--force")
        hint = "choose another name, or remove it yourself"
        refused(found, 5, "a.bin exists already and is not a key", hint)
        assert Path("a.bin").read_bytes() == content

    @pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")
    def test_odd_places(self, tmp_path: Path) -> None:
        refused(key("new", ".", "--no-passphrase"), 5, "cannot write .: is a directory")
        words = "cannot write no/a.key: no such file or directory"
        refused(key("new", "no/a.key", "--no-passphrase"), 5, words)
        (tmp_path / "file").write_bytes(b"")
        words = "cannot write file/a.key: a part of the path is not a directory"
        refused(key("new", "file/a.key", "--no-passphrase"), 5, words)
        found = key("new", "/dev/null", "--no-passphrase", "--force")
        assert found.errors[0] == "error: /dev/null exists already and is not a key"
        write("real.key")
        Path("link.key").symlink_to("real.key")
        done("new", "link.key", "--no-passphrase", "--force")
        assert Path("link.key").is_symlink()
        opened("real.key")

    def test_passphrases_that_cannot_be(self) -> None:
        no_terminal = "no passphrase for the new key a.key, and no terminal to ask"
        hint = "give it with --pass env:NAME, file:PATH or fd:N, or use --no-passphrase"
        refused(key("new", "a.key"), 2, no_terminal, hint)
        found = key("new", "a.key", "--pass", "env:OLD", "--no-passphrase")
        words = "--pass and --no-passphrase exclude each other"
        refused(found, 2, words, "fwsign key new --help shows how")
        empty = "the environment's variable NONE is empty"
        found = key("new", "a.key", "--pass", "env:NONE")
        refused(found, 2, empty, "a passphrase is expected in it")
        Path("empty").write_bytes(b"\n")
        hint = "--no-passphrase leaves the key unencrypted"
        empty = "the passphrase of the new key a.key is empty"
        refused(key("new", "a.key", "--pass", "file:empty"), 2, empty, hint)
        assert not Path("a.key").exists()


class TestPrompt:
    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []

        def prompt(text: str, **_: object) -> str:
            self.asked.append(text)
            return NEW

        monkeypatch.setattr(ui, "is_terminal", lambda stream: True)  # noqa: ARG005
        monkeypatch.setattr("typer.prompt", prompt)

    def test_a_new_passphrase_comes_with_advice(self) -> None:
        found = done("new", "a.key")
        assert self.asked == ["Passphrase of the new key a.key"]
        assert strength.ADVICE in found.err
        opened("a.key", NEW)

    def test_and_with_its_strength_if_zxcvbn_is_there(self) -> None:
        pytest.importorskip("zxcvbn", reason="the package zxcvbn is not installed")
        found = done("new", "a.key")
        assert re.search(r"strength of the passphrase: [0-4] of 4, guessed within \S+", found.err)

    def test_without_zxcvbn_nothing_is_said_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "zxcvbn", None)
        assert "strength" not in done("new", "a.key").err

    def test_warnings_of_zxcvbn(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("zxcvbn", reason="the package zxcvbn is not installed")
        strength.judge("password")
        assert "0 of 4, guessed within less than a second: this is a top" in capsys.readouterr().err
        strength.judge("x" * 5000)
        assert "of 4" in capsys.readouterr().err

    def test_an_old_passphrase_does_not(self) -> None:
        write("a.key", secret=NEW)
        found = done("convert", "a.key", "b.key", "--no-passphrase")
        assert self.asked == ["Passphrase of a.key"]
        assert strength.ADVICE not in found.err


class TestShow:
    def card(self, *arguments: object) -> Any:
        return json.loads(done("show", *arguments, "--json").out)["content"][0]

    def test_from_outside(self) -> None:
        write("a.key")
        found = done("show", "a.key")
        assert found.out == (
            "kind: private key\n"
            "format: PKCS#8\n"
            "encoding: PEM\n"
            "encrypted: True\n"
            "encryption\n"
            "  scheme: PBES2\n"
            "  derivation: scrypt N=16 r=8 p=5\n"
            "  cipher: AES-256-CBC\n"
            "  strength: weak\n"
            "  warning: scrypt N=16 r=8 p=5: at least N=16384 r=8 p=5 is advised\n"
            "  what to do: fwsign key passwd FILE encrypts it anew with scrypt\n"
        )
        assert found.err == "fwsign: it is encrypted; --pass shows the rest\n"

    @pytest.mark.parametrize(
        ("alg", "use"),
        [
            ("p256", "fwsign sign, as ESP256"),
            ("ed25519", "fwsign sign, as Ed25519"),
            ("rsa3072", "fwsign sign, as PS256"),
            ("ml-dsa-65", "fwsign sign, as ML-DSA-65"),
            ("p521", "not for fwsign, which takes"),
            ("rsa2048", "not for fwsign, which takes"),
        ],
    )
    def test_from_inside(self, alg: str, use: str) -> None:
        made = write("a.key", alg)
        card = self.card("a.key", "--pass", "env:OLD")
        assert card["can be used for"].startswith(use)
        Path("pub").write_bytes(convert.encode_public(made.public_key(), "public"))
        public = self.card("pub")
        for name in ("key", "key sha256", "can be used for"):
            assert public[name] == card[name]

    def test_a_container(self) -> None:
        leaf = make_leaf(make_ca())
        certificates = [leaf.certificate]
        data = convert.encode_private(leaf.key, "p12", OLD.encode(), certificates=certificates)
        Path("a.pem").write_bytes(data)
        assert self.card("a.pem")["kind"] == "PKCS#12 container"
        found = json.loads(done("show", "a.pem", "--pass", "env:OLD", "--json").out)["content"]
        assert [one["kind"] for one in found] == ["private key", "certificate"]
        assert found[1]["in"] == "PKCS#12"

    def test_refusals(self) -> None:
        write("a.key")
        words = "wrong passphrase for a.key, or the key in it is damaged"
        found = key("show", "a.key", "--pass", "env:NEW")
        refused(found, 5, words, "is it the passphrase of this key?")
        Path("x").write_bytes(b"text")
        words = "x is not a private key that can be read: it is neither PEM nor DER"
        refused(key("show", "x"), 5, words, "fwsign show FILE tells what it is")
        found = key("show", "a.key", "--pass", "env:NEW", "--json")
        assert json.loads(found.out)["code"] == "key.passphrase"


class TestPasswd:
    def test_the_passphrase_is_another(self) -> None:
        made = write("a.key")
        Path("a.key").chmod(0o644)
        found = done("passwd", "a.key", "--pass", "env:OLD", "--new-pass", "env:NEW")
        assert found.out == "a.key\n"
        assert opened("a.key", NEW).public_key() == made.public_key()
        if os.name == "posix":
            assert mode("a.key") == 0o600
        assert sorted(tree(Path())) == ["a.key"]

    def test_to_and_from_none(self) -> None:
        made = write("a.key", secret=None)
        done("passwd", "a.key", "--new-pass", "env:NEW")
        found = done("passwd", "a.key", "--pass", "env:NEW", "--no-passphrase")
        assert "warning: the key is not encrypted" in found.err
        assert opened("a.key").public_key() == made.public_key()

    def test_der_stays_der(self) -> None:
        made = new_key()
        Path("a").write_bytes(convert.encode_private(made, "pkcs8", OLD.encode(), der=True))
        done("passwd", "a", "--pass", "env:OLD", "--new-pass", "env:NEW")
        (found,) = read_any(Path("a").read_bytes(), NEW.encode)
        assert (found.encoding, found.public_key) == ("DER", made.public_key())

    def test_old_forms_become_pkcs8(self) -> None:
        form, lock = PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(OLD.encode())
        Path("a.key").write_bytes(new_key().private_bytes(Encoding.PEM, form, lock))
        found = done("passwd", "a.key", "--pass", "env:OLD", "--new-pass", "env:NEW")
        assert "it was SEC1 and is PKCS#8 now" in found.err
        opened("a.key", NEW)

    @pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")
    def test_a_link_leads_to_the_key(self) -> None:
        write("a.key")
        Path("link").symlink_to("a.key")
        done("passwd", "link", "--pass", "env:OLD", "--new-pass", "env:NEW")
        assert Path("link").is_symlink()
        opened("a.key", NEW)

    def test_refusals_change_nothing(self) -> None:
        leaf = make_leaf(make_ca())
        certificate = leaf.certificate.public_bytes(Encoding.PEM)
        write("a.key")
        Path("both").write_bytes(Path("a.key").read_bytes() + certificate)
        Path("p12").write_bytes(convert.encode_private(leaf.key, "p12", OLD.encode()))
        Path("crt").write_bytes(certificate)
        Path("cut").write_bytes(Path("a.key").read_bytes()[:100])
        before = tree(Path())
        options = ("--pass", "env:OLD", "--new-pass", "env:NEW")
        lost = "has more in it than a key, which would be lost"
        for name in ("both", "p12"):
            hint = f"write a new file: fwsign key convert {name} OUT"
            refused(key("passwd", name, *options), 5, f"{name} {lost}", hint)
        words = 'crt is not a private key that can be read: it is PEM "CERTIFICATE"'
        refused(key("passwd", "crt", *options), 5, words, "fwsign show FILE tells what it is")
        words = "cut is damaged PEM: BEGIN ENCRYPTED PRIVATE KEY without its END"
        refused(key("passwd", "cut", *options), 5, words)
        refused(key("passwd", "no", *options), 5, "cannot read no: no such file or directory")
        found = key("passwd", "a.key", "--pass", "env:NEW", "--new-pass", "env:NEW")
        assert (found.status, found.errors[0][:23]) == (5, "error: wrong passphrase")
        clash = "--new-pass and --no-passphrase exclude each other"
        hint = "fwsign key passwd --help shows how"
        refused(key("passwd", "a.key", *options, "--no-passphrase"), 2, clash, hint)
        missing = "no passphrase for a.key from now on, and no terminal to ask"
        hint = "give it with --new-pass env:NAME, file:PATH or fd:N, or use --no-passphrase"
        refused(key("passwd", "a.key", "--pass", "env:OLD"), 2, missing, hint)
        missing = "no passphrase for a.key, and no terminal to ask"
        hint = "give it with --pass env:NAME, file:PATH or fd:N"
        refused(key("passwd", "a.key", "--new-pass", "env:NEW"), 2, missing, hint)
        assert tree(Path()) == before

    def test_a_full_disk_leaves_the_old_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write("a.key")
        before = tree(Path())

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        found = key("passwd", "a.key", "--pass", "env:OLD", "--new-pass", "env:NEW")
        path = Path("a.key").resolve()
        refused(found, 5, f"cannot write {path}: no space left on device")
        assert tree(Path()) == before


class TestConvert:
    @pytest.mark.parametrize(
        ("alg", "form", "options"),
        [
            ("p256", "pkcs8", ("--new-pass", "env:NEW")),
            ("p256", "pkcs8", ("--new-pass", "env:NEW", "--der")),
            ("p256", "sec1", ("--no-passphrase",)),
            ("p384", "sec1", ("--no-passphrase", "--der")),
            ("rsa3072", "pkcs1", ("--no-passphrase",)),
            ("ed25519", "openssh", ("--no-passphrase",)),
            ("p256", "p12", ("--new-pass", "env:NEW")),
            ("p256", "p12", ("--new-pass", "env:NEW", "--legacy")),
            ("p256", "p12", ("--no-passphrase",)),
            ("ml-dsa-87", "pkcs8", ("--no-passphrase", "--der")),
        ],
    )
    def test_private_keys(self, alg: str, form: str, options: tuple[str, ...]) -> None:
        made = write("a.key", alg)
        before = Path("a.key").read_bytes()
        found = done("convert", "a.key", "b.out", "--to", form, "--pass", "env:OLD", *options)
        assert found.out == "b.out\n"
        assert opened("b.out", NEW).public_key() == made.public_key()
        assert Path("a.key").read_bytes() == before
        if os.name == "posix":
            assert mode("b.out") == 0o600
        assert ("WARNING: --legacy" in found.err) is ("--legacy" in options)
        assert ("warning: the key is not" in found.err) is ("--no-passphrase" in options)

    def test_a_key_for_ssh_with_a_passphrase(self) -> None:
        pytest.importorskip("bcrypt", reason="the package bcrypt is not installed")
        made = write("a.key")
        options = ("--to", "openssh", "--pass", "env:OLD", "--new-pass", "env:NEW")
        done("convert", "a.key", "id", *options)
        assert opened("id", NEW).public_key() == made.public_key()
        done("convert", "id", "id.pub", "--to", "public-openssh")  # needs no passphrase
        assert read_any(Path("id.pub").read_bytes())[0].public_key == made.public_key()

    @pytest.mark.parametrize("form", ["public", "public-openssh"])
    def test_public_keys(self, form: str) -> None:
        made = write("a.key")
        done("convert", "a.key", "b", "--to", form, "--pass", "env:OLD")
        if os.name == "posix":
            assert mode("b") == 0o644
        done("convert", "b", "c", "--to", "public", "--der")
        assert Path("c").read_bytes() == der(made.public_key())

    def test_public_keys_of_certificates_and_requests(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        leaf = make_leaf(make_ca())
        request = x509.CertificateSigningRequestBuilder().subject_name(leaf.certificate.subject)
        things: tuple[Any, ...] = (leaf.certificate, request.sign(leaf.key, hashes.SHA256()))
        for index, thing in enumerate(things):
            Path("in").write_bytes(thing.public_bytes(Encoding.PEM))
            done("convert", "in", f"out{index}", "--to", "public", "--der")
            assert Path(f"out{index}").read_bytes() == der(leaf.key.public_key())

    def test_pkcs12_with_certificates_and_back(self) -> None:
        root = make_ca()
        leaf = make_leaf(root)
        Path("a.key").write_bytes(
            leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        Path("crt").write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
        Path("ca").write_bytes(root.certificate.public_bytes(Encoding.DER))
        options = ("--to", "p12", "--new-pass", "env:NEW")
        done("convert", "a.key", "a.p12", *options, "--cert", "ca", "--cert", "crt")
        _, own, ca = read_any(Path("a.p12").read_bytes(), NEW.encode)
        assert (own.content, ca.content, own.detail) == (leaf.der, root.der, "a")
        done("convert", "a.p12", "b.p12", "--pass", "env:NEW", *options)
        assert len(read_any(Path("b.p12").read_bytes(), NEW.encode)) == 3
        found = done("convert", "b.p12", "b.key", "--pass", "env:NEW", "--no-passphrase")
        assert "the certificates in b.p12 are not in b.key; only p12 has them" in found.err
        found = key("convert", "a.key", "c.p12", *options, "--cert", "ca")
        refused(found, 5, "none of the certificates is that of the key", HINTS["key.mismatch"][1])
        Path("bad").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        found = key("convert", "a.key", "c.p12", *options, "--cert", "bad")
        refused(found, 1, "not a certificate that can be read")
        assert not Path("c.p12").exists()

    def test_signing_with_a_key_from_pkcs12(self, project: Path) -> None:
        source = project / "pki/private/release.key"
        chain = project / "pki/issued/release.crt"
        options = ("--to", "p12", "--new-pass", "env:NEW", "--cert", chain)
        done("convert", source, "release.p12", *options)
        parts = [chain, project / "pki/issued/issuing.crt", project / "pki/ca.crt"]
        Path("chain.pem").write_bytes(b"".join(part.read_bytes() for part in parts))
        line = ("sign", "build.bin", "--key", "release.p12", "--chain", "chain.pem")
        good(*line, "--product", "gateway-x1", "--pass", "env:NEW", env=ENV)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--to", "x"), '"x" is not a form of keys'),
            (("--to", "sec1"), "sec1 is not encrypted: its one way to do so is broken"),
            (("--to", "pkcs1", "--new-pass", "env:NEW"), "pkcs1 is not encrypted: its one way"),
            (("--legacy",), "--legacy is for --to p12 alone"),
            (("--cert", "x"), "--cert is for --to p12 alone"),
            (("--to", "openssh", "--der"), "openssh is text, there is no DER of it"),
            (("--to", "public-openssh", "--der"), "public-openssh is text"),
            (("--to", "public", "--new-pass", "env:NEW"), "a public key has no passphrase"),
            (("--to", "public", "--no-passphrase"), "a public key has no passphrase"),
            (("--to", "p12", "--legacy", "--no-passphrase"), "--legacy is a way to encrypt"),
            (("--new-pass", "env:NEW", "--no-passphrase"), "--new-pass and --no-passphrase"),
        ],
    )
    def test_options_that_cannot_be_meant(self, options: tuple[str, ...], words: str) -> None:
        write("a.key", secret=None)
        found = key("convert", "a.key", "b", *options)
        assert (found.status, found.out) == (2, "")
        assert found.errors[0].startswith(f"error: {words}")
        assert not Path("b").exists()

    def test_refusals_write_nothing(self) -> None:
        made = write("a.key", "ed25519", secret=None)
        clear = Path("a.key").read_bytes()
        Path("two").write_bytes(clear + clear)
        Path("pub").write_bytes(convert.encode_public(made.public_key(), "public"))
        Path("cut").write_bytes(clear[:60])
        Path("text").write_bytes(b"no key")
        Path("flip").write_bytes(b"0" + clear)
        before = tree(Path())
        none = ("--no-passphrase",)
        cases = {
            ("two", *none): "two has 2 private keys, expected one",
            ("pub", *none): 'pub is not a private key that can be read: it is PEM "PUBLIC KEY"',
            ("cut", *none): "cut is damaged PEM: BEGIN PRIVATE KEY without its END",
            (
                "text",
                *none,
            ): "text is not a private key that can be read: it is neither PEM nor DER",
            ("text", "--to", "public"): "text is not a private key that can be read",
            ("a.key", "--to", "sec1", *none): "a key of Ed25519 has no SEC1 form",
            ("no", *none): "cannot read no: no such file or directory",
        }
        for (name, *options), words in cases.items():
            found = key("convert", name, "out", *options)
            assert (found.status, found.out) == (5, "")
            assert found.errors[0].startswith(f"error: {words}"), found
        hint = "--force replaces a key, a certificate or an empty file"
        refused(key("convert", "a.key", "pub", *none), 5, "pub exists already", hint)
        assert tree(Path()) == before

    def test_into_itself_with_force(self) -> None:
        made = write("a.key")
        done("convert", "a.key", "a.key", "--pass", "env:OLD", "--new-pass", "env:NEW", "--force")
        assert opened("a.key", NEW).public_key() == made.public_key()

    def test_mldsa_in_expanded_form_alone(self) -> None:
        oid = tlv(0x30, bytes.fromhex("0609608648016503040312"))
        Path("a.key").write_bytes(tlv(0x30, b"\2\1\0", oid, tlv(4, tlv(4, bytes(4032)))))
        words = "a.key has an ML-DSA-65 key in expanded form alone, from which no seed can be had"
        refused(key("convert", "a.key", "b", "--no-passphrase"), 5, words)
        card = json.loads(good("key", "show", "a.key", "--json"))["content"][0]
        assert card["detail"] == words


def test_help_comes_in_the_order_of_use() -> None:
    page = good("key", "--help")
    found = re.findall(r"^  (\w+) ", page.partition("Commands:\n")[2], re.MULTILINE)
    assert found == ["new", "show", "convert", "passwd"]
