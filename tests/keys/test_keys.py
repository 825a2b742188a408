# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.errors import Failed
from fwsign.keys import ALGORITHMS, PrivateKey, Signer, key_file, pbes2, signer_from_uri
from fwsign.keys.file import (
    KEY_FILE_LIMIT,
    FileSigner,
    encode_private_key,
    load_private_key,
    new_private_key,
    write_private_key,
)

COSE = {
    "p256": -9,
    "p384": -51,
    "ed25519": -19,
    "rsa3072": -37,
    "rsa4096": -37,
    "ml-dsa-65": -49,
    "ml-dsa-87": -50,
}
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()
MESSAGE = b"Sig_structure"


def unasked() -> bytes | None:
    pytest.fail("a passphrase was asked for")


@pytest.fixture(scope="session")
def keys() -> dict[str, PrivateKey]:
    """One key of each kind, since making the RSA one takes a while."""
    return {alg: new_private_key(alg) for alg in ALGORITHMS}


@pytest.fixture(scope="session")
def sealed(keys: dict[str, PrivateKey]) -> bytes:
    """The P-256 key under the passphrase "secret"."""
    return encode_private_key(keys["p256"], b"secret")


@pytest.fixture(scope="session")
def openssl() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("FWSIGN_REQUIRE_EXTERNAL") == "1":
            pytest.fail("FWSIGN_REQUIRE_EXTERNAL=1, and there is no openssl command")
        pytest.skip("there is no openssl command")

    def run(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, *map(str, arguments)], input=data, capture_output=True, check=False
        )

    return run


def refused(call: Callable[[], object], code: str) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def check_signature(signer: Signer, message: bytes, signature: bytes) -> None:
    """Verify as RFC 9052 and 9053 say, without the code under test."""
    key = signer.public_key
    if isinstance(key, ec.EllipticCurvePublicKey):
        width, digest = {-9: (32, hashes.SHA256()), -51: (48, hashes.SHA384())}[signer.algorithm]
        assert len(signature) == 2 * width
        r, s = (int.from_bytes(part, "big") for part in (signature[:width], signature[width:]))
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
    elif isinstance(key, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
        key.verify(signature, message, pss, hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    else:
        assert isinstance(key, mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey)
        key.verify(signature, message, b"")


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_signatures_have_the_form_of_cose(alg: str, keys: dict[str, PrivateKey]) -> None:
    signer: Signer = FileSigner(keys[alg])
    assert signer.algorithm == COSE[alg]
    assert signer.public_key == keys[alg].public_key()
    check_signature(signer, MESSAGE, signer.sign(MESSAGE))


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519"])
@given(message=st.binary())
def test_signing_twice_gives_the_same(
    alg: str, keys: dict[str, PrivateKey], message: bytes
) -> None:
    signer = FileSigner(keys[alg])
    signature = signer.sign(message)
    assert signature == signer.sign(message)
    check_signature(signer, message, signature)


def test_ecdsa_is_that_of_rfc_6979() -> None:
    # RFC 6979 A.2.5, SHA-256, message "sample"
    secret = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    signature = FileSigner(ec.derive_private_key(secret, ec.SECP256R1())).sign(b"sample")
    assert signature.hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )


def test_unknown_algorithm_is_refused() -> None:
    error = refused(lambda: new_private_key("rsa1024"), "key.unsupported")
    assert error.message == (f'no key algorithm "rsa1024", there are {", ".join(ALGORITHMS)}')


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: ec.generate_private_key(ec.SECP521R1()), "P-521"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (lambda: ec.generate_private_key(ec.BrainpoolP256R1()), "brainpoolP256r1"),
        (lambda: rsa.generate_private_key(65537, 2048), "RSA-2048"),
        (lambda: dsa.generate_private_key(1024), "DSA"),  # noqa: S505 - only to be refused
        (ed448.Ed448PrivateKey.generate, "Ed448"),
        (mldsa.MLDSA44PrivateKey.generate, "MLDSA44"),
    ],
)
def test_other_keys_are_refused(make: Callable[[], PrivateKey], found: str, tmp_path: Path) -> None:
    key = make()
    message = (
        f"cannot sign with a key of {found}, "
        "expected P-256, P-384, Ed25519, RSA of 3072 bits or more, ML-DSA-65 or ML-DSA-87"
    )
    assert refused(lambda: FileSigner(key), "key.unsupported").message == message
    file = tmp_path / "key"
    file.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    assert refused(lambda: load_private_key(file, unasked), "key.unsupported").found == found


