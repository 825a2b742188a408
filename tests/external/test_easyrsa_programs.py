"""PKIs that the real easy-rsa and openssl ca make, taken over; and the old ones go on."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from cli.kit import good, run, tree
from fwsign.pki.lint.run import lint
from support import require_program

pytestmark = pytest.mark.external
VENDOR = ("--vendor", "acme.example")


def call(arguments: Sequence[object], where: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(one) for one in arguments],
        cwd=where,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


class EasyRsa:
    """An easy-rsa directory with a CA, two signers of which one is revoked, and a CRL."""

    def __init__(self, folder: Path, alg: str, passphrase: str | None) -> None:
        self.home = folder / "easy-rsa"
        call([require_program("make-cadir"), self.home], folder)
        more = {"EASYRSA_CURVE": "prime256v1"} if alg == "ec" else {"EASYRSA_KEY_SIZE": alg}
        self.env = {
            "EASYRSA_BATCH": "1",
            "EASYRSA_REQ_CN": "Acme Root",
            "EASYRSA_ALGO": "ec" if alg == "ec" else "rsa",
            **more,
        }
        self.protect = ["nopass"]
        if passphrase is not None:
            self.env |= {"EASYRSA_PASSIN": f"pass:{passphrase}"}
            self.env |= {"EASYRSA_PASSOUT": f"pass:{passphrase}"}
            self.protect = []
        self("init-pki")
        self("build-ca", *self.protect)
        for name in ("fw-signer", "stolen"):
            self.signer(name)
        self("revoke", "stolen", "keyCompromise")
        self("gen-crl")

    def __call__(self, *arguments: str) -> str:
        return call(["./easyrsa", *arguments], self.home, self.env)

    def signer(self, name: str) -> None:
        self.env["EASYRSA_REQ_CN"] = name
        self("gen-req", name, *self.protect)
        self("sign-req", "code-signing", name)

    def crl(self) -> x509.CertificateRevocationList:
        self("gen-crl")
        return x509.load_pem_x509_crl((self.home / "pki/crl.pem").read_bytes())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in [*os.environ]:
        if key.startswith(("FWSIGN_", "EASYRSA")) and not key.startswith("FWSIGN_REQ"):
            monkeypatch.delenv(key)


def serials(path: str | Path) -> set[int]:
    return {one.serial_number for one in x509.load_pem_x509_crl(Path(path).read_bytes())}


def sign(name: str, *more: str) -> None:
    Path("build.bin").write_bytes(b"firmware")
    good("sign", "build.bin", "--pki", "fwsign-pki", "--signer", name, "--force", *VENDOR,
         "--product", "x1", *more)  # fmt: skip


VERIFY = ("verify", "build.bin.suit", "--anchor", "fwsign-pki/ca.crt", *VENDOR)


def test_an_easyrsa_pki_is_taken_over_and_easyrsa_goes_on(tmp_path: Path) -> None:
    old = EasyRsa(tmp_path, "ec", None)
    before = tree(old.home)
    good("pki", "import", old.home, *VENDOR, "--no-passphrase")
    assert tree(old.home) == before
    issued = x509.load_pem_x509_certificate(Path("fwsign-pki/issued/fw-signer.crt").read_bytes())
    text = (old.home / "pki/issued/fw-signer.crt").read_bytes()
    assert issued == x509.load_pem_x509_certificate(text)
    assert serials("fwsign-pki/crl/ca.pem") == serials(old.home / "pki/crl.pem")

    sign("fw-signer")
    assert run(*VERIFY).status == 1  # strict
    good(*VERIFY, "--profile", "compat", "--revocation", "require")
    good("pki", "issue", "signer", "new", "--pki", "fwsign-pki", "--no-passphrase")
    sign("new")
    good(*VERIFY, "--profile", "compat", "--revocation", "require")

    good("pki", "revoke", "fw-signer", "--reason", "superseded", "--pki", "fwsign-pki")
    assert len(serials("fwsign-pki/crl/ca.pem")) == 2
    good("pki", "crl", "--pki", "fwsign-pki")
    assert len(serials("fwsign-pki/crl/ca.pem")) == 2

    old.signer("later")
    old("revoke", "fw-signer", "superseded")
    assert len(old.crl()) == 2


def test_keys_of_an_easyrsa_pki_stay_encrypted_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = EasyRsa(tmp_path, "ec", "rootpw")
    monkeypatch.setenv("OLD", "rootpw")
    monkeypatch.setenv("NEW", "issuingpw")
    good("pki", "import", old.home / "pki", *VENDOR, "--ca-pass", "env:OLD", "--pass", "env:NEW")
    for name in ("ca", "fw-signer"):
        key = Path(f"fwsign-pki/private/{name}.key")
        assert key.read_bytes() == (old.home / f"pki/private/{name}.key").read_bytes()
        assert os.name == "nt" or key.stat().st_mode & 0o077 == 0
    sign("fw-signer", "--pass", "env:OLD")
    good(*VERIFY, "--profile", "compat")


def test_a_revocation_that_no_crl_has_yet_is_kept(tmp_path: Path) -> None:
    old = EasyRsa(tmp_path, "ec", None)
    old("revoke", "fw-signer", "cessationOfOperation")  # and no gen-crl
    good("pki", "import", old.home, *VENDOR, "--no-passphrase")
    crl = x509.load_pem_x509_crl(Path("fwsign-pki/crl/ca.pem").read_bytes())
    reasons = [one.extensions.get_extension_for_class(x509.CRLReason).value for one in crl]
    wanted = ["cessationOfOperation", "keyCompromise"]
    assert sorted(one.reason.value for one in reasons) == wanted


def test_easyrsa_of_rsa_2048_is_taken_over(tmp_path: Path) -> None:
    old = EasyRsa(tmp_path, "2048", None)
    good("pki", "import", old.home, *VENDOR, "--no-passphrase")
    good("pki", "issue", "signer", "new", "--pki", "fwsign-pki", "--no-passphrase")
    sign("new")
    good(*VERIFY, "--profile", "compat", "--revocation", "require")
    found = {
        (one.code, one.subject) for one in lint(Path("fwsign-pki"), now=datetime.now(UTC)).findings
    }
    assert ("lint.key", "fw-signer") in found
    assert ("lint.key", "Acme Root") not in found
    good("pki", "crl", "--pki", "fwsign-pki")
    good("pki", "revoke", "fw-signer", "--reason", "superseded", "--pki", "fwsign-pki")


OPENSSL_CNF = """
[ca]
default_ca = own
[own]
dir = {dir}
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
rand_serial = yes
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 700
default_crl_days = 30
policy = any
[any]
commonName = supplied
[signer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, codeSigning
subjectAltName = DNS:acme.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def test_an_openssl_ca_is_taken_over_and_openssl_goes_on(tmp_path: Path) -> None:
    openssl = require_program("openssl")
    home = tmp_path / "demoCA"
    for part in ("newcerts", "private"):
        (home / part).mkdir(parents=True)
    (home / "index.txt").touch()
    (home / "crlnumber").write_text("1000\n")
    (tmp_path / "ca.cnf").write_text(OPENSSL_CNF.format(dir=home))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    call([openssl, "req", "-x509", *curve, "-keyout", home / "private/cakey.pem", "-days", "3650",
          "-out", home / "cacert.pem", "-subj", "/CN=OS Root"], tmp_path)  # fmt: skip
    authority = [openssl, "ca", "-config", "ca.cnf", "-batch"]
    for one in ("good", "bad"):
        call([openssl, "req", *curve, "-keyout", f"{one}.key", "-out", f"{one}.csr", "-subj",
              f"/CN={one}"], tmp_path)  # fmt: skip
        call([*authority, "-extensions", "signer", "-in", f"{one}.csr", "-out", f"{one}.crt"],
             tmp_path)  # fmt: skip
    call([*authority, "-revoke", "bad.crt", "-crl_reason", "keyCompromise"], tmp_path)
    before = tree(home)
    good("pki", "import", tmp_path, *VENDOR, "--no-passphrase")
    assert tree(home) == before
    [bad] = serials("fwsign-pki/crl/ca.pem")
    assert bad == x509.load_pem_x509_certificate(Path("bad.crt").read_bytes()).serial_number

    good("pki", "issue", "signer", "new", "--pki", "fwsign-pki", "--no-passphrase")
    sign("new")
    good(*VERIFY, "--profile", "compat", "--revocation", "require")
    anchor = ("--anchor", "fwsign-pki/ca.crt", "--profile", "compat")
    crl = ("--crl", "fwsign-pki/crl/ca.pem")
    good("pki", "verify", "good.crt", *anchor, *crl)
    assert "key compromise" in run("pki", "verify", "bad.crt", *anchor, *crl).errors[0]
    call([*authority, "-gencrl", "-out", "old.pem"], tmp_path)
    assert serials("old.pem") == {bad}
