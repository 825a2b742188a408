"""Certificates for real peers: single labels, upper case, RSA-2048, ML-DSA, one passphrase."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from cli.kit import good, refused, run, tree
from fwsign.cli import ui
from fwsign.format.cose import key_name
from fwsign.keys.file import encode_private_key, load_private_key
from fwsign.pki.directory import Pki
from pki_kit import before_tls, hosts_of, openssl_verify, usage
from support import NOW, new_key, signing_hash

PLAIN = "--no-passphrase"
WEAK = "warning: RSA-2048 is weaker than all other keys here: for TLS with old peers only"
EXPECTED = "P-256, P-384, Ed25519, RSA, ML-DSA-65, ML-DSA-87; RSA of 3072 to 8192 bits, e >= 65537"


def issued(name: str) -> x509.Certificate:
    return Pki("pki").certificate(name)


def kind(name: str) -> str:
    return key_name(issued(name).public_key())


def request(path: str, alg: str = "rsa2048") -> None:
    key = new_key(alg)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    Path(path).write_bytes(builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM))


@pytest.mark.usefixtures("project")
class TestNames:
    def test_a_client_keeps_its_upper_case(self) -> None:
        assert good("pki", "issue", "client", "TESTING", PLAIN) == "pki/issued/TESTING.crt\n"
        assert issued("TESTING").subject.rfc4514_string() == "CN=TESTING,O=Acme"
        good("pki", "renew", "TESTING")
        good("pki", "export", "chain", "TESTING", "chain.pem")
        good("pki", "revoke", "TESTING", "--reason", "superseded")

    def test_a_signer_has_none(self) -> None:
        found = run("pki", "issue", "signer", "Release", PLAIN)
        words = '"Release" cannot name a signer: it is not 1 to 64 of a-z, 0-9'
        assert (found.status, words in found.err) == (2, True)

    @pytest.mark.parametrize("name", ["CA", "Issuing", "standby-2", "CON"])
    def test_a_name_of_a_ca_is_reserved_in_any_case(self, name: str) -> None:
        found = run("pki", "issue", "client", PLAIN, name)
        assert found.status == 2
        assert f'"{name}"' in found.errors[0]

    def test_names_that_differ_in_case_alone_are_one(self, project: Path) -> None:
        good("pki", "issue", "client", "testing", PLAIN)
        before = tree(project)
        refused(
            run("pki", "issue", "client", "TESTING", PLAIN),
            5,
            'there is a certificate "testing" in pki already',
            "choose another name; to issue this one anew: fwsign pki renew testing",
        )
        assert tree(project) == before

    def test_a_revoked_one_is_renewed_with_a_new_key(self) -> None:
        good("pki", "revoke", "release", "--reason", "superseded")
        hint = "choose another name; to issue this one anew: fwsign pki renew release --new-key"
        words = 'there is a certificate "release" in pki already'
        refused(run("pki", "issue", "signer", "release", PLAIN), 5, words, hint)

    def test_a_single_label_is_refused_if_the_ca_does_not_permit_it(self, project: Path) -> None:
        before_tls(project / "pki")
        before = tree(project)
        refused(
            run("pki", "issue", "server", "x", "--host", "localhost", PLAIN),
            5,
            'host "localhost" is outside what the CA "Acme Issuing CA" is limited to: acme.example',
            "widen it, with the root's key: fwsign pki renew issuing --permit localhost",
        )
        refused(
            run("pki", "issue", "server", "factorycube-server-vernemq", PLAIN),
            5,
            'server "factorycube-server-vernemq" has no host name and no address: clients look '
            "for one",
            'give it --host NAME or --ip ADDR; to let clients call it "factorycube-server-vernemq":'
            " fwsign pki renew issuing --permit factorycube-server-vernemq",
        )
        assert tree(project) == before

    @pytest.mark.external
    @pytest.mark.parametrize("one_ca", [True, False])
    def test_a_permitted_one_is_accepted_by_openssl(self, project: Path, *, one_ca: bool) -> None:
        names = ("localhost", "factorycube-server-vernemq")
        if one_ca:
            before_tls(project / "pki")
            good("pki", "renew", "issuing", *(part for one in names for part in ("--permit", one)))
        good("pki", "issue", "server", names[1], PLAIN)
        good("pki", "issue", "server", "bench", "--host", "localhost", PLAIN)
        assert hosts_of(issued(names[1])) == [names[1]]
        assert hosts_of(issued("bench")) == ["localhost"]
        for name, host in ((names[1], names[1]), ("bench", "localhost")):
            asked = ("-purpose", "sslserver", "-verify_hostname", host)
            found = openssl_verify(Path("pki"), name, *asked, now=NOW)
            assert found.returncode == 0, found.stderr
            good("pki", "verify", f"pki/issued/{name}.crt", "--purpose", "server", "--host", host)
        good("pki", "issue", "signer", "ci", PLAIN)
        assert hosts_of(issued("ci")) == ["acme.example"]

    def test_a_name_beside_other_hosts_stays_a_name(self) -> None:
        good("pki", "issue", "server", "Broker", "--host", "b.acme.example", PLAIN)
        assert hosts_of(issued("Broker")) == ["b.acme.example"]

    def test_a_new_pki_permits_labels(self) -> None:
        where = ("--pki", "other")
        names = ("--org", "A", "--vendor", "acme.example", "--permit", "localhost")
        good("pki", "init", "other", *names, "--layout", "easyrsa", PLAIN)
        good("pki", "issue", "server", "localhost", *where, PLAIN)
        assert hosts_of(Pki("other").certificate("localhost")) == ["localhost"]
        refused(
            run("pki", "issue", "server", "x", "--host", "y", *where, PLAIN),
            5,
            'host "y" is outside what the CA "A Root CA" is limited to: acme.example, localhost',
            "a CA's domains are set when it is made: fwsign pki init --permit DOMAIN",
        )

    def test_permit_is_for_an_issuing_ca_that_keeps_its_key(self) -> None:
        for more in (("release",), ("issuing", "--new-key", PLAIN)):
            found = run("pki", "renew", *more, "--permit", "localhost")
            words = "--permit is for an issuing CA that keeps its key"
            refused(found, 2, words, "fwsign pki renew --help shows how")


@pytest.mark.usefixtures("project")
class TestRsa2048:
    @pytest.mark.parametrize(
        ("kind_", "more"), [("client", ()), ("server", ("--host", "b.acme.example"))]
    )
    def test_a_request_needs_compat(self, kind_: str, more: tuple[str, ...]) -> None:
        request("x.csr")
        command = ("pki", "issue", kind_, "java", "--csr", "x.csr", *more)
        words = f"the key of x.csr is RSA-2048, expected {EXPECTED}"
        refused(run(*command), 5, words, "--compat certifies it, for a peer that makes no other")
        found = run(*command, "--compat")
        assert (found.status, f"fwsign: {WEAK}" in found.err.splitlines()) == (0, True)
        assert kind("java") == "RSA-2048"
        purpose = ("--purpose", kind_)
        good("pki", "verify", "pki/issued/java.crt", *purpose)

    def test_a_new_key_of_it_is_typed(self) -> None:
        found = run("pki", "issue", "client", "old", "--alg", "rsa2048", PLAIN)
        assert (found.status, f"fwsign: {WEAK}" in found.err.splitlines()) == (0, True)
        assert usage(issued("old")) == {"digital_signature"}
        renewed = run("pki", "renew", "old")
        words = f'the key of "old" is RSA-2048, expected {EXPECTED}'
        hint = "--compat certifies it, for a peer that makes no other; --new-key makes another one"
        refused(renewed, 5, words, f"{hint}, of the kind that --alg names")
        good("pki", "renew", "old", "--compat")
        assert kind("old") == "RSA-2048"
        good("pki", "renew", "old", "--new-key", PLAIN)
        assert kind("old") == "RSA-3072"
        good("pki", "renew", "old", "--new-key", "--alg", "p256", PLAIN)
        assert kind("old") == "P-256"

    def test_an_existing_key_needs_compat_too(self) -> None:
        key = new_key("rsa2048")
        form = PrivateFormat.PKCS8
        pem = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        Path("x.key").write_bytes(pem)
        command = ("pki", "issue", "client", "x", "--from-key", "x.key", "--pass", "env:P")
        assert run(*command, env={"P": "secret"}).status == 5
        good(*command, "--compat", env={"P": "secret"})
        assert kind("x") == "RSA-2048"

    @pytest.mark.parametrize("kind_", ["signer", "tsa"])
    def test_never_for_what_has_to_last(self, kind_: str, project: Path) -> None:
        request("x.csr")
        before = tree(project)
        command = ("pki", "issue", kind_, "x")
        words = f"the key of x.csr is RSA-2048, expected {EXPECTED}"
        refused(run(*command, "--csr", "x.csr"), 5, words)
        assert run(*command, "--csr", "x.csr", "--compat").status == 2
        assert run(*command, "--alg", "rsa2048", PLAIN).status == 2
        found = run("pki", "renew", "release", "--new-key", "--alg", "rsa2048", PLAIN)
        assert found.status == 5
        assert 'no key algorithm "rsa2048"' in found.errors[0]
        assert tree(project) == before

    @pytest.mark.parametrize("bits", [1024, 2047])
    def test_nor_a_smaller_one(self, bits: int) -> None:
        key = rsa.generate_private_key(65537, bits)
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        pem = builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM)
        Path("x.csr").write_bytes(pem)
        found = run("pki", "issue", "client", "x", "--csr", "x.csr", "--compat")
        words = f"the key of x.csr is RSA-{bits}, expected {EXPECTED.replace('3072', '2048')}"
        refused(found, 5, words)

    def test_compat_is_for_a_key_that_exists(self) -> None:
        words = "--compat is for a key that exists: --csr or --key"
        hint = "a new key of that kind: --alg rsa2048"
        refused(run("pki", "issue", "client", "x", "--compat", PLAIN), 2, words, hint)


@pytest.mark.usefixtures("project")
class TestHost:
    VERIFY = ("pki", "verify", "pki/issued/b.crt", "--purpose", "server", "--host")

    @pytest.fixture(autouse=True)
    def _broker(self, project: Path) -> None:
        del project
        more = ("--host", "b.acme.example", "--host", "c.acme.example", "--ip", "192.0.2.7")
        good("pki", "issue", "server", "b", *more, PLAIN)

    @pytest.mark.parametrize(
        "name", ["b.acme.example", "c.acme.example", "C.Acme.Example.", "192.0.2.7"]
    )
    def test_each_of_its_names(self, name: str) -> None:
        assert good(*self.VERIFY, name).startswith("verified")

    @pytest.mark.parametrize("name", ["d.acme.example", "acme.example", "localhost", "b_x.example"])
    def test_a_different_domain(self, name: str) -> None:
        refused(
            run(*self.VERIFY, name),
            1,
            '"b" is for "b.acme.example", "c.acme.example", "192.0.2.7", not for '
            f'"{name}": a different domain',
            f"issue one for it: fwsign pki issue server NAME --host {name}",
        )

    def test_a_different_address(self) -> None:
        found = run(*self.VERIFY, "192.0.2.8")
        hint = "hint: issue one for it: fwsign pki issue server NAME --ip 192.0.2.8"
        assert (found.status, found.errors[1]) == (1, hint)
        assert found.errors[0].endswith('not for "192.0.2.8": a different address')

    def test_it_is_for_servers(self) -> None:
        command = ("pki", "verify", "pki/issued/b.crt", "--host", "b.acme.example")
        words = "--host is for --purpose server"
        refused(run(*command), 2, words, "add --purpose server")
        hint = "fwsign pki verify --help shows how"
        refused(run(*command, "--purpose", "client"), 2, words, hint)


@pytest.mark.parametrize("alg", ["ml-dsa-65", "ml-dsa-87"])
def test_a_pki_of_ml_dsa_stays_one(alg: str, tmp_path: Path) -> None:
    del tmp_path
    good("pki", "init", "pki", "--org", "A", "--vendor", "acme.example", "--alg", alg, PLAIN)
    where = ("--pki", "pki")
    wanted = alg.upper()
    good("pki", "issue", "client", "c", *where, PLAIN)
    good("pki", "issue", "signer", "s", *where, PLAIN)
    assert (kind("c"), kind("s")) == (wanted, wanted)
    assert good("pki", "lint", "pki").count("ml-dsa") == 0
    good("pki", "issue", "client", "weak", "--alg", "p256", *where, PLAIN)
    found = run("pki", "lint", "pki")
    assert found.status == 3
    assert f'the key is P-256, its issuer "A TLS CA" has {wanted}' in found.out
    good("pki", "renew", "weak", "--new-key", *where, PLAIN)
    good("pki", "standby", *where, PLAIN)
    good("pki", "renew", "issuing", "--new-key", *where, PLAIN)
    assert [kind(one) for one in ("weak", "standby", "issuing-2")] == [wanted] * 3
    good("pki", "rotate", *where, PLAIN)
    assert kind("issuing-3") == wanted


def test_others_have_p256_as_before(tmp_path: Path) -> None:
    del tmp_path
    good("pki", "init", "pki", "--org", "A", "--vendor", "acme.example", "--alg", "p384", PLAIN)
    good("pki", "issue", "client", "c", "--pki", "pki", PLAIN)
    assert kind("c") == "P-256"


class TestOnePassphrase:
    """At a terminal."""

    @pytest.fixture(autouse=True)
    def _terminal(self, project: Path, cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
        del cheap
        self.asked: list[str] = []
        for name in ("ca", "issuing", "issuing-tls"):
            path = project / f"pki/private/{name}.key"
            key = load_private_key(path, lambda: None)
            path.write_bytes(encode_private_key(key, b"dice"))

        def prompt(text: str, **_: object) -> str:
            self.asked.append(text)
            return "dice"

        monkeypatch.setattr(ui, "is_terminal", lambda _: True)
        monkeypatch.setattr("typer.prompt", prompt)

    def test_the_cas_protects_the_new_key(self) -> None:
        found = run("pki", "issue", "signer", "ci")
        assert self.asked == ['Passphrase of the key of CA "issuing"']
        words = 'the key "ci": protected by the passphrase just typed; --pass gives one'
        assert words in found.err
        load_private_key("pki/private/ci.key", lambda: b"dice")

    def test_pass_gives_another(self) -> None:
        good("pki", "issue", "signer", "ci", "--pass", "env:P", env={"P": "other"})
        assert self.asked == ['Passphrase of the key of CA "issuing"']
        load_private_key("pki/private/ci.key", lambda: b"other")

    @pytest.mark.parametrize(
        "command",
        [
            ("crl",),
            ("renew", "release", "--new-key"),
            ("renew", "issuing", "--new-key"),
            ("rotate",),
            ("standby",),
            ("revoke", "release", "--reason", "superseded"),
            ("issue", "client", "x", "--no-passphrase"),
        ],
        ids=lambda command: " ".join(command[:2]),
    )
    def test_it_is_asked_for_once(self, command: tuple[str, ...]) -> None:
        good("pki", *command)
        assert len(self.asked) == 1

    def test_another_one_is_asked_for(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = project / "pki/private/ca.key"
        key = load_private_key(path, lambda: b"dice")
        path.write_bytes(encode_private_key(key, b"the root's"))
        answers = iter(["the root's", "dice"])
        monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
        good("pki", "crl")
        assert list(answers) == []

    @pytest.mark.parametrize(
        "command",
        [
            ("pki", "issue", "signer", "release"),
            ("pki", "issue", "signer", "x", "--vendor", "other.example"),
            ("pki", "issue", "server", "release"),
            ("pki", "issue", "client", "release", "--from-key", "pki/private/issuing.key"),
            ("pki", "renew", "nobody", "--new-key"),
            ("pki", "renew", "ca", "--new-key"),
            ("pki", "revoke", "nobody", "--reason", "superseded"),
            ("pki", "init", "pki", "--org", "A", "--vendor", "acme.example"),
            ("pki", "csr", "pki", "--org", "A", "--vendor", "acme.example"),
            ("init", ".", "--org", "A", "--vendor", "acme.example", "--product", "x"),
        ],
        ids=" ".join,
    )
    def test_names_are_judged_first(self, command: tuple[str, ...], project: Path) -> None:
        (project / "fwsign.toml").rename(project / "other.toml")
        more = ("--pki", "pki") if command[1] in {"issue", "renew", "revoke"} else ()
        assert run(*command, *more).status == 5
        assert self.asked == []
