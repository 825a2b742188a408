# SPDX-License-Identifier: Apache-2.0
"""A lost CRL comes back from a copy, and neither an entry nor the order of numbers is lost."""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.pki.acceptance import accept
from fwsign.pki.crls import make_crl
from fwsign.pki.directory import Pki
from fwsign.pki.offline import create_requests, sign_request
from fwsign.pki.request import parse_request
from fwsign.pki.revocation import renew_crls
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    contents,
    issue,
    make,
    no_passphrase,
    number,
    refused,
    renew_lists,
    serials,
    withdraw,
)

LOST = "crl/issuing.pem"
TLS = "crl/issuing-tls.pem"
BUNDLE = "crl/bundle.pem"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A PKI in which `gone` was revoked, and whose issuing CA's CRL is lost."""
    made = make(tmp_path / "pki").directory
    issue(made, "gone")
    withdraw(made, "gone")
    (made / LOST).unlink()
    return made


@pytest.fixture
def gone(pki: Path) -> int:
    return Pki(pki).certificate("gone").serial_number


def bundled(pki: Path) -> list[x509.CertificateRevocationList]:
    marks = (pki / BUNDLE).read_bytes().split(b"-----BEGIN")[1:]
    return [x509.load_pem_x509_crl(b"-----BEGIN" + one) for one in marks]


def every(pki: Path) -> list[int]:
    return [number(Pki(pki).crl(name)) for name in Pki(pki).authorities()]


def again(pki: Path, **more: object) -> tuple[Path, ...]:
    return renew_crls(pki, lambda _: None, now=NOW + DAY, **more)  # type: ignore[arg-type]


def test_it_comes_back_from_the_bundle(pki: Path, gone: int) -> None:
    before = number(bundled(pki)[1])
    again(pki)
    crl = Pki(pki).crl("issuing")
    assert serials(crl) == {gone}
    assert number(crl) == max(before + 1, int((SECOND + DAY).timestamp()))
    assert len(bundled(pki)) == 3


def test_a_revocation_brings_it_back_too(pki: Path, gone: int) -> None:
    withdraw(pki, "release", now=NOW + DAY)
    assert serials(Pki(pki).crl("issuing")) == {gone, Pki(pki).certificate("release").serial_number}


def test_the_crl_of_another_ca_leaves_the_copy_in_the_bundle(pki: Path, gone: int) -> None:
    again(pki, names=("ca",))
    assert serials(Pki(pki).crl("issuing")) == {gone}  # as it was
    (pki / LOST).unlink()
    withdraw(pki, "issuing", now=NOW + DAY)
    assert [serials(crl) for crl in bundled(pki)][1] == {gone}


def test_of_a_ca_whose_key_is_elsewhere_it_comes_back_as_it_was(pki: Path) -> None:
    was = Pki(pki).crl("ca")
    (pki / "crl/ca.pem").unlink()
    (pki / "private/ca.key").rename(pki.parent / "ca.key")
    assert again(pki, names=("issuing",)) == (pki / "crl/ca.pem", pki / LOST)
    assert Pki(pki).crl("ca") == was


def test_readers_say_what_restores_it(pki: Path) -> None:
    error = refused(partial(Pki(pki).crl, "issuing"), "state.pki")
    assert (error.message, error.hint) == (
        f"{pki / LOST} is missing",
        "fwsign pki crl restores it",
    )
    (pki / BUNDLE).unlink()
    (pki / "private/issuing.key").unlink()
    error = refused(partial(Pki(pki).crl, "issuing"), "state.pki")
    assert error.hint == 'it is where the key of the CA "issuing" is'


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "foreign", "forged"])
def test_a_copy_that_is_none_does_not_count(damage: str, pki: Path, tmp_path: Path) -> None:
    path = pki / BUNDLE
    if damage == "gone":
        path.unlink()
    elif damage in ("cut", "text"):
        path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"no CRL\n")
    elif damage == "foreign":  # the same names, other keys
        path.write_bytes((make(tmp_path / "other").directory / BUNDLE).read_bytes())
    else:
        der = bytearray(bundled(pki)[1].public_bytes(Encoding.DER))
        der[-1] ^= 1
        path.write_bytes(x509.load_der_x509_crl(bytes(der)).public_bytes(Encoding.PEM))
    before = contents(pki)
    error = refused(partial(again, pki), "state.pki")
    assert (error.message, error.hint) == (
        f"{pki / LOST} is missing, and there is no copy in {path}",
        (
            "fwsign pki crl --from FILE takes a copy, also from an envelope or a backup; if none "
            "is left: fwsign pki crl --forget issuing"
        ),
    )
    assert contents(pki) == before


def test_a_lost_bundle_is_remade(pki: Path) -> None:
    again(pki)
    (pki / BUNDLE).unlink()
    again(pki)
    assert [number(crl) for crl in bundled(pki)] == every(pki)


def test_a_copy_from_elsewhere_keeps_what_it_revokes_and_passes_its_number(
    pki: Path, gone: int
) -> None:
    """Also beside a file of a PKI that came back from an older backup."""
    again(pki)
    old = contents(pki)
    withdraw(pki, "release", now=NOW + 2 * DAY)
    copy = Pki(pki).crl("issuing")
    revoked = serials(copy)
    for name, data in old.items():  # the backup
        (pki / name).write_bytes(data)
    assert serials(Pki(pki).crl("issuing")) == {gone}
    renew_crls(pki, lambda _: None, now=NOW + 3 * DAY, copies=[copy, Pki(pki).crl("ca")])
    assert serials(Pki(pki).crl("issuing")) == revoked
    assert number(Pki(pki).crl("issuing")) > number(copy)


