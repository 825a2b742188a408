"""Keys, certificates and CRLs that the real xca keeps are read; and xca reads what we write.

Without a window xca makes databases and keys, imports, prints, and makes CRLs and index.txt. It
does not issue certificates there, nor make requests or PKCS#12, nor print private keys: those are
in its menus alone. So `openssl` certifies here the keys that xca has made, and the private keys
are taken out of the database, where they are PKCS#8 as its menu "Export" writes it too.
"""

import base64
import os
import select
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from cli.kit import good, run
from support import require_program, require_terminals

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(os.name == "nt", reason="xca asks on a terminal of POSIX"),
]
SECRET = "of the database"
DEVICE = ("--vendor", "acme.example", "--product", "gateway-x1")
LEAF = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=codeSigning
subjectAltName=DNS:acme.example
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""
NOT_CRITICAL = 'extended key usage of "by-xca" is not critical'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(key, str(tmp_path))
    monkeypatch.setenv("XCA_NO_GUI", "1")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setenv("DATABASE", SECRET)
    monkeypatch.setenv("P", "secret")


def xca(*arguments: object) -> str:
    """Run xca; return what it prints."""
    done = subprocess.run(
        [require_program("xca"), "--no-gui", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def held(*arguments: object) -> str:
    """Run xca on the database."""
    return xca("--database=held.xdb", "--password=env:DATABASE", *arguments)


def asked(answer: str, *arguments: str) -> str:
    """Run xca on a terminal, and give one answer whenever it asks for a password."""
    import pty  # Windows has none

    command = [require_program("xca"), "--no-gui", *arguments]
    require_terminals()
    ours, its = pty.openpty()
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its) as running:
        os.close(its)
        try:
            said = _talk(ours, answer)
        except BaseException:
            running.kill()
            raise
        finally:
            os.close(ours)
        assert running.wait(60) == 0, said
    return said


def _talk(terminal: int, answer: str) -> str:
    """Answer only once the echo is off: turning it off drops what was typed before."""
    import termios  # Windows has none

    said, answered = b"", 0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.01)[0]:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                return said.decode(errors="replace")
            said += chunk
        echoes = termios.tcgetattr(terminal)[3] & termios.ECHO
        if said.count(b"assword:") > answered and not echoes:
            answered += 1
            os.write(terminal, answer.encode() + b"\n")
    raise AssertionError(f"xca does not end: {said!r}")


def database(*keys: tuple[str, str]) -> None:
    """Make a database with keys of a name and kind; a new one asks for its password."""
    for number, (name, kind) in enumerate(keys):
        if number == 0:
            more = ("--database=held.xdb", f"--keygen={kind}", f"--name={name}")
            assert "Successfully created" in asked(SECRET, *more)
        else:
            held(f"--keygen={kind}", f"--name={name}")


def items() -> list[tuple[str, int]]:
    """Return the names and types in the database: 1 key, 3 certificate, 4 CRL."""
    with closing(sqlite3.connect("held.xdb")) as opened:
        return list(opened.execute("select name, type from items order by id"))


def private_key(name: str) -> str:
    """Take a private key out of the database."""
    query = "select private from private_keys join items on id = item where name = ?"
    with closing(sqlite3.connect("held.xdb")) as opened:
        ((encoded,),) = opened.execute(query, (name,))
    Path(f"{name}.der").write_bytes(base64.b64decode(encoded))
    return f"{name}.der"


