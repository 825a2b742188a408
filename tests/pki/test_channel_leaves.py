"""Certificates for channels: their vendors, and the CAs that were made before there were any."""

from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.pki.authority import open_authority
from fwsign.pki.crls import write_bundle
from fwsign.pki.directory import Pki
from fwsign.pki.leaves import leaf_of
from fwsign.pki.paths.purpose import AcceptedPath, judge_pool
from fwsign.pki.profiles import CaLimits, issuing_certificate, usages_of
from fwsign.pki.renewal import renew
from fwsign.pki.rotation import replace_issuing
from fwsign.pki.view.entry import facts
from fwsign.x509.anchor import Anchor
from fwsign.x509.roles import CONFIG_SIGNING
from pki_kit import NEW, NOW, issue, make, no_passphrase, refused

OLD_USAGES = (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki").directory


@pytest.fixture
def older(pki: Path) -> Path:
    """Return a PKI whose issuing CA was made before there were channels."""
    reader = Pki(pki)
    root, old = open_authority(reader, "ca", no_passphrase), reader.certificate("issuing")
    limits = CaLimits(("acme.example",), OLD_USAGES)
    key = old.public_key()
    made = issuing_certificate(key, old.subject, limits, root, NOW)  # type: ignore[arg-type]
    reader.certificate_path("issuing").write_bytes(made.public_bytes(Encoding.PEM))
    write_bundle(reader)
    return pki


def der(pki: Path, name: str) -> bytes:
    return Pki(pki).certificate(name).public_bytes(Encoding.DER)


def test_its_vendor_is_that_of_the_ca(pki: Path) -> None:
    issue(pki, "rollout", "channel")
    found = facts(Pki(pki).certificate("rollout"))
    assert found.names == ("acme.example",)
    assert (found.use, found.extended_key_usage) == ("channel", ("configSigning",))
    again = leaf_of(Pki(pki).certificate("rollout"))
    assert again is not None
    assert (again.kind, again.domains) == ("channel", ("acme.example",))
    error = refused(
        partial(issue, pki, "x", "channel", domains=["other.example"]), "state.ca-limit"
    )
    assert error.message == (
        'vendor "other.example" is outside what the CA "Acme Issuing CA" is limited to: '
        "acme.example"
    )


def test_a_ca_from_before_channels_refuses_and_says_what_helps(older: Path) -> None:
    error = refused(partial(issue, older, "rollout", "channel"), "state.pki")
    assert error.message == (
        'the CA "Acme Issuing CA" may not issue a channel: it is for codeSigning, timeStamping'
    )
    assert (
        error.hint
        == "fwsign pki renew issuing lets it issue for channels, too, with the root's key"
    )
    assert not Pki(older).certificate_path("rollout").exists()


def test_its_next_certificate_lets_it(older: Path) -> None:
    renew(older, "issuing", ca_passphrase=no_passphrase, now=NOW)
    assert usages_of(Pki(older).certificate("issuing")) == (*OLD_USAGES, CONFIG_SIGNING)
    issue(older, "rollout", "channel")
    accepts(older, "rollout")


def test_so_does_the_ca_that_follows_it(older: Path) -> None:
    replace_issuing(older, "issuing", new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert usages_of(Pki(older).certificate("issuing-2")) == (*OLD_USAGES, CONFIG_SIGNING)
    issue(older, "rollout", "channel")
    accepts(older, "rollout")


def test_a_ca_for_tls_never_gets_it(pki: Path) -> None:
    before = usages_of(Pki(pki).certificate("issuing-tls"))
    renew(pki, "issuing-tls", ca_passphrase=no_passphrase, now=NOW)
    assert usages_of(Pki(pki).certificate("issuing-tls")) == before


def accepts(pki: Path, name: str) -> None:
    reader = Pki(pki)
    pool = [der(pki, one) for one in reader.issuers(name)]
    anchors = [Anchor.from_certificate(der(pki, "ca"))]
    for purpose, good in (("channel", True), ("codesign", False)):
        verdict = judge_pool(der(pki, name), pool, anchors, purpose=purpose, at=NOW).verdict  # type: ignore[arg-type]
        assert isinstance(verdict, AcceptedPath) is good