def test_a_number_ahead_of_the_clock_is_passed(pki: Path, gone: int) -> None:
    from fwsign.pki.authority import open_authority

    issuer = open_authority(Pki(pki), "issuing", no_passphrase)
    high = x509.load_pem_x509_crl(make_crl("issuing", issuer, 1 << 100, (), SECOND))
    again(pki, copies=[high])
    assert number(Pki(pki).crl("issuing")) == (1 << 100) + 1
    assert serials(Pki(pki).crl("issuing")) == {gone}


def test_a_copy_from_the_future_is_a_wrong_clock(pki: Path) -> None:
    late = contents(pki)
    again(pki)
    copy = Pki(pki).crl("issuing")
    (pki / LOST).unlink()
    (pki / BUNDLE).write_bytes(late[BUNDLE])
    error = refused(lambda: renew_crls(pki, lambda _: None, now=NOW, copies=[copy]), "state.clock")
    assert error.message.startswith("the clock is wrong: it says 2026-11-01 12:30")


class TestForget:
    def test_it_begins_anew_above_all_numbers_by_the_clock(self, pki: Path) -> None:
        last = number(bundled(pki)[1])
        (pki / BUNDLE).unlink()
        again(pki, forget={"issuing": 0})
        crl = Pki(pki).crl("issuing")
        assert (len(crl), number(crl)) == (0, int((SECOND + DAY).timestamp()))
        assert number(crl) > last

    def test_a_higher_number_is_given(self, pki: Path) -> None:
        (pki / BUNDLE).unlink()
        again(pki, forget={"issuing": 1 << 80})
        assert number(Pki(pki).crl("issuing")) == 1 << 80

    def test_what_is_known_is_not_forgotten(self, pki: Path) -> None:
        before = contents(pki)
        for name, path in (("issuing", LOST), ("ca", "crl/ca.pem")):
            error = refused(partial(again, pki, forget={name: 0}), "state.pki")
            assert (error.message, error.found, error.hint) == (
                f'the revocations of the CA "{name}" are here: they are not forgotten',
                str(pki / path),
                "without --forget, fwsign pki crl makes a CRL that has them",
            )
        copy = bundled(pki)[1]
        (pki / BUNDLE).unlink()
        refused(partial(again, pki, forget={"issuing": 0}, copies=[copy]), "state.pki")
        refused(partial(again, pki, names=(), forget={"release": 0}), "state.pki")
        assert contents(pki).keys() == before.keys() - {BUNDLE}


class TestFlat:
    def test_index_has_what_a_lost_crl_had_and_crlnumber_the_number(self, tmp_path: Path) -> None:
        flat = make(tmp_path / "flat", flat=True).directory
        withdraw(flat, "release")
        revoked = serials(Pki(flat).crl("ca"))
        (flat / "crl.pem").unlink()
        (flat / "crlnumber").write_text(f"{1 << 64:X}\n")
        renew_lists(flat, NOW + DAY)
        assert serials(Pki(flat).crl("ca")) == revoked
        assert number(Pki(flat).crl("ca")) == 1 << 64

    @pytest.mark.parametrize("text", ["", "none\n"])
    def test_crlnumber_that_cannot_be_read(self, text: str, tmp_path: Path) -> None:
        flat = make(tmp_path / "flat", flat=True).directory
        (flat / "crlnumber").write_text(text)
        renew_lists(flat, NOW + DAY)
        assert number(Pki(flat).crl("ca")) == int((SECOND + DAY).timestamp())

    def test_a_refused_revocation_is_not_in_index(self, tmp_path: Path) -> None:
        flat = make(tmp_path / "flat", flat=True).directory
        renew_lists(flat, NOW + DAY)
        before = contents(flat)
        refused(lambda: withdraw(flat, "release", now=NOW), "state.clock")
        refused(lambda: withdraw(flat, "release", now=NOW - 99 * DAY), "state.clock")
        assert contents(flat) == before


def test_the_root_answers_where_its_crl_was_lost(tmp_path: Path) -> None:
    root, away = make(tmp_path / "root", root_only=True).directory, tmp_path / "away"
    path, _ = create_requests(away, org="Acme", vendor="acme.example", new_key=NEW)
    request = parse_request(path.read_bytes(), "x")
    sign_request(root, request, permitted=["acme.example"], root_passphrase=no_passphrase, now=NOW)
    reader = Pki(root)
    parts = (reader.root, reader.certificate("issuing"), reader.crl("ca"))
    take = partial(accept, away, passphrase=no_passphrase, now=NOW)
    take([one.public_bytes(Encoding.DER) for one in parts])
    old = parts[2].public_bytes(Encoding.DER)
    renew_crls(root, lambda _: None, now=NOW + DAY, names=["ca"])
    take([Pki(root).crl("ca").public_bytes(Encoding.DER)])
    (away / "crl/ca.pem").unlink()
    error = refused(lambda: take([old]), "state.pki")  # the bundle knows a newer one
    assert error.message.startswith("the CRL is older than the one here: number ")
    (away / BUNDLE).unlink()
    assert take([old]) == (away / "crl/ca.pem",)


def test_one_key_that_does_not_open_does_not_stop_the_others(tmp_path: Path) -> None:
    place = tmp_path / "pki"
    sealed = make(place, root_passphrase=b"root", passphrase=b"rest").directory
    was = Pki(sealed).crl("ca")
    told = []
    made = renew_crls(
        sealed,
        lambda name: b"rest" if name != "ca" else b"wrong",
        now=NOW + timedelta(10),
        failed=lambda name, error: told.append((name, error.code)),
    )
    assert (made, told) == ((sealed / LOST, sealed / TLS), [("ca", "key.passphrase")])
    assert Pki(sealed).crl("ca") == was
    assert len(bundled(sealed)) == 3
