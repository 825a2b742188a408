"""The whole life of a PKI whose keys live in a token, in a service, or in files of others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bao_kit import Bao
from cli.kit import good, refused, run
from easyrsa_kit import ROOT, easyrsa
from fwsign.keys.file import new_private_key, write_private_key
from fwsign.pki.directory import Pki
from pki_kit import contents, openssl, openssl_verify, serials
from softhsm_kit import PIN, SoftHsm
from support import NOW, PAYLOAD

ORG = ("--org", "Acme", "--vendor", "acme.example")

Maker = Callable[[str, str], str]
"""Makes a key of a kind, with a name, and returns its URI."""


@pytest.fixture
def in_token(softhsm: SoftHsm, request: pytest.FixtureRequest) -> Maker:
    def make(alg: str, name: str) -> str:
        return softhsm.make(alg, f"{name} {request.node.name}")

    return make


@pytest.fixture
def in_service(bao: Bao, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setenv("BAO_ADDR", bao.address)  # or a file may not name it

    def make(alg: str, name: str) -> str:
        plain = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
        return bao.make(alg, f"{name}-{plain.strip('-')}")

    return make


def in_file(alg: str, name: str) -> str:
    path = Path(f"outside/{name}.key")
    path.parent.mkdir(exist_ok=True)
    write_private_key(path, new_private_key(alg), None)
    return str(path)


def no_private_key_in(directory: Path) -> bool:
    return not any(b"PRIVATE KEY" in data for data in contents(directory).values())


class Life:
    """The commands of a PKI's life, in this order: `begin`, `change`, `rotate`, `check_all`."""

    def __init__(self, make: Maker, alg: str, *, oracle: bool = True) -> None:
        self.make, self.alg, self.oracle = make, alg, oracle
        self.pki = Path("pki")

    def run(self, *words: object, new: str = "") -> str:
        """Run a command; `new` is the name of a key that it takes."""
        own = ("--key", self.make(self.alg, new), "--pass", "env:PIN") if new else ()
        return good(*words, *own, env={"PIN": PIN})

    def certified(self, name: str, root: str = "ca") -> None:
        """Assert that openssl accepts an entry, strictly and with all CRLs."""
        if self.oracle:
            found = openssl_verify(self.pki, name, root=root, now=NOW)
            assert found.returncode == 0, found.stderr

    def sign(self, name: str) -> None:
        Path("a.bin").write_bytes(PAYLOAD)
        self.run("sign", "a.bin", "--signer", name, "--pass", "env:PIN", "--force")

    def begin(self) -> None:
        keys = [
            part
            for one in ("issuing", "issuing-tls", "release")
            for part in ("--key", f"{one}={self.make(self.alg, one)}")
        ]
        root = ("--root-key", self.make(self.alg, "ca"), "--pass", "env:PIN")
        self.run("init", *ORG, "--product", "x1", *root, *keys)
        assert no_private_key_in(self.pki)
        self.certified("release")
        issued = self.run("pki", "issue", "signer", "second", "--ca-pass", "env:PIN", new="second")
        assert issued == "pki/issued/second.crt\n"
        self.certified("second")
        self.run("pki", "issue", "server", "broker", "--ca-pass", "env:PIN", new="broker")
        self.certified("broker")
        self.sign("second")
        verify = ("verify", "a.bin.suit", "--anchor", "pki/ca.crt")
        good(*verify)
        reason = ("--reason", "keyCompromise", "--ca-pass", "env:PIN")
        self.run("pki", "revoke", "second", *reason)
        revoked = serials(Pki("pki").crl("issuing"))
        assert revoked == {Pki("pki").certificate("second").serial_number}
        good("staple", "a.bin.suit")
        assert run(*verify).status == 1
        self.run("pki", "crl", "--ca-pass", "env:PIN")

    def change(self) -> None:
        opens = ("--ca-pass", "env:PIN")
        self.run("pki", "renew", "release", *opens)
        self.run("pki", "renew", "release", *opens, new="release-2")
        self.certified("release")
        self.run("pki", "renew", "issuing", *opens)
        self.run("pki", "renew", "issuing", *opens, new="issuing-2")
        self.run("pki", "renew", "release", *opens)
        assert Pki("pki").issuer_of(Pki("pki").certificate("release")) == "issuing-2"
        self.certified("release")

    def rotate(self) -> None:
        lines = ("issuing", "issuing-tls")
        keys = [
            part for one in lines for part in ("--key", f"{one}={self.make(self.alg, one + '-3')}")
        ]
        root = ("--root-key", self.make(self.alg, "ca-2"), "--pass", "env:PIN")
        self.run("pki", "rotate", *root, *keys, "--ca-pass", "env:PIN")
        self.run("pki", "renew", "release", "--ca-pass", "env:PIN")
        self.certified("release")
        self.certified("release", "ca-2")
        self.sign("release")
        for anchor in ("ca.crt", "ca-2.crt"):
            good("verify", "a.bin.suit", "--anchor", f"pki/{anchor}")

    def check_all(self) -> None:
        assert no_private_key_in(self.pki)
        assert not any(PIN.encode() in data for data in contents(self.pki).values())
        for name in Pki("pki").authorities() if self.oracle else ():
            own = Pki("pki").certificate_path(name)
            crl = ("crl", "-in", Pki("pki").crl_path(name), "-verify", "-noout", "-CAfile", own)
            assert "verify OK" in openssl(*crl).stderr
            text = openssl("x509", "-in", own, "-noout", "-text")
            assert text.returncode == 0
            assert "CA:TRUE" in text.stdout


