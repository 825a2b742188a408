# SPDX-License-Identifier: Apache-2.0
"""Other roots and other issuing CAs, and ten years in the life of a PKI."""

import shutil
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import FwsignError
from fwsign.format import suit
from fwsign.format.envelope import Envelope, encode_envelope
from fwsign.keys import ALGORITHMS
from fwsign.keys.file import load_private_key
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.expiry import ending
from fwsign.pki.renewal import renew
from fwsign.pki.rotation import Rotation, replace_issuing, rotate, standby
from fwsign.x509.anchor import Anchor
from pki_kit import (
    DAY,
    HOUR,
    NEW,
    NOW,
    SECOND,
    YEAR,
    check_whole,
    contents,
    issue,
    make,
    no_passphrase,
    openssl_verify,
    pyopenssl_verify,
    refused,
    renew_lists,
    serials,
    withdraw,
)
from support import make_block, make_manifest, signed_digest, verify


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("rotation") / "pki").directory


@pytest.fixture
def pki(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "pki"))


def turn(pki: Path, now: datetime = NOW, new_key: NewKey = NEW) -> Rotation:
    return rotate(pki, root_key=new_key, new_key=new_key, passphrase=lambda _: None, now=now)


def signed(pki: Path, name: str) -> bytes:
    """Sign a release with an entry: with its path and its CRLs, as `fwsign sign` does."""
    reader = Pki(pki)
    key = load_private_key(reader.key_path(name), no_passphrase)
    manifest = suit.encode_manifest(make_manifest())
    payload = signed_digest(manifest)
    block = make_block(payload, key, reader.path(name), reader.crls(name))
    return encode_envelope(Envelope(payload, (block,), manifest, None, {}))


def check_device(pki: Path, name: str, now: datetime, *roots: str) -> None:
    """What an entry signs verifies on a device that pins some roots, strictly and with CRLs."""
    release = signed(pki, name)
    for root in roots:
        verify(release, [root_of(pki, root)], at=now, profile="strict", revocation="require")


def root_of(pki: Path, name: str = "ca") -> Anchor:
    return Anchor.from_certificate(Pki(pki).certificate(name).public_bytes(Encoding.DER))


# Standby.


def test_standby_is_a_root_that_issues_nothing_yet(pki: Path) -> None:
    before = contents(pki)
    assert standby(pki, new_key=NEW, now=NOW + DAY) == "standby"
    new = set(contents(pki)) - set(before)
    assert new == {"standby.crt", "private/standby.key", "crl/standby.pem"}
    certificate = Pki(pki).certificate("standby")
    assert certificate.subject.rfc4514_string() == "CN=Acme Root CA 2,O=Acme"
    assert certificate.issuer == certificate.subject
    assert certificate.not_valid_after_utc == SECOND + DAY + 7305 * DAY
    assert Pki(pki).roots() == ("ca", "standby")
    issue(pki, "ci")
    assert Pki(pki).issuers("ci") == ("issuing", "ca")
    check_whole(pki, set())
    error = refused(partial(standby, pki, new_key=NEW, now=NOW), "state.pki-exists")
    assert error.message == f"there is a standby root already: {pki / 'standby.crt'}"


def test_promoted_standby_serves_devices_that_know_one_root_or_the_other(pki: Path) -> None:
    standby(pki, new_key=NEW, now=NOW)
    now = NOW + YEAR
    assert turn(pki, now) == Rotation("standby", "standby-by-ca", "issuing-2", "issuing-tls-2")
    renew_lists(pki, now)
    issue(pki, "next", now=now)
    assert Pki(pki).issuers("next") == ("issuing-2", "standby", "ca")
    check_device(pki, "next", now, "ca", "standby")
    check_device(pki, "release", now, "ca")
    standby(pki, new_key=NEW, now=now)
    assert Pki(pki).roots() == ("ca", "standby", "standby-2")


def test_lost_root(pki: Path) -> None:
    (pki / "private/ca.key").unlink()
    error = refused(partial(turn, pki), "state.pki")
    assert error.message == (
        'the key of the root "Acme Root CA" is not here and there is no standby: '
        "devices would not know a new root"
    )
    assert error.hint == (
        f"bring {pki / 'private/ca.key'} here from where the root is, and take it away "
        "afterwards; or fwsign pki standby, and rotate when devices know it"
    )
    standby(pki, new_key=NEW, now=NOW)
    assert turn(pki) == Rotation("standby", None, "issuing-2", "issuing-tls-2")
    issue(pki, "next")
    assert Pki(pki).issuers("next") == ("issuing-2", "standby")
    assert Pki(pki).anchor("next") == Pki(pki).certificate("standby")
    check_device(pki, "next", NOW, "standby")
    with pytest.raises(FwsignError) as caught:
        check_device(pki, "next", NOW, "ca")
    assert caught.value.code == "untrusted.no-anchor"


# Rotation.


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_rotated(alg: str, tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", alg).directory
    now = NOW + YEAR
    assert turn(pki, now, NewKey(alg, None)) == Rotation(
        "ca-2", "ca-2-by-ca", "issuing-2", "issuing-tls-2"
    )
    renew_lists(pki, now)
    issue(pki, "next", key=NewKey(alg, None), now=now)
    check_whole(pki, set())
    for root in ("ca", "ca-2"):
        check_device(pki, "next", now, root)
    check_device(pki, "release", now, "ca")
    pyopenssl_verify(pki, "next", now=now)
    crossed = Pki(pki).certificate("ca-2-by-ca")
    basic = crossed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, None)
    assert crossed.not_valid_before_utc == SECOND + YEAR - HOUR
    assert crossed.not_valid_after_utc == Pki(pki).root.not_valid_after_utc


