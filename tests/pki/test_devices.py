"""Identities of devices (IEEE 802.1AR), and certificates that live for hours."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fwsign.pki.directory import Pki
from fwsign.pki.expiry import ending
from fwsign.pki.leaves import DeviceIdentity, leaf_of
from fwsign.pki.lint.run import lint
from fwsign.pki.paths.purpose import AcceptedPath, judge_pool
from fwsign.pki.renewal import renew
from fwsign.pki.report.inventory import Standing, read
from fwsign.spans import parse_span, plain_span
from fwsign.x509.anchor import Anchor
from pki_kit import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    extensions,
    issue,
    make,
    no_passphrase,
    openssl,
    openssl_verify,
    refused,
    renew_lists,
    usage,
    withdraw,
)

SN = DeviceIdentity("SN-0017")
ENDLESS = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki").directory


def born(pki: Path, name: str = "sn-0017", device: DeviceIdentity | None = SN, **more: Any) -> Path:
    return issue(pki, name, "idevid", device=device, **more)


def verdict(pki: Path, name: str, at: datetime) -> Any:
    found = Pki(pki)
    path = found.path(name)
    anchor = Anchor.from_certificate(found.root.public_bytes(Encoding.DER))
    crls = found.crls(name)
    return judge_pool(path[0], path, [anchor], purpose="client", at=at, crls=crls).verdict


def test_the_profile_of_an_identity(pki: Path) -> None:
    certificate = x509.load_pem_x509_certificate(born(pki).read_bytes())
    assert certificate.not_valid_after_utc == ENDLESS
    assert b"99991231235959Z" in certificate.public_bytes(Encoding.DER)
    assert [(one.oid, one.value) for one in certificate.subject] == [
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.COMMON_NAME, "sn-0017"),
        (NameOID.SERIAL_NUMBER, "SN-0017"),
    ]
    assert usage(certificate) == {"digital_signature"}
    eku = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(eku.value), eku.critical) == ([ExtendedKeyUsageOID.CLIENT_AUTH], False)
    assert len(extensions(certificate)) == 5
    assert isinstance(verdict(pki, "sn-0017", NOW), AcceptedPath)
    assert openssl_verify(pki, "sn-0017", "-purpose", "sslclient").returncode == 0


def test_the_hardware_module_is_an_other_name(pki: Path) -> None:
    path = born(pki, device=DeviceIdentity("SN-0017", ("1.3.6.1.4.1.99999.7", b"\0\xff")))
    assert "serialNumber = SN-0017" in openssl("x509", "-in", path, "-noout", "-subject").stdout
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (name,) = names.get_values_for_type(x509.OtherName)
    assert name.type_id.dotted_string == "1.3.6.1.5.5.7.8.4"
    assert name.value.hex() == "300f06092b06010401868d1f07040200ff"
    leaf = leaf_of(certificate)
    assert leaf
    assert leaf.device == DeviceIdentity("SN-0017", ("1.3.6.1.4.1.99999.7", b"\0\xff"))
    assert isinstance(verdict(pki, "sn-0017", NOW), AcceptedPath)
    assert openssl_verify(pki, "sn-0017").returncode == 0


def test_a_device_has_one_identity(pki: Path) -> None:
    born(pki)
    found = refused(lambda: born(pki, "other"), "state.pki-exists")
    words = 'the device with serial number "SN-0017" is "sn-0017" already, not "other"'
    assert found.message == words
    born(pki, "other", DeviceIdentity("SN-0018"))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (None, 'device "x" has no serial number'),
        (
            DeviceIdentity(""),
            '"" cannot be the serial number of a device: it is not 1 to 64 of A-Z',
        ),
        (DeviceIdentity(" a"), '" a" cannot be the serial number'),
        (DeviceIdentity("a\n"), '"a\n" cannot be the serial number'),
        (DeviceIdentity("a_b"), '"a_b" cannot be the serial number'),
        (DeviceIdentity("\u00e4"), '"\u00e4" cannot be the serial number'),
        (DeviceIdentity("a" * 65), f'"{"a" * 65}" cannot be the serial number'),
        (DeviceIdentity("a", ("1.2.3", b"")), "the serial number of a hardware module has 0 bytes"),
        (
            DeviceIdentity("a", ("1.2.3", bytes(65))),
            "the serial number of a hardware module has 65 bytes",
        ),
    ],
)
def test_impossible_devices_are_refused(
    pki: Path, device: DeviceIdentity | None, message: str
) -> None:
    found = refused(lambda: born(pki, "x", device), "state.policy")
    assert found.message.startswith(message)


def test_an_identity_lives_as_long_as_its_ca_is_renewed(pki: Path) -> None:
    born(pki)
    end = Pki(pki).certificate("issuing-tls").not_valid_after_utc
    late = end + DAY
    renew_lists(pki, end - DAY)
    refusal = verdict(pki, "sn-0017", late)
    assert (refusal.code, refusal.message.partition(" expired")[0]) == (
        "stale.certificate",
        'certificate "Acme TLS CA"',
    )
    assert openssl_verify(pki, "sn-0017", now=late).returncode != 0
    renew(pki, "issuing-tls", ca_passphrase=no_passphrase, now=end - DAY)
    renew_lists(pki, late)
    assert isinstance(verdict(pki, "sn-0017", late), AcceptedPath)
    assert openssl_verify(pki, "sn-0017", now=late).returncode == 0


def test_expire_names_its_ca_instead(pki: Path) -> None:
    born(pki)
    end = Pki(pki).certificate("issuing-tls").not_valid_after_utc
    found = ending(pki, 20 * DAY, now=end - 10 * DAY)
    assert "issuing-tls" in [one.name for one in found]
    assert "sn-0017" not in [one.name for one in found]
    withdraw(pki, "issuing-tls")
    assert "sn-0017" in [one.name for one in ending(pki, DAY, now=NOW)]


def test_show_draws_it_until_its_ca_ends(pki: Path) -> None:
    born(pki)
    found = read(pki)
    entry = next(one for one in found.entries if one.facts.common_name == "sn-0017")
    assert entry.end == Pki(pki).certificate("issuing-tls").not_valid_after_utc
    assert entry.standing(NOW) is Standing.OK


def test_renewing_keeps_the_identity(pki: Path) -> None:
    born(pki, device=DeviceIdentity("SN-0017", ("1.3.6.1.4.1.99999.7", b"\1")))
    before = leaf_of(Pki(pki).certificate("sn-0017"))
    renew(pki, "sn-0017", ca_passphrase=no_passphrase, now=NOW + DAY)
    certificate = Pki(pki).certificate("sn-0017")
    assert certificate.not_valid_after_utc == ENDLESS
    assert leaf_of(certificate) == before


# --- hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [timedelta(minutes=10), 24 * HOUR, 7 * DAY])
def test_short_lived_certificates_are_good(pki: Path, life: timedelta) -> None:
    issue(pki, "x", "client", lifetime=life)
    certificate = Pki(pki).certificate("x")
    assert certificate.not_valid_before_utc == SECOND - HOUR
    assert certificate.not_valid_after_utc == SECOND + life
    assert isinstance(verdict(pki, "x", SECOND), AcceptedPath)
    assert isinstance(verdict(pki, "x", SECOND + life), AcceptedPath)
    late = SECOND + life + timedelta(seconds=1)
    refusal = verdict(pki, "x", late)
    assert refusal.code == "stale.certificate"
    form = "%Y-%m-%d %H:%M:%S"
    words = f'certificate "x" expired {SECOND + life:{form}}, it is {late:{form}}'
    assert refusal.message == words
    assert openssl_verify(pki, "x", now=SECOND + life / 2).returncode == 0


def test_expire_names_short_lived_ones_in_their_last_third(pki: Path) -> None:
    issue(pki, "x", "client", lifetime=24 * HOUR)

    def named(at: datetime) -> bool:
        return "x" in [one.name for one in ending(pki, 90 * DAY, now=at)]

    assert [named(SECOND + at) for at in (HOUR, 15 * HOUR, 17 * HOUR, 25 * HOUR, 5 * DAY)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert not named(SECOND + 12 * DAY)  # it was given up


def test_a_certificate_of_a_month_counts_as_any(pki: Path) -> None:
    issue(pki, "x", "client", lifetime=30 * DAY)
    assert "x" in [one.name for one in ending(pki, 90 * DAY, now=NOW)]


def test_lint_is_silent_about_them_until_the_last_third(pki: Path) -> None:
    issue(pki, "x", "client", lifetime=24 * HOUR)

    def said(at: datetime) -> list[str]:
        codes = ("lint.expires-soon", "lint.expired")
        return [one.message for one in lint(pki, now=at).findings if one.code in codes]

    assert said(SECOND + HOUR) == []
    assert said(SECOND + 20 * HOUR) == ["expires 2026-11-02, in 4 hours"]


def test_show_is_calm_about_them_until_the_last_share(pki: Path) -> None:
    issue(pki, "x", "client", lifetime=24 * HOUR)
    entry = next(one for one in read(pki).entries if one.facts.common_name == "x")
    assert entry.standing(SECOND + HOUR) is Standing.OK
    assert entry.standing(SECOND + 23 * HOUR) is Standing.SOON
    assert entry.standing(SECOND + 25 * HOUR) is Standing.EXPIRED


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0 minutes"),
        (timedelta(seconds=119), "1 minute"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(minutes=120), "2 hours"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(hours=48), "2 days"),
        (timedelta(days=800), "800 days"),
    ],
)
def test_spans_are_plain(span: timedelta, words: str) -> None:
    assert plain_span(span) == words


@pytest.mark.parametrize(
    ("text", "span"),
    [("30min", HOUR / 2), ("24h", DAY), ("30m", None), ("30 min", None), ("min", None)],
)
def test_minutes_are_spelt_out(text: str, span: timedelta | None) -> None:
    assert parse_span(text) == span
