"""A collector as a program of its own, gateways that report to it, and clients that misbehave."""

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.kit import MAIN, environment
from collect.kit import body_of, device_leaf, devices_ca, devices_root
from fwsign.gateway.enrol import init
from fwsign.keys.file import FileSigner
from gateway.kit import Gateway, enrolment
from gateway.server import certificates, own_localhost
from support import NOW, Entity


def pem_files(folder: Path, name: str, leaf: Entity | None = None) -> tuple[Path, Path]:
    """Write a device's certificate with its CA, and its key; return the files."""
    found = leaf or device_leaf(name)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    if key.exists():
        return certificate, key
    chain = (found.certificate, devices_ca().certificate)
    certificate.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    private = found.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.touch(0o600)
    key.write_bytes(private)
    return certificate, key


class Place(NamedTuple):
    """The files of a collector: its certificate, the CA of it, and the root of devices."""

    folder: Path
    ca: Path
    server: Path
    devices: Path

    def options(self, store: str) -> list[str]:
        return [
            *("--store", store, "--listen", "127.0.0.1:0"),
            *("--cert", str(self.server), "--key", str(self.server)),
            *("--client-ca", str(self.devices), "--anchor", str(self.devices)),
        ]


def make_place(folder: Path) -> Place:
    ca, server = certificates(folder)
    server.chmod(0o600)
    devices = folder / "devices.pem"
    devices.write_bytes(devices_root().certificate.public_bytes(Encoding.PEM))
    return Place(folder, ca, server, devices)


class Answered(NamedTuple):
    """A collector's answer."""

    status: int
    content: dict[str, Any]
    headers: dict[str, str]


class Collector:
    """A running collector."""

    def __init__(self, place: Place, process: subprocess.Popen[str], port: int) -> None:
        self.place, self.process, self.port = place, process, port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/receipts"

    def connect(self, client: str | None = "gw-1", leaf: Entity | None = None) -> ssl.SSLSocket:
        """Connect as a client with the certificate of a device."""
        context = ssl.create_default_context(cafile=str(self.place.ca))
        if client is not None:
            context.load_cert_chain(*pem_files(self.place.folder, client, leaf))
        import socket

        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return context.wrap_socket(raw, server_hostname="localhost")

    def send(
        self,
        lines: Sequence[str] | bytes,
        client: str | None = "gw-1",
        leaf: Entity | None = None,
        kind: str = "application/jsonl",
    ) -> Answered:
        """Send lines, and return the answer."""
        body = lines if isinstance(lines, bytes) else body_of(lines)
        connection = http.client.HTTPConnection("localhost", self.port)
        connection.sock = self.connect(client, leaf)
        try:
            connection.request("POST", "/receipts", body, {"Content-Type": kind})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        content = json.loads(text) if text.startswith(b"{") else {"text": text.decode()}
        return Answered(response.status, content, dict(response.headers))

    def kill(self) -> None:
        """Kill it, as a power loss would."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> str:
        """Let it end by a signal; return what it said."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def collecting(place: Place, store: str, *more: str) -> Iterator[Collector]:
    """Run a collector until the end of the block."""
    words = ["collect", *place.options(store), *more]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, said = process.communicate(timeout=30)
            raise AssertionError(said)
        address = line.strip().removesuffix("/receipts")
        with own_localhost():
            yield Collector(place, process, int(address.rpartition(":")[2]))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def reporting_gateway(base: Path, name: str, place: Place, url: str) -> Gateway:
    """Enrol a gateway that reports to a collector."""
    certificate, key = pem_files(base, name)
    (base / "etc").mkdir()
    wanted = enrolment(base, device_key=str(key), id=name, device_certificate=certificate)
    init(wanted, NOW, FileSigner(device_leaf(name).key))
    gateway = Gateway(base)
    gateway.configure(
        f'[fetch]\nca = "{place.ca}"\nclient_cert = "{certificate}"\nclient_key = "{key}"\n'
        f'allow_hosts = ["localhost"]\n[report]\nto = "{url}"\n'
    )
    return gateway
