"""What easy-rsa made, taken over and renewed: its names stay, its keys stay or change."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from cli.kit import good, refused, run, tree
from easyrsa_kit import key_pem, line, write
from fwsign.format.cose import key_name
from fwsign.keys import published as known_keys
from fwsign.keys.formats import read_private_key
from fwsign.pki.directory import Pki
from fwsign.x509.certificate import key_digest
from pki_kit import hosts_of
from support import Entity, ca_extensions, certify, key_usage, make_crl, name, new_key, signing_hash

PLAIN = "--no-passphrase"
WEAK = "warning: RSA-2048 is weaker than all other keys here: for TLS with old peers only"
EXPECTED = "P-256, P-384, Ed25519, RSA, ML-DSA-65, ML-DSA-87; RSA of 3072 to 8192 bits, e >= 65537"
VERNEMQ = "factorycube-server-vernemq"
NEW_KEY = "--new-key makes another one, of the kind that --alg names"
ROOT = certify(new_key("rsa2048"), name("Easy-RSA CA", None), None, ca_extensions(critical=False),
               days=(-10, 3650))  # fmt: skip


def leaf(
    common: str,
    usages: list[x509.ObjectIdentifier],
    *hosts: str,
    alg: str = "rsa2048",
    subject: x509.Name | None = None,
    others: Sequence[x509.GeneralName] = (),
) -> Entity:
    more: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), False),
        (x509.ExtendedKeyUsage(usages), False),
        (key_usage("digital_signature"), False),
    ]
    if hosts:
        names = [*map(x509.DNSName, hosts), *others]
        more.append((x509.SubjectAlternativeName(names), False))
    return certify(new_key(alg), subject or name(common, None), ROOT, more)


CLIENT = leaf("TESTING", [Usage.CLIENT_AUTH])
SERVER = leaf(VERNEMQ, [Usage.SERVER_AUTH], VERNEMQ, alg="p384")
BOTH = leaf("both", [Usage.SERVER_AUTH, Usage.CLIENT_AUTH], "Both.acme.example", alg="p256")
SIGNER = leaf("signer", [Usage.CODE_SIGNING], "acme.example")
WHOLE = leaf("whole", [Usage.CLIENT_AUTH], alg="ed25519", subject=x509.Name([
    x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
    x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Another"),
    x509.NameAttribute(x509.NameOID.COMMON_NAME, "Sensor 1.0"),
]))  # fmt: skip
BARE = leaf("bare", [Usage.SERVER_AUTH], alg="p256")
NAMELESS = leaf("No Host", [Usage.SERVER_AUTH], alg="p256")
SPIFFE = leaf("spiffe", [Usage.SERVER_AUTH], "s.acme.example", alg="p256", others=[
    x509.UniformResourceIdentifier("spiffe://a/b"), x509.RFC822Name("a@acme.example"),
])  # fmt: skip
ISSUED = {
    "bare": BARE,
    "nameless": NAMELESS,
    "spiffe": SPIFFE,
    "TESTING": CLIENT,
    "factorycube-server-vernemq": SERVER,
    "both": BOTH,
    "signer": SIGNER,
    "whole": WHOLE,
}


def article(**keys: bytes) -> Path:
    """Write the PKI; `keys` are files in its directory `private`, with a _ for each dot."""
    files: dict[str, bytes | None] = {
        "ca.crt": ROOT.certificate.public_bytes(Encoding.PEM),
        "index.txt": "".join(line("V", one) for one in ISSUED.values()).encode(),
        "private/ca.key": key_pem(ROOT),
    }
    for one, entity in ISSUED.items():
        files[f"issued/{one}.crt"] = entity.certificate.public_bytes(Encoding.PEM)
    files |= {f"private/{key.replace('__', '.')}": data for key, data in keys.items()}
    return write(Path("pki"), files)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The PKI, taken over with all keys."""
    monkeypatch.chdir(tmp_path)
    article(**{f"{one}__key": key_pem(entity) for one, entity in ISSUED.items()})
    good("pki", "import", "pki", "--vendor", "acme.example", PLAIN, "--to", "ours")
    return Path("ours")


def certificate(entry: str) -> x509.Certificate:
    return Pki("ours").certificate(entry)


def renew(*arguments: str) -> str:
    return good("pki", "renew", *arguments, "--pki", "ours")


def request(alg: str) -> None:
    key = new_key(alg)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("another"))
    pem = builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM)
    Path("new.csr").write_bytes(pem)


