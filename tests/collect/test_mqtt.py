"""Receipts by a real broker, from a device's file to the collector's store and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from collect.kit import Chain, devices_root, sqlite_address
from collect.server_kit import Collector, collecting, make_place
from fwsign.collect.app import PER_CLIENT, CollectorApp
from fwsign.collect.broker import BrokerIntake, BrokerPlace
from fwsign.collect.clients import Clients, HeldCrls, split_roots
from fwsign.collect.service import CollectorService
from fwsign.collect.store import open_store
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.report.run import send_to
from fwsign.gateway.report.sending import Reported
from fwsign.gateway.report.spool import FileSpool
from fwsign.mqtt.address import Broker
from mqtt_kit import Running, Site, make_site, mosquitto
from support import NOW, Entity, refused


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def broker(site: Site) -> Iterator[Running]:
    with mosquitto(site) as found:
        yield found


@pytest.fixture(scope="module")
def collector(broker: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    place = make_place(tmp_path_factory.mktemp("collector"))
    rules = broker.site.rules("collector")
    more = (
        *("--mqtt", broker.broker.url, "--mqtt-ca", str(rules.ca)),
        *("--mqtt-cert", str(rules.client_cert), "--mqtt-key", str(rules.client_key)),
        *("--anchor", str(rules.ca)),
    )
    with collecting(place, sqlite_address(place.folder), *more) as found:
        yield found


def chain_of(site: Site, name: str, count: int) -> Chain:
    """Return a device of the site that wrote so many receipts."""
    key = load_pem_private_key((site.place / f"pki/private/{name}.key").read_bytes(), None)
    found = x509.load_pem_x509_certificates((site.place / f"{name}.pem").read_bytes())
    leaf, above = (Entity(key, one) for one in found[:2])
    device = Chain(name, own=(leaf, above))
    for _ in range(count):
        device.add()
    return device


def test_a_broker_does_not_use_up_what_clients_of_https_may_send(tmp_path: Path) -> None:
    place = BrokerPlace(Broker("localhost"), FetchRules())
    roots, pool = split_roots([devices_root().der])
    clients = Clients(roots, pool, roots, HeldCrls((), lambda _: (), print))
    with open_store(sqlite_address(tmp_path)) as store:
        service = CollectorService(store, lambda: NOW)
        app = CollectorApp(service, clients, lambda: NOW, lambda _: None)
        intake = BrokerIntake(place, service, clients, lambda _: None)
        answers = [intake._answer("gw-1", b"{}\n") for _ in range(PER_CLIENT + 10)]
    assert [one is None for one in answers].index(True) == PER_CLIENT
    assert intake._limits is not app._limits


def report(broker: Running, file: Path, lines: list[str], name: str, seconds: float) -> Reported:
    file.write_text("".join(f"{line}\n" for line in lines))
    rules = broker.site.rules(name)
    return send_to(FileSpool(file), broker.broker.url, rules, NOW, seconds, name=name)


def rows(collector: Collector, statement: str) -> list[tuple[object, ...]]:
    with (
        open_store(sqlite_address(collector.place.folder)) as store,
        store.transaction("read") as run,
    ):
        return run.rows(statement)


def test_receipts_go_by_a_broker_and_are_acknowledged(
    tmp_path: Path, broker: Running, collector: Collector
) -> None:
    device = chain_of(broker.site, "gateway-7", 3)
    file = tmp_path / "lines"
    assert report(broker, file, device.lines[:2], "gateway-7", 30).sent == 2
    found = report(broker, file, device.lines, "gateway-7", 30)
    assert (found.sent, found.head, found.finished) == (1, device.head, True)
    assert rows(collector, "SELECT name, receipts FROM devices") == [("gateway-7", 3)]
    # A line that was changed is refused, as by HTTPS.
    forged = device.lines[2].replace('"installed"', '"committed"')
    with refused("io.fetch-status", "with status 422", "tampered.signature"):
        report(broker, tmp_path / "forged", [forged], "gateway-7", 30)
    # The same lines again, as a broker may bring them, are no sign of anything.
    assert report(broker, tmp_path / "again", device.lines[:1], "gateway-7", 30).sent == 1
    assert rows(collector, "SELECT kind FROM breaks") == []