@pytest.mark.parametrize("alg", ALGORITHMS)
@pytest.mark.parametrize("encoding", [PEM, DER])
def test_plain_pkcs8_is_read(
    alg: str, encoding: serialization.Encoding, keys: dict[str, PrivateKey], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(keys[alg].private_bytes(encoding, PKCS8, PLAIN))
    assert load_private_key(file, unasked).public_key() == keys[alg].public_key()


@pytest.mark.parametrize("alg", ["p256", "p384", "rsa3072"])
@pytest.mark.parametrize("encoding", [PEM, DER])
def test_sec1_and_pkcs1_are_read(
    alg: str, encoding: serialization.Encoding, keys: dict[str, PrivateKey], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(keys[alg].private_bytes(encoding, TRADITIONAL, PLAIN))
    assert load_private_key(file, unasked).public_key() == keys[alg].public_key()


@pytest.mark.parametrize("encoding", [PEM, DER])
def test_other_encryption_is_read(
    encoding: serialization.Encoding, keys: dict[str, PrivateKey], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    best = serialization.BestAvailableEncryption(b"secret")
    file.write_bytes(keys["p256"].private_bytes(encoding, PKCS8, best))
    assert load_private_key(file, lambda: b"secret").public_key() == keys["p256"].public_key()


@pytest.mark.parametrize("alg", ["p256", "ml-dsa-87", "rsa3072"])
def test_encrypted_key_comes_back(alg: str, keys: dict[str, PrivateKey], tmp_path: Path) -> None:
    file = tmp_path / "key"
    write_private_key(file, keys[alg], b"pass phrase")
    text = file.read_text(encoding="ascii")
    assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert max(map(len, text.splitlines())) == 64
    assert load_private_key(file, lambda: b"pass phrase").public_key() == keys[alg].public_key()


def test_encryption_is_scrypt_with_the_stated_cost_and_fresh_salt() -> None:
    first, second = pbes2.encrypt(b"same", b"same"), pbes2.encrypt(b"same", b"same")
    # scrypt's OID, salt of 16, then N = 2^14, r = 8, p = 5, 32 octets; AES-256-CBC, IV of 16
    shape = (
        rb"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b\x30.\x04\x10(?P<salt>.{16})"
        rb"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x05\x02\x01\x20"
        rb"\x30\x1d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a\x04\x10(?P<iv>.{16})"
    )
    one, two = (re.search(shape, der, re.DOTALL) for der in (first, second))
    assert one is not None
    assert two is not None
    assert one["salt"] != two["salt"]
    assert one["iv"] != two["iv"]
    assert first[-16:] != second[-16:]


def test_wrong_passphrase(sealed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(sealed)
    error = refused(lambda: load_private_key(file, lambda: b"Secret"), "key.passphrase")
    assert error.message == f"wrong passphrase for {file}, or the key in it is damaged"


@pytest.mark.parametrize("given_passphrase", [None, b""])
def test_missing_passphrase(given_passphrase: bytes | None, sealed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(sealed)
    error = refused(
        lambda: load_private_key(file, lambda: given_passphrase), "key.passphrase-missing"
    )
    assert error.message == f"{file} is encrypted and no passphrase was given"


def test_empty_passphrase_for_a_new_key(keys: dict[str, PrivateKey], tmp_path: Path) -> None:
    error = refused(
        lambda: write_private_key(tmp_path / "key", keys["p256"], b""), "key.passphrase-missing"
    )
    assert error.message == "the passphrase for the new key is empty"
    assert list(tmp_path.iterdir()) == []


def test_unknown_encryption_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key"
    der = pbes2.encrypt(b"x", b"secret")
    assert der.count(bytes.fromhex("60864801650304012a")) == 1
    file.write_bytes(  # AES-256-CBC becomes AES-256-GCM, which needs other parameters
        der.replace(bytes.fromhex("60864801650304012a"), bytes.fromhex("60864801650304012e"))
    )
    error = refused(lambda: load_private_key(file, lambda: b"secret"), "key.format")
    assert error.message.startswith(f"{file} is encrypted in a way that is not supported: Unknown")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "it is neither PEM nor DER"),
        (b"0\x00", "it is DER of another kind"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 'PEM "CERTIFICATE"'),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not supported"),
        (b"-----BEGIN \xff", "it is neither PEM nor DER"),
    ],
)
def test_what_is_no_key_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    error = refused(lambda: load_private_key(file, unasked), "key.format")
    assert error.message.startswith(f"{file} is not a private key that can be read")
    assert error.message.endswith(words)


def test_openssh_key_is_read(keys: dict[str, PrivateKey], tmp_path: Path) -> None:
    file = tmp_path / "id_ecdsa"
    key = cast("ec.EllipticCurvePrivateKey", keys["p256"])
    file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN))
    assert load_private_key(file, unasked).public_key() == key.public_key()


