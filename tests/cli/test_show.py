"""`fwsign show`: what a file is, whatever it is."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cli.kit import SAMPLES, good, refused, run
from support import certify, make_ca, make_crl, make_leaf, name, new_key


def show(path: object) -> Any:
    """Return the first thing that a file has in it."""
    return json.loads(good("show", path, "--json"))["content"][0]


def test_envelopes_are_shown_as_a_tree_and_in_diagnostic_notation(signed: Path) -> None:
    found = show(signed / "build.bin.suit")
    assert found["kind"] == "SUIT envelope, not verified here"
    assert found["components"][0]["name"] == "build.bin"
    assert found["blocks"][0]["certificates"][0]["subject"] == "CN=release,O=Acme"
    assert found["diagnostic"].startswith("107({\n")
    page = good("show", "build.bin.suit")
    assert "\n  107({\n" in page


@pytest.mark.usefixtures("project")
def test_payloads_inside_are_listed() -> None:
    good("sign", "build.bin", "--embed")
    assert show("build.bin.suit")["payloads inside"] == {"#build.bin": 800}


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_certificates_requests_and_crls(tmp_path: Path, form: Encoding) -> None:
    root = make_ca()
    leaf = make_leaf(root)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("wanted"))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .sign(leaf.key, hashes.SHA256())
    )
    crl = x509.load_der_x509_crl(make_crl(root, [leaf]))
    things: dict[str, Any] = {
        "certificate": root.certificate,
        "certificate signing request": request,
        "CRL": crl,
    }
    for kind, thing in things.items():
        (tmp_path / kind).write_bytes(thing.public_bytes(form))
        assert show(kind)["kind"] == kind
    assert show("CRL")["revoked"][0]["cRLReason"] == "keyCompromise"


@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072", "ml-dsa-65"])
def test_keys_without_their_secret(tmp_path: Path, alg: str) -> None:
    key = new_key(alg)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public").write_bytes(public)
    digests = {show("public")["key sha256"]}
    for form in (Encoding.PEM, Encoding.DER):
        for lock in (NoEncryption(), BestAvailableEncryption(b"secret")):
            (tmp_path / "private").write_bytes(key.private_bytes(form, PrivateFormat.PKCS8, lock))
            found = show("private")
            assert (found["kind"], found["encrypted"]) == (
                "private key",
                not isinstance(lock, NoEncryption),
            )
            digests |= {found["key sha256"]} if "key sha256" in found else set()
    assert len(digests) == 1


def test_traditional_keys(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = PrivateFormat.TraditionalOpenSSL
    (tmp_path / "plain").write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert show("plain")["format"] == "EC PRIVATE KEY"
    locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked").write_bytes(locked)
    assert b"Proc-Type" in locked
    assert show("locked")["encrypted"] is True


def test_a_key_of_a_kind_that_fwsign_does_not_use(tmp_path: Path) -> None:
    key = dsa.generate_private_key(2048).public_key()
    (tmp_path / "x").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert show("x")["kind"] == "public key"


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("blink-esp32c3.bin", ("esp image", "esp32c3", "1.0.0", "0x10000")),
        ("blink-rp2040.uf2", ("uf2 image", "rp2040", None, "0x0")),
        ("blink-rp2350.uf2", ("uf2 image", "rp2350", None, "0x0")),
        ("gateway-app.tar.gz", ("unknown", None, None, None)),
    ],
)
def test_firmware_images(sample: str, expected: tuple[str | None, ...]) -> None:
    found = show(SAMPLES / sample)
    assert tuple(found[key] for key in ("kind", "chip", "version", "usual offset")) == expected


def test_several_things_in_one_file(tmp_path: Path) -> None:
    root = make_ca()
    pem = root.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "x").write_bytes(b"Certificate:\n  Data:\n" + pem + b"text between\n" + pem)
    assert len(json.loads(good("show", "x", "--json"))["content"]) == 2


def test_an_image_with_a_certificate_in_it_is_an_image(tmp_path: Path) -> None:
    pem = make_ca().certificate.public_bytes(Encoding.PEM)
    (tmp_path / "x").write_bytes(b"\0\1\2" + pem)
    assert show("x")["kind"] == "unknown"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert good("show", "x") == "kind: unknown\nsize: 0\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "BEGIN CERTIFICATE without its END"),
        (
            "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
            "CERTIFICATE that is not base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            "CERTIFICATE that is not base64",
        ),
        (
            "-----BEGIN A-----\nAAAA\n-----END B-----\n",
            "END B without its BEGIN",
        ),
        (
            "-----BEGIN A-----\n-----BEGIN B-----\nAAAA\n-----END B-----\n",
            "BEGIN A without its END",
        ),
    ],
)
def test_damaged_pem_is_told(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x").write_text(content)
    refused(run("show", "x"), 5, f"x is damaged PEM: {words}")


def test_pem_that_is_made_to_be_slow_is_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"-----BEGIN A-----" + b" " * 3_000_000)
    assert run("show", "x").status == 5
    (tmp_path / "x").write_bytes(b"-----BEGIN A-----\n" * 200_000)
    assert run("show", "x").status == 5


def test_pem_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("-----BEGIN PGP MESSAGE-----\nAAAA\n-----END PGP MESSAGE-----\n")
    assert good("show", "x") == "kind: unknown\nPEM label: PGP MESSAGE\nsize: 3\n"


def test_text_from_a_file_cannot_draw_lines_of_its_own(tmp_path: Path) -> None:
    deceiver = certify(new_key(), name("a\nkind: trusted\x1b[2K\u202eevil"), None, [])
    (tmp_path / "x").write_bytes(deceiver.certificate.public_bytes(Encoding.PEM))
    page = good("show", "x")
    assert r"CN=a\nkind: trusted\x1b[2K\u202eevil" in page
    assert page.isprintable() is False  # for its line ends alone
    assert all(line.isprintable() for line in page.splitlines())


@pytest.mark.parametrize("kind", ["certificate", "crl", "request", "key", "envelope", "image"])
def test_whatever_is_damaged_is_never_an_internal_error(
    signed: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    root = make_ca(permitted=["a.example"])
    leaf = make_leaf(root)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("wanted"))
    wanted = builder.sign(leaf.key, hashes.SHA256())
    data = {
        "certificate": root.der,
        "crl": make_crl(root, [leaf]),
        "request": wanted.public_bytes(Encoding.DER),
        "key": leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "envelope": (signed / "build.bin.suit").read_bytes(),
        "image": (SAMPLES / "blink-esp32c3.bin").read_bytes(),
    }[kind]
    rng = random.Random(request.node.name)  # noqa: S311 - the same in each run
    statuses = set()
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        (signed / "x").write_bytes(changed[: rng.choice([len(data), rng.randrange(len(data))])])
        statuses.add(run("show", "x").status)
    assert statuses <= {0, 1, 5}
