# SPDX-License-Identifier: Apache-2.0
"""Keys of other programs read here, and ours read there: openssl, ssh-keygen, certtool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.keys import convert, p12
from fwsign.keys.file import FileSigner, load_private_key
from fwsign.keys.formats import read_any
from support import Entity, der, make_ca, make_crl, make_leaf, new_key, refused, require_program

pytestmark = pytest.mark.external

SECRET, WORDS = b"pass phrase", "pass phrase"
IN, OUT = f"pass:{WORDS}", ("-passout", f"pass:{WORDS}")
LEGACY = ("-provider", "legacy", "-provider", "default")
KEYS: dict[str, Any] = {alg: new_key(alg) for alg in ("p256", "p384", "ed25519")}


def run(program: str, *arguments: object, data: bytes = b"") -> bytes:
    """Run a program that has to succeed; return its output."""
    command = [require_program(program), *map(str, arguments)]
    found = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
    assert found.returncode == 0, found.stderr.decode(errors="replace")
    return found.stdout


def key_of(alg: str) -> Any:
    return KEYS[alg] if alg in KEYS else new_key(alg)


def clear(key: Any) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


@pytest.fixture(scope="module")
def leaf() -> Entity:
    return make_leaf(make_ca())


@pytest.fixture
def files(leaf: Entity, tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(clear(leaf.key))
    (tmp_path / "crt").write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    return tmp_path


# --- openssl writes, we read -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kdf", "judged"),
    [
        (("-v2", "aes-256-cbc"), "PBKDF2-HMAC-SHA256, 2048 iterations", ("AES-256-CBC", "weak")),
        (
            ("-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"),
            "PBKDF2-HMAC-SHA1, 2048 iterations",
            ("AES-128-CBC", "weak"),
        ),
        (
            ("-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512", "-iter", "210000"),
            "PBKDF2-HMAC-SHA512, 210000 iterations",
            ("AES-192-CBC", "good"),
        ),
        (
            ("-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA384"),
            "PBKDF2-HMAC-SHA384, 2048 iterations",
            ("AES-256-CBC", "weak"),
        ),
        (("-v2", "des3"), "PBKDF2-HMAC-SHA256, 2048 iterations", ("3DES-CBC", "weak")),
        (("-scrypt",), "scrypt N=16384 r=8 p=1", ("AES-256-CBC", "weak")),
        (("-scrypt", "-scrypt_p", "5"), "scrypt N=16384 r=8 p=5", ("AES-256-CBC", "good")),
        (("-v1", "PBE-SHA1-3DES"), "PKCS#12 KDF-SHA1, 2048 iterations", ("3DES-CBC", "weak")),
        (("-v1", "PBE-MD5-DES", *LEGACY), "PBKDF1-MD5, 2048 iterations", ("DES-CBC", "weak")),
    ],
)
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_pkcs8(
    options: tuple[str, ...], kdf: str, judged: tuple[str, str], form: str, tmp_path: Path
) -> None:
    key = KEYS["p256"]
    command = ("pkcs8", "-topk8", "-outform", form, *options, *OUT)
    (tmp_path / "key").write_bytes(run("openssl", *command, data=clear(key)))
    (found,) = read_any((tmp_path / "key").read_bytes())
    assert found.encryption is not None
    assert found.encryption.kdf == kdf
    assert (found.encryption.cipher, found.encryption.verdict) == judged
    assert load_private_key(tmp_path / "key", lambda: SECRET).public_key() == key.public_key()
    with refused("key.passphrase"):
        load_private_key(tmp_path / "key", lambda: b"other")


@pytest.mark.parametrize("cipher", ["camellia-256-cbc", "aes-256-ofb"])
def test_ciphers_that_we_do_not_have(cipher: str, tmp_path: Path) -> None:
    command = ("pkcs8", "-topk8", "-v2", cipher, *OUT)
    (tmp_path / "key").write_bytes(run("openssl", *command, data=clear(KEYS["p256"])))
    with refused("key.format", "encrypted in a way that is not supported: Unknown"):
        load_private_key(tmp_path / "key", lambda: SECRET)


@pytest.mark.parametrize("cipher", ["-aes128", "-aes256", "-des3"])
@pytest.mark.parametrize("program", ["ec", "rsa"])
def test_traditional(program: str, cipher: str, tmp_path: Path) -> None:
    key = key_of("rsa3072" if program == "rsa" else "p256")
    traditional = ("-traditional",) if program == "rsa" else ()
    data = run("openssl", program, cipher, *traditional, *OUT, data=clear(key))
    assert b"DEK-Info" in data
    (tmp_path / "key").write_bytes(data)
    assert load_private_key(tmp_path / "key", lambda: SECRET).public_key() == key.public_key()
    (found,) = read_any(data)
    assert found.encryption is not None
    assert found.encryption.verdict == "weak"
    with refused("key.passphrase"):
        load_private_key(tmp_path / "key", lambda: b"other")


def test_traditional_cipher_that_we_do_not_have(tmp_path: Path) -> None:
    data = run("openssl", "ec", "-camellia128", *OUT, data=clear(KEYS["p256"]))
    (tmp_path / "key").write_bytes(data)
    with refused("key.format", "encrypted in a way that is not supported"):
        load_private_key(tmp_path / "key", lambda: SECRET)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-legacy",),
        ("-descert", "-legacy"),
        ("-nomac",),
        ("-nocerts",),
        ("-macalg", "sha512"),
        ("-keypbe", "aes-128-cbc", "-certpbe", "NONE"),
        ("-keypbe", "NONE", "-certpbe", "NONE"),
    ],
)
def test_pkcs12(options: tuple[str, ...], files: Path, leaf: Entity) -> None:
    command = ("pkcs12", "-export", "-inkey", files / "key", "-in", files / "crt", *OUT, *options)
    data = run("openssl", *command)
    (files / "lies.pem").write_bytes(data)
    found = load_private_key(files / "lies.pem", lambda: SECRET)
    assert found.public_key() == leaf.key.public_key()
    certificates = [one.content for one in read_any(data, lambda: SECRET)[1:]]
    assert certificates == ([] if "-nocerts" in options else [leaf.der])
    (locked,) = read_any(data)
    assert locked.encryption is not None
    assert locked.encryption.verdict == "weak"
    with refused("key.passphrase"):
        read_any(data, lambda: b"other")
    with refused("key.passphrase"):
        read_any(data, lambda: b"\xff")


def test_pkcs12_with_an_empty_passphrase_is_weak(files: Path, leaf: Entity) -> None:
    command = ("pkcs12", "-export", "-inkey", files / "key", "-in", files / "crt")
    data = run("openssl", *command, "-passout", "pass:")
    key, certificate = read_any(data)
    assert (key.public_key, certificate.content) == (leaf.key.public_key(), leaf.der)
    assert key.encryption is not None
    assert key.encryption.verdict == "weak"
    assert key.encryption.reasons[0] == "the passphrase is empty"


def test_pkcs12_in_clear(files: Path, leaf: Entity) -> None:
    command = ("pkcs12", "-export", "-inkey", files / "key", "-in", files / "crt")
    clear_one = ("-keypbe", "NONE", "-certpbe", "NONE", "-nomac", *OUT)
    key, _ = read_any(run("openssl", *command, *clear_one))
    assert (key.public_key, key.encryption) == (leaf.key.public_key(), None)


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_requests(form: str, files: Path) -> None:
    data = run("openssl", "req", "-new", "-key", files / "key", "-subj", "/CN=x", "-outform", form)
    (found,) = read_any(data)
    assert (found.kind, found.encoding) == ("certificate signing request", form)


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_bundles_with_crls(form: str, files: Path, leaf: Entity) -> None:
    root = make_ca()
    crl = make_crl(root)
    (files / "crl").write_bytes(run("openssl", "crl", "-inform", "DER", data=crl))
    command = ("crl2pkcs7", "-in", files / "crl", "-certfile", files / "crt", "-outform", form)
    found = read_any(run("openssl", *command))
    assert [(one.kind, one.content) for one in found] == [("certificate", leaf.der), ("CRL", crl)]


def test_a_key_behind_its_parameters() -> None:
    data = run("openssl", "ecparam", "-name", "prime256v1", "-genkey")
    assert [one.kind for one in read_any(data)] == ["EC parameters", "private key"]


# --- we write, openssl reads -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("alg", "form"),
    [
        *((alg, "pkcs8") for alg in ("p256", "p384", "ed25519", "rsa3072")),
        ("p256", "sec1"),
        ("p384", "sec1"),
        ("rsa3072", "pkcs1"),
    ],
)
@pytest.mark.parametrize("encoding", ["PEM", "DER"])
def test_openssl_reads_private_keys(alg: str, form: str, encoding: str, tmp_path: Path) -> None:
    key = key_of(alg)
    secret = SECRET if form == "pkcs8" else None
    (tmp_path / "key").write_bytes(convert.encode_private(key, form, secret, der=encoding == "DER"))
    command = ("pkey", "-in", tmp_path / "key", "-inform", encoding, "-passin", IN, "-pubout")
    assert run("openssl", *command, "-outform", "DER") == der(key.public_key())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("secret", ["pass phrase", "long " * 30, "sch\u00f6n"])
def test_openssl_reads_pkcs12(legacy: bool, secret: str, leaf: Entity, tmp_path: Path) -> None:
    data = convert.encode_private(
        leaf.key, "p12", secret.encode(), certificates=[leaf.certificate], legacy=legacy, name="x y"
    )
    (tmp_path / "p12").write_bytes(data)
    (tmp_path / "secret").write_text(secret, encoding="utf-8")
    more = ("-legacy",) if legacy else ()
    command = ("pkcs12", "-in", tmp_path / "p12", "-passin", f"file:{tmp_path / 'secret'}", *more)
    text = run("openssl", *command, "-noenc")
    assert {one.kind for one in read_any(text)} == {"private key", "certificate"}
    assert b"friendlyName: x y" in text


def test_openssl_reads_public_keys(tmp_path: Path) -> None:
    key = KEYS["p384"].public_key()
    (tmp_path / "pub").write_bytes(convert.encode_public(key, "public", der=True))
    command = ("pkey", "-pubin", "-inform", "DER", "-in", tmp_path / "pub", "-outform", "DER")
    assert run("openssl", *command) == der(key)


# --- ssh-keygen ------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519", "rsa3072"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_ssh_keygen_reads_our_keys(
    alg: str, secret: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret:
        pytest.importorskip("bcrypt")
    monkeypatch.setattr(convert, "BCRYPT_ROUNDS", 2)
    key = key_of(alg)
    file = tmp_path / "id"
    file.write_bytes(convert.encode_private(key, "openssh", secret))
    file.chmod(0o600)
    line = run("ssh-keygen", "-y", "-P", WORDS if secret else "", "-f", file)
    (found,) = read_any(line)
    assert found.content == der(key.public_key())
    file.write_bytes(convert.encode_public(key.public_key(), "public-openssh"))
    assert b"SHA256:" in run("ssh-keygen", "-l", "-f", file)
    assert read_any(run("ssh-keygen", "-e", "-m", "RFC4716", "-f", file))[0].format == "RFC 4716"
    for form in ("PEM", "PKCS8"):
        if alg != "ed25519":
            text = run("ssh-keygen", "-e", "-m", form, "-f", file)
            assert read_any(text)[0].content == der(key.public_key())


@pytest.mark.parametrize("kind", [("ecdsa", "256"), ("ed25519", "256"), ("rsa", "3072")])
@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
@pytest.mark.parametrize("secret", ["", WORDS])
def test_we_read_keys_of_ssh_keygen(
    kind: tuple[str, str], form: str, secret: str, tmp_path: Path
) -> None:
    name, bits = kind
    if secret:
        pytest.importorskip("bcrypt")
    file = tmp_path / "id"
    options = ("-t", name, "-b", bits, "-m", form, "-N", secret, "-a", "4", "-C", "me", "-f", file)
    run("ssh-keygen", "-q", *options)
    key = load_private_key(file, lambda: secret.encode() or None)
    (public,) = read_any(Path(f"{file}.pub").read_bytes())
    assert public.public_key == key.public_key()
    FileSigner(key).sign(b"message")
    (locked,) = read_any(file.read_bytes())
    assert (locked.encryption is not None) is bool(secret)


# --- certtool --------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_certtool_reads_pkcs12(
    legacy: bool, leaf: Entity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p12, "MAC_ITERATIONS", 3000)
    (tmp_path / "p12").write_bytes(
        p12.encode(leaf.key, SECRET, [leaf.certificate], legacy=legacy, name="x")
    )
    command = ("--p12-info", "--inder", "--infile", tmp_path / "p12", "--password", WORDS)
    text = run("certtool", *command)
    assert b"BEGIN CERTIFICATE" in text
    assert b"PRIVATE KEY" in text


@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072"])
@pytest.mark.parametrize("der_form", [False, True])
def test_certtool_reads_clear_keys(alg: str, der_form: bool, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(convert.encode_private(key_of(alg), "pkcs8", None, der=der_form))
    options = ("--inder",) if der_form else ()
    assert b"Public Key ID" in run("certtool", "--key-info", *options, "--infile", file)


@pytest.mark.parametrize("cipher", ["aes-256", "3des-pkcs12", "aes-128"])
def test_we_read_keys_of_certtool(cipher: str, files: Path, leaf: Entity) -> None:
    options = ("--pkcs-cipher", cipher, "--password", WORDS, "--outfile", files / "out")
    run("certtool", "--to-p8", "--load-privkey", files / "key", *options)
    assert load_private_key(files / "out", lambda: SECRET).public_key() == leaf.key.public_key()
    run(
        "certtool",
        *("--to-p12", "--load-privkey", files / "key", "--load-certificate", files / "crt"),
        *("--p12-name", "x", "--outder", *options),
    )
    found = read_any((files / "out").read_bytes(), lambda: SECRET)
    assert {one.content for one in found} >= {leaf.der}
    assert found[0].public_key == leaf.key.public_key()


def test_mldsa_of_openssl(tmp_path: Path) -> None:
    """From 3.5 on, openssl writes seed and expanded key."""
    version = run("openssl", "version").split()[1].decode()
    if tuple(map(int, version.split(".")[:2])) < (3, 5):  # Debian 12 has nothing newer
        pytest.skip(f"openssl {version} does not know ML-DSA")
    file = tmp_path / "key"
    run("openssl", "genpkey", "-algorithm", "ML-DSA-65", "-out", file)
    public = run("openssl", "pkey", "-in", file, "-pubout", "-outform", "DER")
    (found,) = read_any(file.read_bytes())
    assert (der(found.public_key), found.detail) == (public, "seed and expanded key")