def openssl(*arguments: str) -> None:
    more = ("-passin", "env:DATABASE")
    command = [require_program("openssl"), *arguments, *more]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def certify(kind: str) -> None:
    """Make a database with a root and a signer, certified with the keys that it has."""
    database(("root", kind), ("by-xca", kind))
    root, signer = private_key("root"), private_key("by-xca")
    days = ("-days", "300", "-sha256")
    new = ("-x509", "-new", "-key", root, "-keyform", "DER", "-subj", "/O=Acme/CN=xca root")
    openssl("req", *new, *days, "-out", "root.crt")
    request = ("-new", "-key", signer, "-keyform", "DER", "-subj", "/O=Acme/CN=by-xca")
    openssl("req", *request, "-out", "signer.csr")
    Path("leaf.cnf").write_text(LEAF)
    ca = ("-CA", "root.crt", "-CAkey", root, "-CAkeyform", "DER", "-set_serial", "0x1234567890abcd")
    more = ("-in", "signer.csr", "-extfile", "leaf.cnf", "-out", "signer.crt")
    openssl("x509", "-req", *ca, *days, *more)
    held("--import", "root.crt", "signer.crt")
    assert ("xca root", 3) in items()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("EC:prime256v1", "P-256"), ("EC:secp384r1", "P-384"), ("RSA:3072", "RSA-3072")],
)
def test_keys_that_xca_made(kind: str, name: str) -> None:
    database(("mine", kind))
    file = private_key("mine")
    shown = good("key", "show", file, "--pass", "env:DATABASE")
    assert f"key: {name}\n" in shown
    assert "PBKDF2-HMAC-SHA256, 2048 iterations" in shown
    assert "strength: weak" in shown
    source = ("--pass", "env:DATABASE", "--new-pass", "env:P")
    good("key", "convert", file, "mine.key", *source)
    assert "strength: good" in good("key", "show", "mine.key")
    public = xca("--pem", "--password=env:P", _clear("mine.key"))
    good("key", "convert", "mine.key", "mine.pub", "--to", "public", "--pass", "env:P")
    assert Path("mine.pub").read_text() in public


def _clear(file: str) -> str:
    good("key", "convert", file, "clear.key", "--pass", "env:P", "--no-passphrase")
    return "clear.key"


@pytest.mark.parametrize("kind", ["EC:prime256v1", "RSA:3072"])
def test_a_release_of_a_signer_that_xca_holds(kind: str) -> None:
    certify(kind)
    Path("exported.pem").write_text(xca("--pem", "signer.crt", "root.crt"))
    Path("build.bin").write_bytes(b"firmware")
    key = ("--key", "by-xca.der", "--chain", "exported.pem", "--pass", "env:DATABASE")
    good("sign", "build.bin", *key, *DEVICE)
    Path("xca.crl").write_text(held("--crlgen=xca root", "--name=list", "--pem"))
    given = ("verify", "build.bin.suit", "--anchor", "root.crt", "--crl", "xca.crl", *DEVICE)
    strict = run(*given)
    assert (strict.status, strict.errors[0]) == (1, 'error: CA "xca root" has no key usage')
    told = good(*given, "--profile", "compat")
    assert NOT_CRITICAL in told
    path = ("pki", "verify", "signer.crt", "--anchor", "root.crt", "--crl", "xca.crl")
    assert "unchecked" not in good(*path, "--profile", "compat")


def test_its_certificates_and_crl_are_a_tree_and_linted() -> None:
    certify("EC:prime256v1")
    Path("pki").mkdir()
    Path("pki/all.pem").write_text(xca("--pem", "signer.crt", "root.crt"))
    Path("pki/xca.crl").write_text(held("--crlgen=xca root", "--name=list", "--pem"))
    shown = good("pki", "show", "pki")
    assert shown.startswith("2 certificates, 1 CRL")
    assert "└─ by-xca  signer" in shown
    found = run("pki", "lint", "pki")
    assert found.status == 3
    assert "lint.ca-key-usage-absent" in found.out
    assert "kind: CRL" in good("show", "pki/xca.crl")


def test_its_index_and_the_name_of_its_ca() -> None:
    """`--issuers` lists a CA only where its key is there: xca has linked both."""
    certify("EC:prime256v1")
    assert "'xca root'" in held("--issuers")
    held("--index=index.txt")
    assert "\t1234567890ABCD\tunknown\t/O=Acme/CN=by-xca" in Path("index.txt").read_text()


