"""`fwsign show --pem`, `--hex` and `--all`: the things themselves, and old fingerprints."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
    pkcs12,
)

from cli.kit import SAMPLES, good, refused, run
from fwsign.cli.show import raw
from fwsign.keys import pem
from fwsign.pki.directory import Pki
from support import certify, make_ca, make_crl, make_leaf, name, new_key, signing_hash

ROOT = make_ca()
LEAF = make_leaf(ROOT)
CRL = x509.load_der_x509_crl(make_crl(ROOT, [LEAF]))


def request() -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("x"))
    return builder.sign(LEAF.key, signing_hash(LEAF.key))


THINGS: dict[str, Any] = {
    "certificate": LEAF.certificate,
    "certificate signing request": request(),
    "CRL": CRL,
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("kind", THINGS)
def test_pem_and_hex_of_public_things(kind: str, form: Encoding) -> None:
    thing = THINGS[kind]
    Path("x").write_bytes(thing.public_bytes(form))
    assert good("show", "x", "--pem").encode() == thing.public_bytes(Encoding.PEM)
    der = thing.public_bytes(Encoding.DER)
    first, *lines = good("show", "x", "--hex").splitlines()
    assert first == f"{kind}, {len(der)} bytes"
    assert bytes.fromhex("".join(line[10:49] for line in lines)) == der
    assert json.loads(good("show", "x", "--hex", "--json"))["content"] == [
        {"kind": kind, "hex": der.hex()}
    ]
    assert json.loads(good("show", "x", "--pem", "--json"))["content"] == [
        {"kind": kind, "pem": thing.public_bytes(Encoding.PEM).decode()}
    ]


def test_lines_are_those_of_xxd() -> None:
    assert [*raw.hex_lines(bytes(range(0x30, 0x43)) + b"\0\xff")] == [
        "00000000: 3031 3233 3435 3637 3839 3a3b 3c3d 3e3f  0123456789:;<=>?",
        "00000010: 4041 4200 ff                             @AB..",
    ]


@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa2048", "ml-dsa-65"])
def test_of_a_private_key_the_public_half(alg: str) -> None:
    key = new_key(alg)
    Path("x").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shown = good("show", "x", "--pem")
    assert load_pem_public_key(shown.encode()) == key.public_key()
    assert "PRIVATE" not in shown
    shown = json.loads(good("show", "x", "--hex", "--json"))["content"][0]["hex"]
    form = PublicFormat.SubjectPublicKeyInfo
    assert bytes.fromhex(shown) == key.public_key().public_bytes(Encoding.DER, form)


def test_of_an_openssh_key_the_public_half_even_if_it_is_encrypted() -> None:
    key = new_key("ed25519")
    lock = BestAvailableEncryption(b"secret")
    Path("x").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock))
    assert load_pem_public_key(good("show", "x", "--pem").encode()) == key.public_key()


def test_what_a_passphrase_hides() -> None:
    lock = BestAvailableEncryption(b"secret")
    key = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    box = pkcs12.serialize_key_and_certificates(b"x", LEAF.key, LEAF.certificate, None, lock)
    for data in (key, box):
        Path("x").write_bytes(data)
        for option in ("--pem", "--hex"):
            words = "x is encrypted, and shows nothing without its passphrase"
            hint = "its public half: fwsign key convert x - --to public"
            refused(run("show", "x", option), 2, words, hint)


@pytest.mark.parametrize("label", ["CERTIFICATE", "X509 CRL", "PUBLIC KEY", "CERTIFICATE REQUEST"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_with_a_public_label(label: str, form: PrivateFormat) -> None:
    key = new_key()
    secret = key.private_bytes(Encoding.DER, form, NoEncryption())
    Path("x").write_bytes(pem.encode(label, secret))
    for option in ("--pem", "--hex"):
        shown = json.loads(good("show", "x", option, "--json"))["content"]
        assert [one["kind"] for one in shown] == ["public key"]
    assert load_pem_public_key(good("show", "x", "--pem").encode()) == key.public_key()


def test_a_damaged_thing_is_shown_as_it_is() -> None:
    data = pem.encode(
        "CERTIFICATE", LEAF.certificate.public_bytes(Encoding.DER)[:-4] + b"\0\0\0\0\0"
    )
    for text in (data, pem.encode("X509 CRL", b"hello")):
        Path("x").write_bytes(text)
        assert good("show", "x", "--pem").encode() == text


def test_a_locked_private_key_with_a_public_label() -> None:
    lock = BestAvailableEncryption(b"secret")
    secret = new_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, lock)
    Path("x").write_bytes(pem.encode("CERTIFICATE", secret))
    assert "x is encrypted, and shows nothing" in run("show", "x", "--pem").err


def test_several_things_in_their_order() -> None:
    key = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    parts = (LEAF, ROOT)
    certificates = [one.certificate.public_bytes(Encoding.PEM) for one in parts]
    Path("x").write_bytes(certificates[0] + key + certificates[1])
    shown = json.loads(good("show", "x", "--pem", "--json"))["content"]
    assert [one["kind"] for one in shown] == ["certificate", "public key", "certificate"]
    assert shown[2]["pem"].encode() == certificates[1]


@pytest.mark.usefixtures("signed")
def test_of_an_envelope_what_its_signatures_carry() -> None:
    shown = json.loads(good("show", "build.bin.suit", "--pem", "--json"))["content"]
    pki = Pki("pki")
    wanted = [one.encode() for one in (item["pem"] for item in shown)]
    chain = [pki.certificate(one).public_bytes(Encoding.PEM) for one in ("release", "issuing")]
    crls = [pki.crl(one).public_bytes(Encoding.PEM) for one in ("issuing", "ca")]
    assert wanted == [*chain, *crls]


@pytest.mark.parametrize("option", ["--pem", "--hex"])
def test_firmware_and_other_files_have_none(option: str) -> None:
    image = SAMPLES / "blink-esp32c3.bin"
    words = "has no certificate, request, CRL or public key to print"
    hint = "what it is: fwsign show {0}; all its bytes: od -t x1 {0}"
    refused(run("show", image, option), 2, f"{image} {words}", hint.format(image))
    for data in (b"", b"text\n", b"-----BEGIN X-----\nAAAA\n-----END X-----\n"):
        Path("x").write_bytes(data)
        refused(run("show", "x", option), 2, f"x {words}", hint.format("x"))


@pytest.mark.parametrize(
    "options", [("--pem", "--hex"), ("--all", "--pem"), ("--all", "--hex")], ids=" ".join
)
def test_one_view_at_a_time(options: tuple[str, str]) -> None:
    words = f"{options[0]} and {options[1]} exclude each other"
    refused(run("show", "x", *options), 2, words, "fwsign show --help shows how")


def fingerprints(data: bytes) -> dict[str, str]:
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }


@pytest.mark.usefixtures("signed")
def test_old_fingerprints_with_all_alone() -> None:
    pki = Pki("pki")
    own = fingerprints(pki.certificate("release").public_bytes(Encoding.DER))
    for file in ("pki/issued/release.crt", "build.bin.suit"):
        found = json.loads(good("show", file, "--all", "--json"))["content"][0]
        found = found["blocks"][0]["certificates"][0] if "blocks" in found else found
        assert {one: found[one] for one in own} == own
        assert "sha1" not in good("show", file)
        assert f"sha1: {own['sha1']}" in good("show", file, "--all")
        assert f"md5: {own['md5']}" in good("show", file, "--all")


def squeezed(text: str) -> str:
    """Return a text without the places where lines may end."""
    return "".join(text.split()).replace("│", "")


@pytest.mark.usefixtures("project")
def test_the_tree_in_full() -> None:
    certificate = Pki("pki").certificate("release")
    said = squeezed(good("pki", "show", "--all"))
    own = fingerprints(certificate.public_bytes(Encoding.DER))
    above = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert above.key_identifier
    for words in (
        f"serial {certificate.serial_number:040x}",
        f"SHA-256 {own['sha256']}",
        f"SHA-1 {own['sha1']}",
        f"MD5 {own['md5']}",
        f"subject key identifier {subject.digest.hex()}",
        f"authority key identifier {above.key_identifier.hex()}",
    ):
        assert squeezed(words) in said
        assert squeezed(words) not in squeezed(good("pki", "show"))
    found = json.loads(good("pki", "show", "--json"))["certificates"]
    (release,) = [one for one in found if one["name"] == "release"]
    assert {one: release[one] for one in own} == own
    assert release["subject_key_identifier"] == subject.digest.hex()
    assert release["authority_key_identifier"] == above.key_identifier.hex()


def test_a_tree_without_key_identifiers() -> None:
    bare = certify(new_key(), name("bare"), None, [], identifiers=False)
    Path("x.crt").write_bytes(bare.certificate.public_bytes(Encoding.PEM))
    assert "key identifier" not in good("pki", "show", "x.crt", "--all")
    (found,) = json.loads(good("pki", "show", "x.crt", "--json"))["certificates"]
    assert found["subject_key_identifier"] is found["authority_key_identifier"] is None
    form = PublicFormat.SubjectPublicKeyInfo
    Path("y").write_bytes(bare.key.public_key().public_bytes(Encoding.PEM, form))
    assert good("show", "y", "--pem").encode() == Path("y").read_bytes()
