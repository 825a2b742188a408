"""Private keys of openssl and GnuTLS: what they write is read, with and without a passphrase."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fwsign.errors import Failed
from fwsign.keys.asn1 import integer, octets, sequence, sequence_parts
from fwsign.keys.formats import read_any, read_private_key
from support import refused, require_program, stride

pytestmark = pytest.mark.external

SECRET = b"secret"
CURVES = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1"}
CIPHERS = ("3des", "3des-pkcs12", "aes-128", "aes-192", "aes-256")


def run(folder: Path, *command: str) -> bytes:
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def public_of(folder: Path, name: str) -> bytes:
    """Ask openssl for the public key."""
    command = ("openssl", "pkey", "-in", name, "-passin", "pass:secret", "-pubout")
    return run(folder, *command, "-outform", "DER")


def read(folder: Path, name: str) -> bytes:
    """Ask fwsign for the public key."""
    key = read_private_key((folder / name).read_bytes(), lambda: SECRET, name).public_key()
    spki: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


def generate(folder: Path, alg: str, name: str, *more: str) -> None:
    """Have GnuTLS make a key; half of its private values have a zero before them."""
    command = ("certtool", "--generate-privkey", "--key-type", "ecdsa", "--curve", CURVES[alg])
    run(folder, *command, *more, "--no-text", "--outfile", name)


@pytest.mark.parametrize("alg", CURVES)
def test_elliptic_keys_of_gnutls(alg: str, tmp_path: Path) -> None:
    require_program("certtool")
    require_program("openssl")
    names = [f"sec1-{number}" for number in range(4 // stride(2))]
    for name in names:
        generate(tmp_path, alg, name)
    for cipher in CIPHERS:
        names += [f"{cipher}-{number}" for number in range(2 // stride(2))]
        for name in names[-(2 // stride(2)) :]:
            locked = ("--pkcs-cipher", cipher, "--password", "secret")
            generate(tmp_path, alg, name, "--pkcs8", *locked)
    for name in names:
        assert read(tmp_path, name) == public_of(tmp_path, name), name


def test_a_key_of_gnutls_that_openssl_does_not_open_is_not_called_a_wrong_passphrase(
    tmp_path: Path,
) -> None:
    require_program("certtool")
    found = []
    for _ in range(40):
        generate(
            tmp_path, "p256", "out", "--pkcs8", "--pkcs-cipher", "rc2-40", "--password", "secret"
        )
        data = (tmp_path / "out").read_bytes()
        with refused("key.passphrase", "wrong passphrase for x"):
            read_private_key(data, lambda: b"else", "x")
        try:
            read_private_key(data, lambda: SECRET, "x")
        except Failed as error:
            found.append((error.code, error.message))
            break
    assert found[0][0] == "key.format"
    assert "x opens, but the key in it cannot be read" in found[0][1]


@pytest.mark.parametrize("kind", ["v2prf", "v1"])
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_odd_elliptic_keys_that_openssl_encrypts(kind: str, form: str, tmp_path: Path) -> None:
    require_program("openssl")
    key = ec.derive_private_key(5, ec.SECP256R1())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    inner = sequence(integer(1), octets(b"\5"))
    (tmp_path / "in").write_bytes(
        sequence(integer(0), sequence_parts(plain)[1].whole, octets(inner))
    )
    how = {"v2prf": ("-v2", "des3", "-v2prf", "hmacWithSHA512"), "v1": ("-v1", "PBE-SHA1-3DES")}
    command = ("openssl", "pkcs8", "-topk8", "-inform", "DER", "-in", "in", "-outform", form)
    run(tmp_path, *command, "-passout", "pass:secret", *how[kind], "-out", "out")
    assert read(tmp_path, "out") == public_of(tmp_path, "out")
    (one,) = read_any((tmp_path / "out").read_bytes(), lambda: SECRET)
    assert one.encryption is not None
