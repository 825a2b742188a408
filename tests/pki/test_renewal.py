# SPDX-License-Identifier: Apache-2.0
"""Renewing, revoking what was renewed, the bundle of CRLs, and what ends soon."""

import shutil
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.keys import ALGORITHMS
from fwsign.keys.file import load_private_key
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.expiry import ending
from fwsign.pki.leaked import unrevoked
from fwsign.pki.leaves import renewed_algorithm
from fwsign.pki.log import read_log
from fwsign.pki.renewal import renew as renew_it
from fwsign.pki.rotation import replace_issuing
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    YEAR,
    check_whole,
    contents,
    hosts_of,
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

LATER = NOW + YEAR


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("renewal") / "pki").directory


@pytest.fixture
def pki(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "pki"))


def renew(pki: Path, name: str, **more: Any) -> Path:
    return renew_it(pki, name, **{"ca_passphrase": no_passphrase, "now": LATER, **more})


def test_renewed_with_the_same_key(pki: Path) -> None:
    old, key = Pki(pki).certificate("release"), (pki / "private/release.key").read_bytes()
    assert renew(pki, "release") == pki / "issued/release.crt"
    new = Pki(pki).certificate("release")
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert (new.subject, hosts_of(new)) == (old.subject, hosts_of(old))
    assert new.not_valid_after_utc == SECOND + YEAR + 730 * DAY
    assert (pki / "private/release.key").read_bytes() == key
    kept = Pki(pki).old_path(old.serial_number).read_bytes()
    assert kept == old.public_bytes(Encoding.PEM)
    renew_lists(pki, LATER)
    pyopenssl_verify(pki, "release", now=LATER)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_renewed_with_a_new_key_of_the_same_kind(alg: str, pki: Path) -> None:
    issue(pki, "x", "server", key=NewKey(alg, None), addresses=[ip_address("192.0.2.7")])
    old = Pki(pki).certificate("x")
    key = (pki / "private/x.key").read_bytes()
    renew(pki, "x", new_key=NewKey("", None), lifetime=30 * DAY)
    new = Pki(pki).certificate("x")
    assert new.public_key() != old.public_key()
    assert renewed_algorithm(new, new) == alg
    assert hosts_of(new) == ["192.0.2.7"]
    assert new.not_valid_after_utc == SECOND + YEAR + 30 * DAY
    assert (pki / "private/x.key.unused-1").read_bytes() == key
    found = load_private_key(Pki(pki).key_path("x"), no_passphrase)
    assert found.public_key() == new.public_key()
    assert Pki(pki).key_path("x") == pki / "private/x.key"


def test_new_key_with_a_passphrase(pki: Path) -> None:
    renew(pki, "release", new_key=NewKey("ed25519", b"secret"))
    path = Pki(pki).key_path("release")
    refused(lambda: load_private_key(path, no_passphrase), "key.passphrase-missing")
    load_private_key(path, lambda: b"secret")


def test_the_issuing_ca_keeps_its_key_and_all_that_it_issued(pki: Path) -> None:
    old = Pki(pki).certificate("issuing")
    renew(pki, "issuing", now=NOW + 9 * YEAR)
    new = Pki(pki).certificate("issuing")
    assert (new.subject, new.public_key()) == (old.subject, old.public_key())
    assert new.not_valid_after_utc == SECOND + 9 * YEAR + timedelta(days=3652)
    constraint = new.extensions.get_extension_for_class(x509.NameConstraints).value
    assert constraint.permitted_subtrees == [x509.DNSName("acme.example")]
    check_whole(pki, set())
    issue(pki, "late", now=NOW + 12 * YEAR)


def test_the_issuing_ca_does_not_outlive_the_root(pki: Path) -> None:
    renew(pki, "issuing", now=NOW + 15 * YEAR)
    assert Pki(pki).certificate("issuing").not_valid_after_utc == Pki(pki).root.not_valid_after_utc
    error = refused(
        partial(renew, pki, "issuing", lifetime=20 * YEAR, now=NOW + 15 * YEAR), "state.pki"
    )
    assert error.message.startswith('the CA "Acme Issuing CA" would be valid until 2061-')


def test_what_cannot_be_renewed(pki: Path) -> None:
    before = contents(pki)
    error = refused(partial(renew, pki, "ca"), "state.pki")
    assert error.message.startswith("a root is not renewed")
    error = refused(partial(renew, pki, "issuing", new_key=NEW), "state.pki")
    assert error.message == 'the CA "issuing" has another key only as another CA'
    refused(partial(renew, pki, "nobody"), "state.pki")
    assert contents(pki) == before