def test_what_was_before_stays_and_can_be_revoked(pki: Path) -> None:
    before = contents(pki)
    turn(pki)
    after = contents(pki)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"crl/bundle.pem", "log.jsonl"}
    assert withdraw(pki, "release") == pki / "crl/issuing.pem"
    assert serials(Pki(pki).crl("issuing")) == {Pki(pki).certificate("release").serial_number}
    error = refused(partial(withdraw, pki, "ca-2"), "state.pki")
    assert error.message.startswith("the root cannot be revoked")


def test_revoked_cross_certificate_leaves_the_path(pki: Path) -> None:
    turn(pki)
    issue(pki, "next")
    release = signed(pki, "next")
    assert withdraw(pki, "ca-2-by-ca", "superseded") == pki / "crl/ca.pem"
    assert Pki(pki).issuers("next") == ("issuing-2", "ca-2")
    check_device(pki, "next", NOW, "ca-2")
    verify(release, [root_of(pki, "ca-2")], at=NOW)


def test_renewed_under_the_new_ca(pki: Path) -> None:
    turn(pki)
    renew(pki, "release", ca_passphrase=no_passphrase, now=NOW)
    assert Pki(pki).issuers("release") == ("issuing-2", "ca-2", "ca")
    check_device(pki, "release", NOW, "ca", "ca-2")


def test_rotated_twice(pki: Path) -> None:
    turn(pki)
    assert turn(pki, NOW + DAY) == Rotation("ca-3", "ca-3-by-ca-2", "issuing-3", "issuing-tls-3")
    issue(pki, "next", now=NOW + DAY)
    assert Pki(pki).issuers("next") == ("issuing-3", "ca-3", "ca-2", "ca")
    check_device(pki, "next", NOW + DAY, "ca", "ca-2", "ca-3")
    check_whole(pki, set())


def test_another_issuing_ca(pki: Path) -> None:
    name = replace_issuing(pki, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert name == "issuing-2"
    certificate = Pki(pki).certificate(name)
    assert certificate.subject.rfc4514_string() == "CN=Acme Issuing CA 2,O=Acme"
    issue(pki, "next")
    assert Pki(pki).issuers("next") == ("issuing-2", "ca")
    check_device(pki, "next", NOW, "ca")
    check_device(pki, "release", NOW, "ca")


def test_names_of_long_organisations(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", org="\u00e4" * 26 + "x").directory  # 53 octets
    turn(pki)
    for name in ("ca-2", "issuing-2"):
        (common,) = (
            Pki(pki).certificate(name).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        )
        assert str(common.value).endswith(" 2")
        assert len(str(common.value).encode()) <= 64


def test_passphrases_of_both_roots(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", root_passphrase=b"old").directory
    standby(pki, new_key=NewKey("p256", b"spare"), now=NOW)
    asked: list[str] = []

    def passphrase(name: str) -> bytes:
        asked.append(name)
        return {"ca": b"old", "standby": b"spare"}[name]

    rotate(pki, root_key=NEW, new_key=NEW, passphrase=passphrase, now=NOW)
    assert asked == ["ca", "standby"]


@pytest.mark.external
@pytest.mark.parametrize("spare", [False, True])
def test_openssl_takes_the_crossed_path(pki: Path, *, spare: bool) -> None:
    if spare:
        standby(pki, new_key=NEW, now=NOW)
    done = turn(pki)
    issue(pki, "next")
    for root in ("ca", done.root):
        found = openssl_verify(pki, "next", root=root)
        assert found.returncode == 0, found.stderr
    assert openssl_verify(pki, "release").returncode == 0
    assert openssl_verify(pki, "release", root=done.root).returncode == 2


# Ten years.


def test_ten_years_in_the_life_of_a_pki(tmp_path: Path) -> None:
    """Devices that pin the first root accept every release, whatever happened since."""
    pki = make(tmp_path / "pki", now=NOW).directory
    revoked = set[int]()
    roots = ["ca"]
    for quarter in range(41):
        now = NOW + quarter * YEAR / 4
        if quarter % 4 == 0 and quarter:  # a new key for the signer, each year
            old = Pki(pki).certificate("release").serial_number
            renew(pki, "release", new_key=NEW, ca_passphrase=no_passphrase, now=now)
            if quarter == 12:
                withdraw(pki, f"{old:X}", now=now)
                revoked.add(old)
        if quarter == 20:
            renew(pki, "issuing", ca_passphrase=no_passphrase, now=now)
        if quarter == 28:
            turn(pki, now)
            renew(pki, "release", ca_passphrase=no_passphrase, now=now)
            roots.append("ca-2")
        renew_lists(pki, now)
        check_whole(pki, revoked)
        check_device(pki, "release", now, *roots)
        assert [one for one in ending(pki, 20 * DAY, now=now) if one.kind == "CRL"] == []
        if quarter % 10 == 0:
            pyopenssl_verify(pki, "release", now=now)
    assert roots == ["ca", "ca-2"]
    assert len(list((pki / "certs_by_serial").iterdir())) == 12
