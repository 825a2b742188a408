"""Receipts of devices, and a collector's parts, without a network."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.collect.judge import CollectorTrust
from fwsign.collect.service import CollectorService, IntakeReply
from fwsign.collect.store import FleetStore
from fwsign.keys.file import FileSigner
from fwsign.receipts.chain import line_digest, make_line
from gateway.server import LONG
from support import NOW, Entity, leaf_extensions, make_ca, make_leaf


@cache
def devices_root() -> Entity:
    """Return the root of devices' certificates."""
    return make_ca("Devices Root", days=LONG)


@cache
def devices_ca() -> Entity:
    """Return the CA of devices' certificates."""
    return make_ca("Devices", devices_root(), path_length=0, days=LONG)


@cache
def device_leaf(name: str) -> Entity:
    """Return the certificate of a device, for TLS and for receipts."""
    return make_leaf(
        devices_ca(),
        name,
        days=LONG,
        extensions=leaf_extensions((), usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
    )


@cache
def release(version: str, sequence: int, product: str = "gateway-x1") -> dict[str, Any]:
    """Return a release as receipts have it."""
    return {
        "manifest_digest": f"{sequence:064x}",
        "vendor": "acme.example",
        "product": product,
        "version": version,
        "sequence_number": sequence,
    }


class Chain:
    """A device that writes receipts.

    Args:
        name: its name, in its lines and in its certificate.
        signed: whether its key signs them.
        own: another certificate and its issuing CA, in the place of the usual ones.
    """

    def __init__(
        self, name: str, *, signed: bool = True, own: tuple[Entity, Entity] | None = None
    ) -> None:
        self.name, self.lines = name, list[str]()
        leaf, above = own or (device_leaf(name), devices_ca())
        self._signer = FileSigner(leaf.key) if signed else None
        self._chain = (leaf.der, above.der) if signed else ()

    def add(self, result: str = "installed", previous: str | None = "", **more: Any) -> str:
        """Write a line after the last one, or after another, and return its digest."""
        content: Mapping[str, Any] = {
            "kind": "install",
            "clock": NOW.isoformat(),
            "result": result,
            "device": {"id": self.name, "vendor": "acme.example", "product": "gateway-x1"},
            "number": len(self.lines),
            **more,
        }
        before = self.head if previous == "" else previous
        line = make_line(content, before, self._signer, self._chain)
        self.lines.append(line)
        return line_digest(line)

    @property
    def head(self) -> str | None:
        return line_digest(self.lines[-1]) if self.lines else None


def chain_of(name: str, count: int, **more: Any) -> Chain:
    """Return a device that wrote so many receipts."""
    found = Chain(name, **more)
    for number in range(count):
        found.add(release=release(f"1.{number}.0", 1000 + number))
    return found


def body_of(lines: Sequence[str]) -> bytes:
    """Return lines as a device sends them."""
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


class Taker(NamedTuple):
    """A collector without a network."""

    service: CollectorService
    trust: CollectorTrust

    @property
    def store(self) -> FleetStore:
        return self.service.store

    def send(self, lines: Sequence[str], client: str = "gw-1", **more: Any) -> IntakeReply:
        """Hand in lines."""
        return self.service.receive(body_of(lines), client, self.trust, **more)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the store."""
        with self.store.transaction("read") as run:
            return run.rows(statement, *values)

    @property
    def breaks(self) -> list[tuple[str, bool]]:
        """The kind of each break, and whether it was mended."""
        return [
            (kind, closed is not None)
            for kind, closed in self.rows("SELECT kind, closed FROM breaks ORDER BY break")
        ]

    def stored(self, name: str = "gw-1") -> int:
        """Return the number of a device's receipts, by both places that know it."""
        ((told, device),) = self.rows("SELECT receipts, device FROM devices WHERE name = ?", name)
        ((found,),) = self.rows("SELECT COUNT(*) FROM receipts WHERE device = ?", device)
        assert told == found
        return int(found)

    def running(self) -> list[tuple[str, str, str | None, str]]:
        """Return device, board, version and state of everything that runs."""
        return self.rows(
            "SELECT name, board, version, state FROM running JOIN devices"
            " ON devices.device = running.device ORDER BY name, board"
        )


def collector(store: FleetStore, **more: Any) -> Taker:
    """Return a collector with an empty store."""
    at = more.pop("at", NOW)
    trust = CollectorTrust((devices_root().anchor,))._replace(**more)
    return Taker(CollectorService(store, lambda: at), trust)


def sqlite_address(folder: Path) -> str:
    return f"sqlite:///{folder}/fleet.db"
