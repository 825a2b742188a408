"""`fwsign pki export`: roots for devices, chains for TLS."""

from pathlib import Path

import pytest
from cryptography import x509

from cli.kit import good, run
from support import PAYLOAD

pytestmark = pytest.mark.usefixtures("pki")


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    good("pki", "init", "pki", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    return tmp_path / "pki"


def subjects(file: str) -> list[str]:
    found = x509.load_pem_x509_certificates(Path(file).read_bytes())
    return [one.subject.rfc4514_string() for one in found]


def test_a_bundle_has_every_root_and_devices_take_it() -> None:
    good("pki", "standby", "--pki", "pki", "--no-passphrase")
    assert good("pki", "export", "bundle", "anchors.pem", "--pki", "pki") == "anchors.pem\n"
    assert subjects("anchors.pem") == ["CN=Acme Root CA,O=Acme", "CN=Acme Root CA 2,O=Acme"]
    Path("x.bin").write_bytes(PAYLOAD)
    good("sign", "x.bin", "--pki", "pki", "--product", "x1")
    good("verify", "x.bin.suit", "--anchor", "anchors.pem")
    good("pki", "rotate", "--pki", "pki", "--no-passphrase")
    good("pki", "renew", "release", "--pki", "pki")
    good("sign", "x.bin", "--pki", "pki", "--product", "x1", "--force")
    good("verify", "x.bin.suit", "--anchor", "anchors.pem")


def test_a_chain_goes_up_to_the_root_and_leaves_it_out() -> None:
    good("pki", "issue", "client", "sensor-7", "--pki", "pki", "--no-passphrase")
    good("pki", "export", "chain", "sensor-7", "sensor-7.pem", "--pki", "pki")
    assert subjects("sensor-7.pem") == ["CN=sensor-7,O=Acme", "CN=Acme TLS CA,O=Acme"]


def test_what_is_not_there_is_named() -> None:
    found = run("pki", "export", "chain", "nobody", "x.pem", "--pki", "pki")
    assert found.status == 5
    assert "nobody" in found.err
    assert not Path("x.pem").exists()


def test_files_are_not_replaced_and_keys_never_are() -> None:
    good("pki", "export", "bundle", "anchors.pem", "--pki", "pki")
    found = run("pki", "export", "bundle", "anchors.pem", "--pki", "pki")
    assert (found.status, "exists already" in found.err) == (5, True)
    good("pki", "export", "bundle", "anchors.pem", "--pki", "pki", "--force")
    key = Path("pki/private/release.key")
    before = key.read_bytes()
    found = run("pki", "export", "bundle", key, "--pki", "pki", "--force")
    assert (found.status, "has a private key" in found.err) == (2, True)
    assert key.read_bytes() == before
