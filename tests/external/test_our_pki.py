"""The PKI that `fwsign init` makes, judged by openssl crl and certtool.

`pki_kit` puts every PKI of the other tests to `openssl verify -x509_strict`.
"""

import subprocess
from pathlib import Path

import pytest

from cli.kit import good
from support import require_program

pytestmark = pytest.mark.external
ALGORITHMS = ("p256", "p384", "ed25519", "rsa3072")


@pytest.fixture(params=ALGORITHMS)
def pki(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PKI of today with a signer."""
    monkeypatch.chdir(tmp_path)
    more = ("--vendor", "acme.example", "--alg", str(request.param), "--no-passphrase")
    good("init", ".", "--org", "Acme", *more)
    return tmp_path / "pki"


def call(*arguments: object) -> str:
    program, *rest = map(str, arguments)
    done = subprocess.run(
        [require_program(program), *rest],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_openssl_verifies_the_crls_and_reads_their_number(pki: Path) -> None:
    for crl, ca in (("ca", "ca.crt"), ("issuing", "issued/issuing.crt")):
        shown = call("openssl", "crl", "-in", pki / f"crl/{crl}.pem", "-CAfile", pki / ca, "-text")
        assert "verify OK" in shown
        assert "X509v3 CRL Number" in shown


def test_certtool_verifies_it(pki: Path) -> None:
    names = ("issued/release.crt", "issued/issuing.crt", "ca.crt")
    chain = pki / "chain.pem"
    chain.write_bytes(b"".join((pki / name).read_bytes() for name in names))
    told = call("certtool", "--verify", "--load-ca-certificate", pki / "ca.crt", "--infile", chain)
    assert "Verified. The certificate is trusted." in told
    told = call("certtool", "--crl-info", "--infile", pki / "crl/issuing.pem")
    assert "CRL Number" in told