def test_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    file = tmp_path / "key"
    error = refused(lambda: load_private_key(file, unasked), "io.missing")
    assert error.message == f"cannot read {file}: no such file or directory"
    file.write_bytes(bytes(KEY_FILE_LIMIT + 1))
    assert (
        "larger than 65536 bytes"
        in refused(lambda: load_private_key(file, unasked), "io.format").message
    )
    refused(lambda: load_private_key(tmp_path, unasked), "io.directory")


@settings(deadline=None)  # checking the primes of a damaged RSA key takes as long as it takes
@given(data=st.data())
def test_a_damaged_key_raises_nothing_but_failed(
    data: st.DataObject, keys: dict[str, PrivateKey], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(
        keys[data.draw(st.sampled_from(ALGORITHMS))].private_bytes(DER, PKCS8, PLAIN)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.key"
    file.write_bytes(content)
    with contextlib.suppress(Failed):  # and nothing else; the damage may not matter
        FileSigner(load_private_key(file, lambda: None))


def test_key_files_are_private_and_never_replaced(
    keys: dict[str, PrivateKey], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    write_private_key(file, keys["p256"], None)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    refused(lambda: write_private_key(file, keys["p384"], None), "io.exists")
    write_private_key(file, keys["p384"], None, overwrite=True)
    assert load_private_key(file, unasked).public_key() == keys["p384"].public_key()


@pytest.mark.parametrize("prefix", ["", "file:", "file://", "file://localhost", "FILE:"])
def test_a_path_is_a_uri(prefix: str, keys: dict[str, PrivateKey], tmp_path: Path) -> None:
    file = tmp_path / "my key"
    write_private_key(file, keys["ed25519"], None)
    path = str(file) if not prefix else file.as_posix().replace(" ", "%20")
    signer = signer_from_uri(prefix + path, unasked)
    assert signer.public_key == keys["ed25519"].public_key()


def test_passphrase_is_asked_for_once(sealed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(sealed)
    asked = []

    def answer() -> bytes:
        asked.append(True)
        return b"secret"

    assert signer_from_uri(str(file), answer).algorithm == COSE["p256"]
    assert asked == [True]


def test_other_schemes_are_refused() -> None:
    uri = "https://example.com/key"
    error = refused(lambda: signer_from_uri(uri, unasked), "key.unsupported")
    known = "file:, awskms:, openbao:, pkcs11:, ssh-agent:, vault:"
    assert error.message == f'no key backend for "https:", there are {known}'
    assert error.found == "https"


def test_commands_that_need_a_file_say_so() -> None:
    uri = "pkcs11:token=fwsign;object=release"
    error = refused(lambda: key_file(uri), "key.unsupported")
    assert error.message == f"{uri} is not a file, and this command needs a key in a file"


def test_key_on_another_machine_is_refused() -> None:
    error = refused(lambda: signer_from_uri("file://server/key", unasked), "key.unsupported")
    assert error.message == 'a key file must be on this machine, not on "server"'


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (r"C:\keys\release.key", r"C:\keys\release.key"),
        ("C:keys", "C:keys"),
        ("file:///C:/keys/release.key", "C:/keys/release.key"),
        ("keys/a:b", "keys/a:b"),
        ("./pkcs11:x", "pkcs11:x"),
        (r"\\server\share\key", r"\\server\share\key"),
    ],
)
def test_what_looks_like_a_path_is_one(uri: str, path: str) -> None:
    error = refused(lambda: signer_from_uri(uri, unasked), "io.missing")
    assert error.message == f"cannot read {Path(path)}: no such file or directory"


@pytest.mark.external
@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072", "ml-dsa-65"])
def test_openssl_reads_our_keys(
    alg: str,
    keys: dict[str, PrivateKey],
    tmp_path: Path,
    openssl: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    version = openssl("version").stdout.split()[1]
    if alg.startswith("ml-dsa") and tuple(map(int, version.split(b".")[:2])) < (3, 5):
        pytest.skip(f"openssl {version.decode()} does not know ML-DSA")
    file = tmp_path / "key"
    write_private_key(file, keys[alg], b"pass phrase")
    public = openssl("pkey", "-in", file, "-passin", "pass:pass phrase", "-pubout")
    assert public.returncode == 0, public.stderr
    assert public.stdout == keys[alg].public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.external
def test_openssl_pkcs8_decrypts_our_key_and_refuses_another_passphrase(
    keys: dict[str, PrivateKey],
    sealed: bytes,
    openssl: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    plain = openssl("pkcs8", "-passin", "pass:secret", data=sealed)
    assert plain.stdout == keys["p256"].private_bytes(PEM, PKCS8, PLAIN)
    assert openssl("pkcs8", "-passin", "pass:Secret", data=sealed).returncode != 0


@pytest.mark.external
@pytest.mark.parametrize(
    "options",
    [
        ("pkcs8", "-topk8", "-v2", "aes-128-cbc"),
        ("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"),
        ("pkcs8", "-topk8", "-scrypt"),
        ("ec", "-aes128"),
    ],
)
def test_keys_that_openssl_encrypts_are_read(
    options: tuple[str, ...],
    keys: dict[str, PrivateKey],
    tmp_path: Path,
    openssl: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    made = openssl(*options, "-passout", "pass:pw", data=encode_private_key(keys["p256"], None))
    assert made.returncode == 0, made.stderr
    file = tmp_path / "key"
    file.write_bytes(made.stdout)
    assert load_private_key(file, lambda: b"pw").public_key() == keys["p256"].public_key()
    refused(lambda: load_private_key(file, lambda: b"wp"), "key.passphrase")
    refused(lambda: load_private_key(file, lambda: None), "key.passphrase-missing")


@pytest.mark.external
def test_sec1_with_parameters_before_it_is_read(
    tmp_path: Path, openssl: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    made = openssl("ecparam", "-name", "prime256v1", "-genkey")
    assert b"BEGIN EC PARAMETERS" in made.stdout
    file = tmp_path / "key"
    file.write_bytes(made.stdout)
    assert FileSigner(load_private_key(file, unasked)).algorithm == COSE["p256"]