def usages(entry: str) -> list[x509.ObjectIdentifier]:
    return list(certificate(entry).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


# --- renewing -------------------------------------------------------------------------------


@pytest.mark.usefixtures("ours")
class TestRenewing:
    def test_names_of_peers_keep_their_case(self) -> None:
        assert set(Pki("ours").names()) == {*ISSUED, "issuing", "issuing-tls"}

    def test_a_key_of_rsa_2048_stays_with_compat(self) -> None:
        words = f'the key of "TESTING" is RSA-2048, expected {EXPECTED}'
        hint = f"--compat certifies it, for a peer that makes no other; {NEW_KEY}"
        refused(run("pki", "renew", "TESTING", "--pki", "ours"), 5, words, hint)
        found = run("pki", "renew", "TESTING", "--pki", "ours", "--compat")
        assert (found.status, f"fwsign: {WEAK}" in found.err.splitlines()) == (0, True)
        new = certificate("TESTING")
        assert (new.subject, new.public_key()) == (
            CLIENT.certificate.subject,
            CLIENT.key.public_key(),
        )

    @pytest.mark.parametrize(("alg", "made"), [
        ("p256", "P-256"), ("ed25519", "Ed25519"), ("rsa2048", "RSA-2048"),
        ("ml-dsa-65", "ML-DSA-65"),
    ])  # fmt: skip
    def test_another_kind_of_key(self, alg: str, made: str) -> None:
        renew("TESTING", "--new-key", "--alg", alg, PLAIN)
        new = certificate("TESTING")
        assert (key_name(new.public_key()), new.subject) == (made, CLIENT.certificate.subject)
        assert key_of("TESTING").public_key() == new.public_key()
        assert Path("ours/private/TESTING.key.unused-1").read_bytes() == key_pem(CLIENT)

    def test_without_a_kind_rsa_2048_becomes_rsa_3072(self) -> None:
        renew("TESTING", "--new-key", PLAIN)
        assert key_name(certificate("TESTING").public_key()) == "RSA-3072"

    def test_a_signer_gets_a_new_key(self) -> None:
        words = f'the key of "signer" is RSA-2048, expected {EXPECTED}'
        for more in ((), ("--compat",)):
            refused(run("pki", "renew", "signer", "--pki", "ours", *more), 5, words, NEW_KEY)
        renew("signer", "--new-key", "--alg", "p256", PLAIN)
        assert hosts_of(certificate("signer")) == ["acme.example"]

    def test_the_whole_subject_stays(self) -> None:
        renew("whole")
        assert certificate("whole").subject == WHOLE.certificate.subject

    def test_a_server_that_is_a_client_too_stays_both(self) -> None:
        renew("both")
        assert usages("both") == [Usage.SERVER_AUTH, Usage.CLIENT_AUTH]
        assert hosts_of(certificate("both")) == ["both.acme.example"]

    def test_names_of_other_kinds_are_lost_aloud(self) -> None:
        found = run("pki", "renew", "spiffe", "--pki", "ours")
        names = "URI:spiffe://a/b, email:a@acme.example"
        words = (
            f"warning: it no longer has the names {names}: fwsign takes hosts and addresses only"
        )
        assert (found.status, f"fwsign: {words}" in found.err.splitlines()) == (0, True)
        assert hosts_of(certificate("spiffe")) == ["s.acme.example"]
        assert "no longer" not in run("pki", "renew", "both", "--pki", "ours").err

    def test_a_server_without_names(self) -> None:
        renew("bare")
        assert hosts_of(certificate("bare")) == ["bare"]
        found = run("pki", "renew", "nameless", "--pki", "ours")
        words = 'server "No Host" has no host name and no address: clients look for one'
        hint = "issue another one: fwsign pki issue server NAME --host HOST"
        refused(found, 5, words, hint)

    def test_a_single_label(self) -> None:
        renew(VERNEMQ, "--new-key", "--alg", "p256", PLAIN)
        assert hosts_of(certificate(VERNEMQ)) == [VERNEMQ]
        good("pki", "verify", f"ours/issued/{VERNEMQ}.crt", "--pki", "ours", "--purpose", "server",
             "--host", VERNEMQ, "--profile", "compat")  # fmt: skip

    def test_all_at_once(self) -> None:
        found = run("pki", "renew", "--all", "--pki", "ours", "--compat")
        assert found.status == 5
        failed = ["nameless", "signer"]
        said = [one.partition(" was")[0] for one in found.errors if one.startswith("error")]
        assert said == [f'error: "{one}"' for one in failed]
        run("pki", "renew", "--all", "--new-key", "--alg", "p256", PLAIN, "--pki", "ours")
        kinds = {one: key_name(certificate(one).public_key()) for one in ISSUED}
        assert {*kinds.values()} == {"P-256"}, kinds

    def test_a_request_for_a_new_key_elsewhere(self) -> None:
        request("p256")
        renew("TESTING", "--csr", "new.csr")
        new = certificate("TESTING")
        assert (key_name(new.public_key()), new.subject) == ("P-256", CLIENT.certificate.subject)
        assert not Path("ours/private/TESTING.key").exists()
        der = x509.load_pem_x509_csr(Path("new.csr").read_bytes()).public_bytes(Encoding.DER)
        last = json.loads(Path("ours/log.jsonl").read_text().splitlines()[-1])
        assert last["request"] == hashlib.sha256(der).hexdigest()
        assert Path("ours/private/TESTING.key.unused-1").read_bytes() == key_pem(CLIENT)

    def test_a_request_of_rsa_2048(self) -> None:
        request("rsa2048")
        words = f"the key of new.csr is RSA-2048, expected {EXPECTED}"
        hint = "--compat certifies it, for a peer that makes no other"
        refused(run("pki", "renew", "TESTING", "--csr", "new.csr", "--pki", "ours"), 5, words, hint)
        renew("TESTING", "--csr", "new.csr", "--compat")
        assert Path("ours/private/TESTING.key").exists()  # the tests share one key of that kind

    def test_a_key_that_exists(self) -> None:
        key = new_key("p384")
        lock = BestAvailableEncryption(b"secret")
        Path("x.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
        command = ("TESTING", "--from-key", "x.key", "--pass", "env:P", "--pki", "ours")
        good("pki", "renew", *command, env={"P": "secret"})
        assert certificate("TESTING").public_key() == key.public_key()

    @pytest.mark.parametrize(("more", "words", "hint"), [
        (("x", "--csr", "a", "--from-key", "b"), "--csr and --key exclude each other", None),
        (("x", "--csr", "a", "--new-key"), "--new-key and --csr exclude each other", None),
        (("x", "--from-key", "a", "--new-key"), "--new-key and --key exclude each other",
         None),
        (("x", "--csr", "a", "--alg", "p256"), "--csr and --alg exclude each other",
         "--alg is for a new key"),
        (("--all", "--csr", "a"), "--csr is for one signer, tsa, server or client", None),
        (("issuing", "--csr", "a"), "--csr is for one signer, tsa, server or client",
         "a CA's request: fwsign pki sign-ca"),
        (("--all", "--key", "a"), "--key is for one signer, tsa, server or client", None),
        (("issuing", "--key", "a", "--compat"), "--compat and --new-key exclude each other",
         "a new key: --alg rsa2048"),
        (("x", "--new-key", "--compat"), "--compat and --new-key exclude each other",
         "a new key: --alg rsa2048"),
    ])  # fmt: skip
    def test_options_without_meaning(
        self, more: tuple[str, ...], words: str, hint: str | None
    ) -> None:
        hint = hint or "fwsign pki renew --help shows how"
        refused(run("pki", "renew", *more, "--pki", "ours"), 2, words, hint)


def key_of(entry: str) -> Any:
    path = Pki("ours").key_path(entry)
    return read_private_key(path.read_bytes(), lambda: None, path)


# --- an imported CA -------------------------------------------------------------------------


def below(alg: str) -> tuple[Entity, Entity]:
    """Write a CA below a root as easy-rsa lays it out."""
    root = certify(new_key(), name("Top", None), None, ca_extensions(), days=(-10, 3650))
    ca = certify(new_key(alg), name("Sub", None), root, ca_extensions(path_length=0))
    crl = x509.load_der_x509_crl(make_crl(root)).public_bytes(Encoding.PEM)
    write(Path("pki"), {
        "ca.crt": ca.certificate.public_bytes(Encoding.PEM),
        "index.txt": b"",
        "private/ca.key": key_pem(ca),
        "top.crt": root.certificate.public_bytes(Encoding.PEM) + crl,
        "issued/none.txt": b"",
    })  # fmt: skip
    return root, ca


def test_an_imported_ca_of_rsa_2048(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root, _ = below("rsa2048")
    good("pki", "import", "pki", "--to", "ours")
    later = x509.load_der_x509_crl(make_crl(root, number=2)).public_bytes(Encoding.PEM)
    Path("later.pem").write_bytes(later)
    good("pki", "accept", "ours", "later.pem")
    assert Path("ours/crl/ca.pem").read_bytes() == later
    Path("ours/private/ca.key").write_bytes(key_pem(root))  # brought here for a moment
    words = f'the key of "issuing" is RSA-2048, expected {EXPECTED}'
    hint = f"--compat certifies it, for a peer that makes no other; {NEW_KEY}"
    refused(run("pki", "renew", "issuing", "--pki", "ours"), 5, words, hint)
    found = run("pki", "renew", "issuing", "--pki", "ours", "--compat")
    weak = "fwsign: warning: RSA-2048 is weaker than all other keys here: a new CA: --new-key"
    assert (found.status, weak in found.err.splitlines()) == (0, True)
    good("pki", "renew", "issuing", "--pki", "ours", "--new-key", "--alg", "p384", PLAIN)
    assert key_name(certificate("issuing-2").public_key()) == "P-384"


def test_its_root_signs_its_request_with_compat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    below("rsa2048")
    good("pki", "import", "pki", "--to", "ours")
    good("pki", "init", "top", "--org", "Acme", "--vendor", "acme.example", PLAIN)
    [request_file] = Path("ours").rglob("*.csr")
    command = ("pki", "sign-ca", request_file, "--permit", "acme.example", "--pki", "top")
    words = f"the key of {request_file} is RSA-2048, expected {EXPECTED}"
    hint = "--compat certifies it, for a peer that makes no other"
    refused(run(*command), 5, words, hint)
    good(*command, "--compat")


# --- published keys -------------------------------------------------------------------------


def test_published_keys_are_certified_nowhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request("p256")
    csr = x509.load_pem_x509_csr(Path("new.csr").read_bytes())
    key = new_key()
    Path("x.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    good("pki", "issue", "client", "mine", PLAIN)
    pki = Pki("pki")
    issuing, mine = pki.certificate("issuing").public_key(), pki.certificate("mine").public_key()
    published = {
        key_digest(csr.public_key()): "somebody's",
        key_digest(key.public_key()): "somebody's",
        key_digest(mine): "somebody's",
    }
    monkeypatch.setattr(known_keys, "PUBLISHED", published)
    before = tree(project)
    tail = "somebody's key, whose private half is published"
    make = "make another key: fwsign key new"
    for command, who, hint in (
        (("issue", "client", "x", "--csr", "new.csr"), "new.csr", make),
        (("issue", "client", "x", "--from-key", "x.key"), '"x"', make),
        (("renew", "release", "--csr", "new.csr"), "new.csr", make),
        (("renew", "release", "--from-key", "x.key"), '"release"', make),
        (("renew", "mine"), '"mine"', NEW_KEY),
        (("sign-ca", "new.csr", "--permit", "acme.example"), "new.csr", make),
    ):
        refused(run("pki", *command), 1, f"{who} has {tail}", hint)
    monkeypatch.setattr(known_keys, "PUBLISHED", {key_digest(issuing): "somebody's"})
    words = f'the CA "Acme Issuing CA" has {tail}'
    for more in (("issue", "signer", "x", PLAIN), ("renew", "release"), ("renew", "--all")):
        refused(run("pki", *more), 1, words, "make your own PKI: fwsign init")
    refused(run("pki", "renew", "issuing"), 1, f'"issuing" has {tail}', NEW_KEY)
    assert tree(project) == before
    monkeypatch.setattr(known_keys, "PUBLISHED", {key_digest(pki.root.public_key()): "somebody's"})
    refused(run("pki", "renew", "issuing"), 1, f'the root "Acme Root CA" has {tail}',
            "make your own PKI: fwsign init")  # fmt: skip
    assert tree(project) == before


ARTICLE = {
    "a1b33e9d0af23ee1f8a0e2f8ef5737957e46045b953f58a2568d90bbfc661c62": "CA",
    "e5f110685aadb7703489a8541f41effb2d7f49bf1a6e2525804b143485f5a569": "client",
    "f33cc7e32a119d399f1f1e834653e97e3f1bc9a082f70234308e02f317103c03": "broker",
}


@pytest.mark.parametrize("spki", ARTICLE)
def test_the_keys_of_the_article_are_known(spki: str) -> None:
    assert known_keys.is_published(spki) == f"United Manufacturing Hub's {ARTICLE[spki]} key"


# --- keys by content ------------------------------------------------------------------------


def pem(entity: Entity, form: PrivateFormat, secret: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(secret) if secret else NoEncryption()
    written: bytes = entity.key.private_bytes(Encoding.PEM, form, lock)
    return written


def take(*more: str, env: dict[str, str] | None = None) -> list[str]:
    found = run("pki", "import", "pki", "--vendor", "acme.example", PLAIN, "--to", "ours", *more,
                env=env)  # fmt: skip
    assert found.status == 0, found
    return [line.removeprefix("fwsign: ") for line in found.err.splitlines()]


@pytest.mark.usefixtures("tmp_path")
class TestKeys:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_any_name_and_form(self) -> None:
        der = SERVER.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        files = {
            "TESTING_pkc8__key": pem(CLIENT, PrivateFormat.PKCS8),
            "x__der": der,
            "old__pem": BOTH.certificate.public_bytes(Encoding.PEM)
            + pem(BOTH, PrivateFormat.TraditionalOpenSSL),
            "id_rsa": pem(WHOLE, PrivateFormat.OpenSSH),
        }
        article(**files)
        said = take()
        assert '"TESTING" from TESTING.crt, with its key TESTING_pkc8.key' in said
        assert '"both" from both.crt, with its key old.pem' in said
        assert f'"{VERNEMQ}" from {VERNEMQ}.crt, with its key x.der' in said
        assert '"whole" from whole.crt, with its key id_rsa' in said
        for entry, entity in (("TESTING", CLIENT), ("both", BOTH), ("whole", WHOLE)):
            assert key_of(entry).public_key() == entity.key.public_key()

    def test_a_name_that_is_anothers_deceives_nobody(self) -> None:
        article(both__key=key_pem(WHOLE), whole__key=key_pem(BOTH))
        take()
        assert Path("ours/private/both.key").read_bytes() == key_pem(BOTH)
        assert Path("ours/private/whole.key").read_bytes() == key_pem(WHOLE)

    def test_the_usual_place_comes_first(self) -> None:
        article(both__key=key_pem(BOTH, b"secret"), both_p8__key=key_pem(BOTH))
        said = take()
        assert '"both" from both.crt, with its key' in said
        assert b"ENCRYPTED" in Path("ours/private/both.key").read_bytes()

    def test_an_encrypted_key_by_its_name(self) -> None:
        article(both_pkc8__key=key_pem(BOTH, b"secret"))
        said = take()
        words = (
            '"both" from both.crt, with its key both_pkc8.key, by its name, because it is encrypted'
        )
        assert words in said

    def test_an_encrypted_key_by_a_passphrase(self) -> None:
        article(strange__key=key_pem(BOTH, b"secret"))
        why = "it is encrypted, and its name is that of no certificate without a key"
        left = f"warning: pki/private/strange.key was left out: {why}"
        assert left in take()
        good_ = ("--ca-pass", "env:P")
        Path("ours").rename("first")
        said = take(*good_, env={"P": "secret"})
        assert '"both" from both.crt, with its key strange.key' in said
        Path("ours").rename("second")
        assert left in take(*good_, env={"P": "another"})

    def test_a_key_of_no_certificate_is_named(self) -> None:
        other = certify(new_key(), name("x"), None, ca_extensions())
        article(TESTING__key=key_pem(other))
        said = take()
        words = "warning: pki/private/TESTING.key was left out: no certificate here has this key"
        assert words in said

    def test_a_damaged_key_is_named(self) -> None:
        article(whole__key=key_pem(WHOLE)[:60], both__key=b"nothing")
        why = "was left out: it is not one private key that can be read"
        said = take()
        for one in ("whole", "both"):
            assert f"warning: pki/private/{one}.key {why}" in said

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_keys_on_another_medium(self) -> None:
        article(both__key=key_pem(BOTH))
        Path("pki/private").rename("medium")
        Path("pki/private").symlink_to(Path("medium").absolute())
        assert '"both" from both.crt, with its key' in take()
        assert Path("ours/private/ca.key").read_bytes() == key_pem(ROOT)

    def test_the_key_of_the_ca(self) -> None:
        article(root_old__pem=key_pem(ROOT))
        Path("pki/private/ca.key").unlink()
        take()
        assert Path("ours/private/ca.key").read_bytes() == key_pem(ROOT)