# --- what we write --------------------------------------------------------------------------


def new_key(alg: str) -> None:
    good("key", "new", "our.key", "--alg", alg, "--pass", "env:P")


@pytest.mark.parametrize("alg", ["p256", "p384", "rsa3072", "ed25519"])
def test_xca_reads_our_keys_encrypted_with_scrypt(alg: str) -> None:
    new_key(alg)
    database(("other", "EC:prime256v1"))
    said = asked("secret", "--database=held.xdb", "--password=env:DATABASE", "--import", "our.key")
    assert "rror" not in said
    assert items() == [("other", 1), ("our", 1)]


@pytest.mark.parametrize(
    ("alg", "form"), [("p256", "pkcs8"), ("p256", "sec1"), ("rsa3072", "pkcs1"), ("p384", "pkcs8")]
)
def test_xca_reads_our_keys_in_clear(alg: str, form: str) -> None:
    new_key(alg)
    more = ("--to", form, "--pass", "env:P", "--no-passphrase")
    good("key", "convert", "our.key", "clear.pem", *more)
    database(("other", "EC:prime256v1"))
    held("--import", "clear.pem")
    assert items() == [("other", 1), ("clear", 1)]


def test_xca_does_not_read_openssh_keys_and_does_once_they_are_converted() -> None:
    new_key("p256")
    more = ("--to", "openssh", "--pass", "env:P", "--no-passphrase")
    good("key", "convert", "our.key", "id_ecdsa", *more)
    database(("other", "EC:prime256v1"))
    held("--import", "id_ecdsa")
    assert items() == [("other", 1)]
    good("key", "convert", "id_ecdsa", "again.key", "--no-passphrase")
    held("--import", "again.key")
    assert items() == [("other", 1), ("again", 1)]


@pytest.mark.parametrize("legacy", [False, True])
def test_xca_reads_our_pkcs12(legacy: bool) -> None:
    good("init", ".", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    certificates = ("--cert", "pki/issued/release.crt", "--cert", "pki/issued/issuing.crt")
    more = (*certificates, "--new-pass", "env:P", *(["--legacy"] if legacy else []))
    good("key", "convert", "pki/private/release.key", "release.p12", "--to", "p12", *more)
    database(("other", "EC:prime256v1"))
    arguments = ("--database=held.xdb", "--password=env:DATABASE", "--import", "release.p12")
    asked("secret", *arguments)
    kinds = sorted(kind for _, kind in items())
    assert kinds == [1, 1, 3, 3]


def test_xca_reads_our_pki_and_makes_a_crl_with_our_root() -> None:
    good("init", ".", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    database(("other", "EC:prime256v1"))
    files = ("pki/ca.crt", "pki/issued/issuing.crt", "pki/issued/release.crt", "pki/crl/ca.pem")
    held("--import", *files, "pki/private/ca.key")
    assert [kind for _, kind in items()] == [1, 3, 3, 3, 4, 1]
    Path("xca.crl").write_text(held("--crlgen=Acme Root CA", "--name=list", "--pem"))
    assert "issuer: CN=Acme Root CA" in good("show", "xca.crl")
    printed = xca("--text", "pki/issued/release.crt")
    assert "Code Signing" in printed


def test_xca_takes_neither_certificates_of_ed25519_nor_keys_of_mldsa() -> None:
    database(("other", "EC:prime256v1"))
    for alg in ("ed25519", "ml-dsa-65"):
        good("init", alg, "--org", "Acme", "--vendor", "acme.example", "--alg", alg,
             "--no-passphrase")  # fmt: skip
    held("--import", "ed25519/pki/issued/release.crt", "ml-dsa-65/pki/private/release.key")
    assert items() == [("other", 1)]
    held("--import", "ml-dsa-65/pki/issued/release.crt")
    assert items() == [("other", 1), ("release", 3)]