def life(make: Maker, alg: str, *, oracle: bool = True) -> None:
    one = Life(make, alg, oracle=oracle)
    one.begin()
    one.change()
    one.rotate()
    one.check_all()


class TestLife:
    @pytest.mark.parametrize("alg", ["p256", "p384", "ed25519"])
    def test_in_a_token(self, in_token: Maker, alg: str) -> None:
        life(in_token, alg)

    def test_with_a_root_of_rsa(self, in_token: Maker) -> None:
        life(lambda alg, name: in_token("rsa3072" if name == "ca" else alg, name), "p256")

    # The openssl of Debian 12 reads no ML-DSA.
    @pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
    def test_in_a_service(self, in_service: Maker, alg: str) -> None:
        life(in_service, alg, oracle=not alg.startswith("ml-dsa"))

    def test_in_files_elsewhere(self) -> None:
        life(in_file, "p256")


class TestMixed:
    """A root in a token, issuing CAs in a service, a signer in a file."""

    def test_each_key_lives_where_it_was_said(self, in_token: Maker, in_service: Maker) -> None:
        root, issuing = in_token("p384", "ca"), in_service("p256", "issuing")
        tls = in_service("ed25519", "tls")
        keys = ("--key", f"issuing={issuing}", "--key", f"issuing-tls={tls}", "--alg", "ed25519")
        secrets = ("--no-passphrase", "--root-pass", "env:PIN")
        good("init", *ORG, "--product", "x1", "--root-key", root, *keys, *secrets, env={"PIN": PIN})
        pki = Pki("pki")
        assert [pki.key_uri(name) for name in ("ca", "issuing", "issuing-tls", "release")] == [
            root, issuing, tls, "pki/private/release.key"
        ]  # fmt: skip
        found = openssl_verify(Path("pki"), "release", now=NOW)
        assert found.returncode == 0, found.stderr
        Path("a.bin").write_bytes(PAYLOAD)
        good("sign", "a.bin")
        good("verify", "a.bin.suit", "--anchor", "pki/ca.crt")
        good("pki", "crl", "--root-pass", "env:PIN", env={"PIN": PIN})
        shown = good("pki", "show")
        assert f"key at {root}".replace(" ", "") in "".join(shown.replace("│", "").split())
        listed = json.loads(good("pki", "show", "--json"))["certificates"]
        entries = {one["name"]: one for one in listed}
        assert entries["issuing"]["private_key"]["uri"] == issuing
        assert entries["issuing"]["private_key"]["protection"] == "elsewhere"
        assert entries["release"]["private_key"]["uri"] is None
        assert good("pki", "key", "ca") == f"{root}\n"
        assert run("pki", "lint").status == 0
        good("pki", "show", "--html", "page.html")
        assert "pkcs11:token=" in Path("page.html").read_text(encoding="utf-8")
        words = f'the key of "issuing" stays where it is, at {issuing}: easy-rsa wants it in a file'
        hint = "go on with this PKI here, where fwsign pki uses the key"
        refused(run("pki", "export", "easyrsa", "out"), 5, words, hint)
        assert not Path("out").exists()

    def test_the_layout_of_easy_rsa(self, in_service: Maker) -> None:
        root = in_service("p256", "ca")
        layout = ("--layout", "easyrsa", "--no-passphrase")
        good("pki", "init", "flat", *ORG, "--root-key", root, *layout)
        good("pki", "issue", "signer", "x", "--no-passphrase", "--pki", "flat")
        good("pki", "revoke", "x", "--reason", "superseded", "--pki", "flat")
        assert openssl_verify(Path("flat"), "release", now=NOW).returncode == 0
        assert Path("flat/private/ca.uri").read_text(encoding="utf-8") == f"{root}\n"

    def test_a_root_in_a_token_and_issuing_cas_in_a_service(
        self, in_token: Maker, in_service: Maker
    ) -> None:
        secret = ("--root-pass", "env:PIN")
        root = ("--root-only", "--root-key", in_token("p384", "ca"))
        good("pki", "init", "root", *ORG, *root, *secret, env={"PIN": PIN})
        names = ("issuing", "issuing-tls")
        keys = [part for one in names for part in ("--key", f"{one}={in_service('p256', one)}")]
        good("pki", "csr", "own", *ORG, *keys)
        assert openssl("req", "-in", "own/reqs/issuing.csr", "-verify", "-noout").returncode == 0
        for request, more in (
            ("issuing", ("--permit", "acme.example")),
            ("issuing-tls", ("--tls",)),
        ):
            where = (f"own/reqs/{request}.csr", "--pki", "root")
            good("pki", "sign-ca", *where, *more, *secret, env={"PIN": PIN})
        files = ("ca.crt", "issued/issuing.crt", "issued/issuing-tls.crt", "crl/ca.pem")
        good("pki", "accept", "own", *(f"root/{one}" for one in files))
        good("pki", "issue", "signer", "release", "--pki", "own", "--no-passphrase")
        assert openssl_verify(Path("own"), "release", now=NOW).returncode == 0
        assert no_private_key_in(Path("root"))

    def test_a_standby_in_a_token(self, in_token: Maker, in_service: Maker) -> None:
        good("init", *ORG, "--product", "x1", "--no-passphrase")
        standby = ("pki", "standby", "--key", in_token("p256", "standby"), "--pass", "env:PIN")
        good(*standby, env={"PIN": PIN})
        key = ("--key", f"issuing={in_service('p256', 'next')}", "--no-passphrase")
        good("pki", "rotate", *key, "--standby-pass", "env:PIN", env={"PIN": PIN})
        good("pki", "renew", "release")
        for root in ("ca", "standby"):
            assert openssl_verify(Path("pki"), "release", root=root, now=NOW).returncode == 0


