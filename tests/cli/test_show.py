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
    pkcs7,
    pkcs12,
)

from cli.kit import SAMPLES, good, refused, run
from fwsign.keys import pbes2
from support import (
    certify,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    name,
    new_key,
    sign_with,
)


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
    assert (show("plain")["format"], show("plain")["encoding"]) == ("SEC1", "PEM")
    locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked").write_bytes(locked)
    assert b"Proc-Type" in locked
    assert show("locked")["encrypted"] is True
    assert show("locked")["encryption"] == {
        "scheme": "OpenSSL traditional",
        "derivation": "MD5, 1 iteration",
        "cipher": "AES-256-CBC",
        "mac": None,
        "strength": "weak",
        "too slow to open": None,
        "warning": "one round of MD5 makes the key from the passphrase: guessing is cheap",
        "what to do": "fwsign key passwd FILE encrypts it anew with scrypt",
    }


def test_what_is_in_a_container_is_hidden_and_how_strongly_is_told(tmp_path: Path) -> None:
    leaf = make_leaf(make_ca())
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(20_000).build(b"secret")
    locked = pkcs12.serialize_key_and_certificates(
        b"mine", leaf.key, leaf.certificate, None, builder
    )
    (tmp_path / "lies.crt").write_bytes(locked)
    found = show("lies.crt")
    assert (found["kind"], found["encrypted"]) == ("PKCS#12 container", True)
    assert found["encryption"]["derivation"] == "PBKDF2-HMAC-SHA256, 20000 iterations"
    assert found["encryption"]["mac"] == "PKCS#12 KDF-SHA256, 2048 iterations"
    assert found["encryption"]["warning"] == (
        "20000 iterations of PBKDF2-HMAC-SHA256: at least 600000 are advised; "
        "2048 iterations of PKCS#12 KDF-SHA256: at least 1200000 are advised"
    )
    assert "fwsign key convert" in found["encryption"]["what to do"]
    clear = pkcs12.serialize_key_and_certificates(
        b"mine", leaf.key, leaf.certificate, None, NoEncryption()
    )
    (tmp_path / "clear").write_bytes(clear)
    key, certificate = json.loads(good("show", "clear", "--json"))["content"]
    assert (key["kind"], key["encrypted"]) == ("private key", False)
    assert (certificate["in"], certificate["friendly name"]) == ("PKCS#12", "mine")


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_bundles(tmp_path: Path, form: Encoding) -> None:
    root = make_ca()
    bundle = pkcs7.serialize_certificates([root.certificate], form)
    (tmp_path / "x.txt").write_bytes(bundle)
    assert (show("x.txt")["kind"], show("x.txt")["in"]) == ("certificate", "PKCS#7")


def test_keys_of_openssh(tmp_path: Path) -> None:
    key = new_key("ed25519")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (tmp_path / "id").write_bytes(private)
    (tmp_path / "id.pub").write_bytes(public + b" me@example\n")
    assert (show("id")["kind"], show("id.pub")["kind"]) == ("private key", "public key")
    assert show("id")["key sha256"] == show("id.pub")["key sha256"]


def test_a_key_that_takes_too_long_to_open(tmp_path: Path) -> None:
    data = bytearray(pbes2.encrypt(b"x", b"secret"))
    at = data.index(b"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x05")
    data[at + 2] = 0x7F
    data[at + 6] = data[at + 9] = 0x7F
    (tmp_path / "x").write_bytes(data)
    page = good("show", "x")
    assert "too slow to open: scrypt N=32512 r=127 p=127" in page
    refused(
        run("key", "show", "x", "--pass", "env:P", env={"P": "secret"}),
        5,
        "x demands too much work to open: scrypt N=32512 r=127 p=127",
    )


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    refused(run("show", "x"), 1, "not a public key")
    (tmp_path / "x").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    words = 'x is not a private key that can be read: it is PEM "PRIVATE KEY", damaged'
    assert show("x")["detail"].startswith(words)


def test_text_with_half_a_block_far_into_it_is_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text\n" * 1000 + b"-----BEGIN A-----\n")
    assert show("x")["kind"] == "unknown"


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
    rng = random.Random(request.node.name)  # the same in each run
    statuses = set()
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        (signed / "x").write_bytes(changed[: rng.choice([len(data), rng.randrange(len(data))])])
        statuses.add(run("show", "x").status)
    assert statuses <= {0, 1, 5}


def test_a_crl_of_names_is_not_looked_into(tmp_path: Path) -> None:
    """Four of 1 MiB took 4 s, and 29 MB of output."""
    names = x509.IssuerAlternativeName([x509.DNSName("a")] * 20_000)
    pki = make_pki()
    crl = make_crl(pki.issuing, extensions=[(names, False)])
    path = tmp_path / "x.suit"
    path.write_bytes(sign_with(pki, crls=[make_crl(pki.root), crl]))
    first, second = show(path)["blocks"][0]["crls"]
    words = "the envelope has more than 4194304 bytes of CRLs"
    assert first["issuer"] == "O=Acme,CN=Root"
    assert second == {"kind": "CRL", "size": len(crl), "not shown": words}


def test_an_envelope_full_of_crls_is_shown_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All entries of 28 MB of lists took 41 seconds, and told nobody anything."""
    pki = make_pki()
    crl = make_crl(pki.issuing, [pki.leaf] * 30)
    signer = (pki.leaf, [pki.issuing], [crl, make_crl(pki.root)])
    path = tmp_path / "x.suit"
    path.write_bytes(make_envelope(make_manifest(), [signer, signer]))
    monkeypatch.setattr("fwsign.cli.show.command.CRLS_SHOWN", len(crl) + 1000)
    monkeypatch.setattr("fwsign.x509.crl.HEAD_WEIGHT", 0)
    first, second = (block["crls"] for block in show(path)["blocks"])
    assert (len(first[0]["revoked"]), first[0]["revoked, not shown"]) == (20, 10)
    assert first[1]["revoked"] == []
    words = f"the envelope has more than {len(crl) + 1000} bytes of CRLs"
    assert second[0] == {"kind": "CRL", "size": len(crl), "not shown": words}
    alone = tmp_path / "x.crl"
    alone.write_bytes(crl)
    assert len(show(alone)["revoked"]) == 30
