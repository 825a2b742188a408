"""Whose connections count, by lists that change while the collector runs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from collect.kit import device_leaf, devices_ca, devices_root
from fwsign.cli import inputs
from fwsign.collect import clients
from fwsign.collect.clients import ClientNames, Clients, HeldCrls, split_roots
from gateway.server import LONG
from support import NOW, Entity, make_ca, make_crl, make_leaf, refused


def write_lists(path: Path, *revoked: Entity, number: int = 1) -> None:
    made = (
        make_crl(devices_ca(), revoked, days=LONG, number=number),
        make_crl(devices_root(), days=LONG, number=number),
    )
    parts = [x509.load_der_x509_crl(data).public_bytes(Encoding.PEM) for data in made]
    path.write_bytes(b"".join(parts))


def load_lists(paths: Sequence[Path]) -> tuple[bytes, ...]:
    return tuple(inputs.load_pem(paths, "X509 CRL", "CRL"))


def made(paths: list[Path], told: list[str]) -> Clients:
    crls = HeldCrls(
        paths, lambda these: tuple(inputs.load_pem(these, "X509 CRL", "CRL")), told.append
    )
    roots, pool = split_roots([devices_ca().der, devices_root().der])
    return Clients(roots, pool, roots, crls)


def test_a_list_that_changes_counts_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOOK_SECONDS", -1.0)
    path, told = tmp_path / "bundle.pem", list[str]()
    write_lists(path)
    found = made([path], told)
    stolen = [device_leaf("gw-stolen").der]
    assert found.name_of(stolen, NOW) == "gw-stolen"
    write_lists(path, device_leaf("gw-stolen"), number=2)
    with refused("untrusted.revoked", 'certificate "gw-stolen" revoked'):
        found.name_of(stolen, NOW)
    assert found.name_of([device_leaf("gw-1").der], NOW) == "gw-1"
    assert found.trust().crls == found.crls.get()
    # A list that is half written, or gone, changes nothing, and is told.
    path.write_bytes(path.read_bytes()[:100])
    with refused("untrusted.revoked"):
        found.name_of(stolen, NOW)
    path.unlink()
    with refused("untrusted.revoked"):
        found.name_of(stolen, NOW)
    assert len(told) >= 2
    assert told[0].startswith("the CRLs from before still count: ")


def test_a_list_is_looked_at_now_and_then(tmp_path: Path) -> None:
    path, told = tmp_path / "bundle.pem", list[str]()
    write_lists(path)
    found = made([path], told)
    path.unlink()
    assert found.name_of([device_leaf("gw-1").der], NOW) == "gw-1"
    assert told == []


def test_who_is_no_client() -> None:
    found = made([], [])
    late = NOW + timedelta(days=100_000)
    with refused("stale.certificate"):
        found.name_of([device_leaf("gw-1").der], late)
    other = make_leaf(make_ca("Other"), "gw-1")
    with refused("untrusted.no-anchor"):
        found.name_of([other.der], NOW)
    signer = make_leaf(devices_ca(), "release")
    with refused("untrusted.eku"):
        found.name_of([signer.der, devices_ca().der], NOW)


def test_a_verdict_counts_for_a_minute_or_until_there_are_other_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle.pem"
    write_lists(path)
    found = made([path], [])
    names, asked = ClientNames(found), list[Sequence[bytes]]()
    judge = Clients.name_of

    def counted(self: Clients, chain: Sequence[bytes], now: datetime) -> str:
        asked.append(chain)
        return judge(self, chain, now)

    monkeypatch.setattr(Clients, "name_of", counted)
    stolen = [device_leaf("gw-stolen").der]
    for seconds, times in ((0, 1), (59, 1), (61, 2)):
        assert names.name_of(stolen, NOW + timedelta(seconds=seconds)) == "gw-stolen"
        assert len(asked) == times
    monkeypatch.setattr(clients, "LOOK_SECONDS", -1.0)
    found.crls._next = 0.0
    write_lists(path, device_leaf("gw-stolen"), number=2)
    for _ in range(2):
        with refused("untrusted.revoked", 'certificate "gw-stolen" revoked'):
            names.name_of(stolen, NOW)
    assert len(asked) == 3
    monkeypatch.setattr(clients, "MAX_KNOWN", 1)
    assert names.name_of([device_leaf("gw-1").der], NOW) == "gw-1"
    assert len(names._known) == 1


def test_lists_of_other_cas_alone_do_not_switch_revocation_off(tmp_path: Path) -> None:
    path = tmp_path / "other.pem"
    made_by = make_crl(make_ca("Other", days=LONG), (), days=LONG, number=1)
    path.write_bytes(x509.load_der_x509_crl(made_by).public_bytes(Encoding.PEM))
    with refused("stale.crl-missing", 'none of the CRLs is by an issuer of client "gw-1"'):
        made([path], []).name_of([device_leaf("gw-1").der], NOW)


def test_a_file_without_a_root_is_refused() -> None:
    with refused("io.format", "there is no root among the certificates for clients"):
        split_roots([devices_ca().der])