def test_certificate_of_no_kind_of_ours(pki: Path) -> None:
    shutil.copy(pki / "issued/issuing.crt", pki / "issued/odd.crt")
    error = refused(partial(renew, pki, "odd"), "state.pki")
    assert error.message == 'certificate "odd" is of no kind that can be renewed'


def test_a_revoked_key_is_not_certified_again(pki: Path) -> None:
    withdraw(pki, "release")
    error = refused(partial(renew, pki, "release"), "state.pki")
    assert error.message == (
        'certificate "release" was revoked 2026-11-01: only a new key can be certified'
    )
    renew(pki, "release", new_key=NEW)
    assert Pki(pki).revocation("release") is None


@pytest.mark.parametrize("reason", ["keyCompromise", "superseded"])
def test_a_revoked_key_is_not_certified_again_by_a_request(pki: Path, reason: str) -> None:
    key = Pki(pki).certificate("release").public_key()
    withdraw(pki, "release", reason)
    error = refused(partial(renew, pki, "release", new_key=key), "state.pki")
    assert error.message == (
        'certificate "release" was revoked 2026-11-01: only a new key can be certified'
    )


def test_a_leaked_key_is_certified_under_no_name(pki: Path) -> None:
    key = Pki(pki).certificate("release").public_key()
    renew(pki, "release", new_key=NEW)
    issue(pki, "other")
    issue(pki, "third", key=key)  # not yet
    withdraw(pki, "third")
    words = "leaked: a certificate of it was revoked for that reason"
    error = refused(partial(issue, pki, "fourth", key=key), "state.pki")
    assert error.message == f'the key of "fourth" {words}'
    error = refused(partial(renew, pki, "other", new_key=key), "state.pki")
    assert error.message == f'the key of "other" {words}'


def test_a_key_that_did_not_leak_gets_another_name(pki: Path) -> None:
    key = Pki(pki).certificate("release").public_key()
    withdraw(pki, "release", "cessationOfOperation")
    issue(pki, "other", key=key)
    assert Pki(pki).certificate("other").public_key() == key


def test_renewed_by_another_process_meanwhile(pki: Path) -> None:
    def slow() -> None:
        (pki / "private/issuing.key").write_bytes(plain)
        renew(pki, "release")

    plain = (pki / "private/issuing.key").read_bytes()
    from fwsign.keys.file import encode_private_key

    key = load_private_key(pki / "private/issuing.key", no_passphrase)
    (pki / "private/issuing.key").write_bytes(encode_private_key(key, b"x"))

    def passphrase() -> bytes:
        slow()
        return b"x"

    error = refused(partial(renew, pki, "release", ca_passphrase=passphrase), "state.pki-exists")
    assert error.message == 'another process has renewed "release" just now'


# Revoking.


def test_an_old_certificate_is_revoked_by_its_serial_number(pki: Path) -> None:
    old = Pki(pki).certificate("release").serial_number
    renew(pki, "release")
    text = f"{old:x}"
    colons = ":".join(text[at : at + 2] for at in range(0, len(text), 2))
    withdraw(pki, colons, "superseded", now=LATER)
    assert serials(Pki(pki).crl("issuing")) == {old}
    assert Pki(pki).revocation("release") is None
    refused(partial(withdraw, pki, f"0x{old:X}", now=LATER), "state.pki-exists")


@pytest.mark.parametrize("name", ["release", "issuing", "issuing-tls"])
def test_the_older_certificates_of_a_key_are_revoked_with_it(pki: Path, name: str) -> None:
    first = Pki(pki).certificate(name)
    renew(pki, name)
    second = Pki(pki).certificate(name)
    renew(pki, name)
    third = Pki(pki).certificate(name)
    withdraw(pki, name, now=LATER)
    own = {one.serial_number for one in (first, second, third)}
    assert serials(Pki(pki).crl(Pki(pki).issuer_of(first))) == own
    logged = [one.content["serial"] for one in read_log(pki) if one.content["kind"] == "revoke"]
    assert {int(one, 16) for one in logged} == own


def test_short_lived_ones_that_are_over_stay_off_the_crl(pki: Path) -> None:
    issue(pki, "sensor", "client", lifetime=DAY)
    renew(pki, "sensor", lifetime=3 * DAY, now=NOW + DAY)
    second = Pki(pki).certificate("sensor").serial_number
    renew(pki, "sensor", lifetime=DAY, now=NOW + 2 * DAY)
    third = Pki(pki).certificate("sensor").serial_number
    withdraw(pki, "sensor", now=NOW + 2 * DAY)
    assert serials(Pki(pki).crl("issuing-tls")) == {second, third}