class TestPasses:
    def test_a_pin_is_asked_for_once(
        self, in_token: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def answer(text: str, **_: object) -> str:
            asked.append(text)
            return PIN

        monkeypatch.setattr("typer.prompt", answer)
        monkeypatch.setattr("fwsign.cli.ui.is_terminal", lambda _: True)
        names = ("issuing", "issuing-tls", "release")
        keys = [part for one in names for part in ("--key", f"{one}={in_token('p256', one)}")]
        good("pki", "init", "pki", *ORG, "--root-key", in_token("p256", "ca"), *keys)
        assert len(asked) <= 1
        asked.clear()
        good("pki", "crl", "--pki", "pki")
        assert len(asked) <= 1

    def test_a_wrong_pin_leaves_nothing(self, softhsm: SoftHsm) -> None:
        key = softhsm.make("p256", "wrong pin", token="another token")
        command = ("pki", "init", "pki", *ORG, "--root-key", key, "--no-passphrase")
        found = run(*command, "--root-pass", "env:PIN", env={"PIN": "not it"})
        assert found.status == 5
        assert found.errors[0].startswith("error: wrong PIN for ")
        assert "not it" not in found.err
        assert not Path("pki").exists()

    def test_a_key_that_is_not_there(self, softhsm: SoftHsm) -> None:
        keys = ("--root-key", softhsm.uri("no such key"), "--no-passphrase")
        found = run("pki", "init", "pki", *ORG, *keys, "--root-pass", "env:PIN", env={"PIN": PIN})
        assert found.status == 5
        assert found.errors[0].startswith(f"error: no key fits {softhsm.uri('no such key')}")
        assert not Path("pki").exists()


class TestMoving:
    @pytest.fixture(autouse=True)
    def _project(self) -> None:
        good("init", *ORG, "--product", "x1", "--no-passphrase")

    def test_a_ca_goes_into_a_token(self, softhsm: SoftHsm) -> None:
        from fwsign.keys.file import load_private_key

        path = Path("pki/private/issuing.key")
        label = f"moved {Path.cwd().name}"
        uri = softhsm.put(load_private_key(path, lambda: None), label)
        found = run("pki", "key", "issuing", uri, "--pass", "env:PIN", env={"PIN": PIN})
        assert (found.status, found.out) == (0, f"{uri}\n")
        words = "is no longer used: keep it offline as a copy, or destroy it"
        assert found.err == f"fwsign: {path} {words}\n"
        path.unlink()
        issue = ("pki", "issue", "signer", "x", "--no-passphrase", "--ca-pass", "env:PIN")
        good(*issue, env={"PIN": PIN})
        assert openssl_verify(Path("pki"), "x", now=NOW).returncode == 0

    def test_and_back(self) -> None:
        shutil.copy("pki/private/issuing.key", "copy.key")
        assert (
            good("pki", "key", "issuing", "copy.key") == f"{Path('copy.key').absolute().as_uri()}\n"
        )
        assert Path("pki/private/issuing.uri").exists()
        assert (
            good("pki", "key", "issuing", "pki/private/issuing.key") == "pki/private/issuing.key\n"
        )
        assert not Path("pki/private/issuing.uri").exists()

    def test_another_key_is_refused(self) -> None:
        before = contents(Path("pki"))
        words = 'pki/private/ca.key is not the key of the CA "Acme Issuing CA"'
        refused(run("pki", "key", "issuing", "pki/private/ca.key"), 5, words)
        words = 'pki/private/ca.key is not the key of "release"'
        refused(run("pki", "key", "release", "pki/private/ca.key"), 5, words)
        assert contents(Path("pki")) == before

    def test_a_key_that_is_elsewhere(self) -> None:
        Path("pki/private/ca.key").unlink()
        words = 'the key of "ca" is not here: pki/private/ca.key is missing'
        refused(run("pki", "key", "ca"), 5, words, "if it lives elsewhere: fwsign pki key ca URI")

    @pytest.mark.parametrize(("text", "found"), [
        ("", "none"),
        ("issuing.key", "none"),
        ("pkcs11:object=a\npkcs11:object=b", "none"),
        ("pkcs11:object=a?pin-value=1793", "a URI with a PIN, password or token"),
        ("openbao://me:secret@host/key", "a URI with a PIN, password or token"),
    ])  # fmt: skip
    def test_a_file_without_a_uri_is_refused(self, text: str, found: str) -> None:
        Path("pki/private/issuing.uri").write_text(text, encoding="utf-8")
        result = run("pki", "issue", "client", "x", "--no-passphrase", "--pki", "pki")
        assert result.status == 0  # that CA is not needed
        result = run("pki", "issue", "signer", "y", "--no-passphrase")
        assert result.status == 5
        assert result.errors[0].startswith(
            "error: pki/private/issuing.uri does not say where a key lives: expected "
        )
        assert result.errors[0].endswith(f", found {found}")
        assert "secret" not in result.err.replace("without a secret", "")
        assert "1793" not in result.err
        shown = good("pki", "show")
        assert "1793" not in shown
        assert "issuing.uri" in shown

    def test_an_unknown_place_is_refused(self) -> None:
        Path("pki/private/issuing.uri").write_text("hsm:one\n", encoding="utf-8")
        found = run("pki", "issue", "signer", "y", "--no-passphrase")
        assert found.status == 5
        assert found.errors[0].startswith('error: no key backend for "hsm:"')


class TestRefusals:
    @pytest.mark.parametrize(("options", "words", "hint"), [
        (("--key", "pkcs11:object=x"), '--key "pkcs11:object=x" does not say whose key it is',
         "--key issuing=URI or --key issuing-tls=URI or --key release=URI"),
        (("--key", "isuing=x"), '--key names "isuing", which is not made',
         "did you mean issuing?"),
        (("--key", "release=a", "--key", "release=b"), 'two keys are given for "release"',
         "fwsign pki init --help shows how"),
        (("--root-only", "--key", "issuing=a"), '--key names "issuing", which is not made',
         "choose from ca"),
    ])  # fmt: skip
    def test_options_without_meaning(self, options: tuple[str, ...], words: str, hint: str) -> None:
        found = run("pki", "init", "pki", *ORG, *options)
        assert (found.status, found.errors) == (2, [f"error: {words}", f"hint: {hint}"])
        assert not Path("pki").exists()

    def test_an_algorithm_that_the_keys_contradict(self) -> None:
        keys = ("--root-key", in_file("p384", "ca"), "--root-only", "--alg", "p256")
        words = "the key outside/ca.key is P-384, not P-256"
        hint = "leave --alg out: a key that exists has its kind"
        refused(run("pki", "init", "pki", *ORG, *keys), 5, words, hint)
        good("pki", "init", "pki", *ORG, *keys[:-1], "p384")

    def test_one_key_for_two(self) -> None:
        key = in_file("p256", "both")
        found = run("pki", "init", "pki", *ORG, "--no-passphrase", "--root-key", key,
                    "--key", f"issuing={key}")  # fmt: skip
        refused(found, 5, f'"ca" and "issuing" would have the same key, {key}')

    def test_a_weak_key_is_no_ca(self) -> None:
        from support import rsa_key

        Path("weak.key").touch()
        write_private_key(Path("weak.key"), rsa_key(2048), None, overwrite=True)
        found = run("pki", "init", "pki", *ORG, "--root-only", "--root-key", "weak.key")
        assert found.status == 5
        assert found.errors[0].startswith('error: the key of "ca" is RSA-2048, expected ')

    def test_a_new_key_does_not_go_into_a_file_unasked(self, in_service: Maker) -> None:
        keys = [part for one in ("issuing", "issuing-tls", "release")
                for part in ("--key", f"{one}={in_service('p256', one)}")]  # fmt: skip
        root = in_service("p256", "ca")
        good("init", *ORG, "--product", "x1", "--root-key", root, *keys)
        before = contents(Path("pki"))
        hint = "make the new key there, and name it with --key"
        more = "no new one is made in a file instead"
        for name in ("release", "issuing"):
            uri = Pki("pki").key_uri(name)
            found = run("pki", "renew", name, "--new-key", "--no-passphrase")
            refused(found, 5, f'the key of "{name}" lives elsewhere, at {uri}: {more}', hint)
        found = run("pki", "rotate", "--no-passphrase")
        refused(found, 5, f'the key of "ca" lives elsewhere, at {root}: {more}', hint)
        assert contents(Path("pki")) == before
        good("pki", "renew", "release", "--key", in_file("p256", "in-a-file"))

    def test_a_key_in_use_is_not_that_of_a_new_ca(self, in_service: Maker) -> None:
        good("init", *ORG, "--product", "x1", "--no-passphrase")
        key = in_service("p256", "used")
        good("pki", "issue", "signer", "used", "--key", key)
        words = f'the key {key} is that of "used": a new CA has a key of its own'
        refused(run("pki", "renew", "issuing", "--key", key), 5, words)
        refused(run("pki", "standby", "--key", key), 5, words)


class TestImport:
    """The CA of easy-rsa has no key in a file there: it was moved into a token."""

    def test_its_key_is_in_a_token(self, softhsm: SoftHsm, in_service: Maker) -> None:
        easyrsa(Path.cwd()).joinpath("pki/private/ca.key").unlink()
        root = softhsm.put(ROOT.key, f"easy-rsa {Path.cwd().name}")
        keys = ("--root-key", root, "--key", f"issuing={in_service('p256', 'below')}")
        given = ("--vendor", "acme.example", "--ca-pass", "env:PIN", "--no-passphrase")
        found = run("pki", "import", ".", *given, *keys, env={"PIN": PIN})
        assert found.status == 0, found
        assert "fwsign-pki/private/issuing-tls.key has no passphrase" in found.err
        pki = Pki("fwsign-pki")
        assert pki.key_uri("ca") == root
        assert pki.key_uri("issuing").startswith("openbao:")
        where = ("--pki", "fwsign-pki")
        good("pki", "issue", "signer", "new", *where, "--no-passphrase")
        good("pki", "crl", *where, "--ca-pass", "env:PIN", env={"PIN": PIN})
        assert pki.issuers("new") == ("issuing", "ca")

    def test_another_key_is_refused(self, in_service: Maker) -> None:
        easyrsa(Path.cwd())
        root = in_service("p256", "other")
        given = ("--vendor", "acme.example", "--no-passphrase", "--root-key", root)
        found = run("pki", "import", ".", *given)
        assert found.status == 5
        assert found.errors[0].endswith(' is not the key of the CA "Acme Root"')
        assert not Path("fwsign-pki").exists()