def test_what_has_another_key_or_another_ca_is_not_revoked_with_it(pki: Path) -> None:
    old = Pki(pki).certificate("release").serial_number
    renew(pki, "release", new_key=NEW)
    second = Pki(pki).certificate("release")
    replace_issuing(pki, new_key=NEW, passphrase=lambda _: None, now=LATER)
    renew(pki, "release")
    third = Pki(pki).certificate("release")
    issue(pki, "other", key=third.public_key(), now=LATER)
    withdraw(pki, "release", now=LATER)
    assert serials(Pki(pki).crl("issuing-2")) == {third.serial_number}
    left = {(one.serial_number, by) for one, by in unrevoked(Pki(pki), third)}
    other = Pki(pki).certificate("other").serial_number
    assert left == {(second.serial_number, "issuing"), (other, "issuing-2")}
    assert old not in {serial for serial, _ in left}


def test_a_serial_number_that_nobody_has(pki: Path) -> None:
    error = refused(partial(withdraw, pki, "5E0C91"), "state.pki")
    assert error.message.startswith('no certificate "5E0C91" in ')
    error = refused(partial(withdraw, pki, f"{Pki(pki).root.serial_number:X}"), "state.pki")
    assert error.message.startswith("the root cannot be revoked")


def test_the_invalidity_date(pki: Path) -> None:
    withdraw(pki, "release", invalid_since=NOW - 30 * DAY)
    entry = Pki(pki).revocation("release")
    assert entry is not None
    since = entry.extensions.get_extension_for_class(x509.InvalidityDate).value
    assert since.invalidity_date_utc == SECOND - 30 * DAY
    assert entry.revocation_date_utc == SECOND


def test_an_invalidity_date_to_come_is_refused(pki: Path) -> None:
    before = contents(pki)
    error = refused(partial(withdraw, pki, "release", invalid_since=NOW + DAY), "state.clock")
    assert "would be invalid since 2026-11-02" in error.message
    assert contents(pki) == before


# The bundle.


def test_the_bundle_has_all_crls_as_they_are(pki: Path) -> None:
    def bundle() -> list[x509.CertificateRevocationList]:
        data = (pki / "crl/bundle.pem").read_bytes()
        parts = data.split(b"-----BEGIN")[1:]
        return [x509.load_pem_x509_crl(b"-----BEGIN" + part) for part in parts]

    for change in (lambda: None, partial(withdraw, pki, "release"), partial(renew_lists, pki)):
        change()
        assert bundle() == [Pki(pki).crl(name) for name in ("ca", "issuing", "issuing-tls")]


# What ends.


def test_what_ends_soon(pki: Path) -> None:
    assert ending(pki, 90 * DAY, now=NOW) == ()
    found = ending(pki, 90 * DAY, now=NOW + 61 * DAY)  # in the last third of its 90 days
    assert [(crl.kind, crl.name, crl.path) for crl in found] == [
        ("CRL", name, pki / f"crl/{name}.pem") for name in ("issuing", "issuing-tls")
    ]
    renew_lists(pki, NOW + 700 * DAY)
    (signer,) = ending(pki, 90 * DAY, now=NOW + 700 * DAY)
    assert (signer.kind, signer.name) == ("certificate", "release")
    assert signer.end == SECOND + 730 * DAY
    assert ending(pki, 29 * DAY, now=NOW + 700 * DAY) == ()
    withdraw(pki, "release", now=NOW + 700 * DAY)
    assert ending(pki, 90 * DAY, now=NOW + 700 * DAY) == ()
    found = ending(pki, 90 * DAY, now=NOW + 8000 * DAY)
    assert {one.name for one in found} == {"ca", "issuing", "issuing-tls"}
    assert [one.end for one in found] == sorted(one.end for one in found)
    error = refused(partial(ending, pki, -DAY, now=NOW), "state.clock")
    assert error.message == "-1 days from now is in the past"


@pytest.mark.external
def test_openssl_takes_what_was_renewed(pki: Path) -> None:
    renew(pki, "release", new_key=NEW)
    renew(pki, "issuing")
    renew_lists(pki, LATER)
    found = openssl_verify(pki, "release", now=LATER)
    assert found.returncode == 0, found.stderr
