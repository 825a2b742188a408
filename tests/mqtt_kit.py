"""A PKI for brokers and their clients, a real mosquitto, and a broker that misbehaves."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.mqtt.address import Broker
from fwsign.mqtt.link import Link, LinkTerms
from fwsign.pki.directory import Pki
from pki_kit import DAY, issue, make, renew_lists, withdraw
from support import require_program

ACL = """\
user publisher
topic write fwsign/acme.example/#

user collector
topic read fwsign/receipts/+
topic write fwsign/receipts/+/ack

pattern read fwsign/acme.example/+/+
pattern write fwsign/receipts/%u
pattern read fwsign/receipts/%u/ack
"""
TOPIC = "fwsign/acme.example/gateway-x1/stable"
CLIENTS = ("publisher", "collector", "gateway-7", "gateway-8")


class Site(NamedTuple):
    """Certificates of a broker and its clients. The client gateway-8 is revoked."""

    place: Path

    def rules(self, name: str, **more: float) -> FetchRules:
        """Return the rules of a client."""
        return FetchRules(
            ca=self.place / "pki/ca.crt",
            client_cert=self.place / f"{name}.pem",
            client_key=self.place / f"pki/private/{name}.key",
            **more,  # type: ignore[arg-type]
        )


class Running(NamedTuple):
    """A broker that runs."""

    site: Site
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def broker(self) -> Broker:
        return Broker("localhost", self.port)

    def link(self, name: str, terms: LinkTerms | None = None) -> Link:
        """Connect a client."""
        return Link(self.broker, self.site.rules(name), terms)

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish as the one who may."""
        with self.link("publisher") as link:
            link.publish(topic, payload, retain=retain)


def make_site(place: Path) -> Site:
    """Make a PKI with a broker and clients."""
    now = datetime.now(UTC)
    pki = make(place / "pki", now=now - 30 * DAY).directory
    issue(pki, "broker", "server", now=now, domains=["localhost"])
    for name in CLIENTS:
        issue(pki, name, "client", now=now)
    withdraw(pki, "gateway-8", now=now)
    renew_lists(pki, now)
    found = Pki(pki)
    for name in ("broker", *CLIENTS):
        parts = (x509.load_der_x509_certificate(one) for one in found.path(name))
        (place / f"{name}.pem").write_bytes(
            b"".join(one.public_bytes(Encoding.PEM) for one in parts)
        )
    return Site(place)


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a program listens."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"nobody listens at {port}: {process.poll()}")


@contextmanager
def mosquitto(site: Site, port: int | None = None, *lines: str) -> Iterator[Running]:
    """Run mosquitto with mutual TLS, a CRL, an ACL, and a store for what is retained."""
    program = require_program("mosquitto")
    place, port = site.place, port or free_port()
    (place / "acl").write_text(ACL)
    (place / "acl").chmod(0o600)
    (place / "store").mkdir(exist_ok=True)
    content = [
        f"listener {port} 127.0.0.1",
        *(["user root"] if os.geteuid() == 0 else []),
        f"cafile {place}/pki/ca.crt",
        f"certfile {place}/broker.pem",
        f"keyfile {place}/pki/private/broker.key",
        f"crlfile {place}/pki/crl/bundle.pem",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {place}/acl",
        "persistence true",
        f"persistence_location {place}/store/",
        *lines,
    ]
    (place / "broker.conf").write_text("\n".join(content) + "\n")
    with (place / "log").open("ab") as log:
        process = subprocess.Popen([program, "-v", "-c", place / "broker.conf"], stderr=log)
    try:
        wait_for(port, process)
        yield Running(site, port, process)
    finally:
        process.terminate()
        process.wait(20)


Speech = Callable[[ssl.SSLSocket], object]


@contextmanager
def talking(site: Site, *speeches: Speech) -> Iterator[Broker]:
    """Run a broker of our own: each connection gets the next speech, and the last one repeats."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.place / "broker.pem", site.place / "pki/private/broker.key")
    context.load_verify_locations(site.place / "pki/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_talk, args=(listener, context, speeches), daemon=True)
        thread.start()
        try:
            yield Broker("localhost", listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _talk(listener: socket.socket, context: ssl.SSLContext, speeches: Sequence[Speech]) -> None:
    for number in range(1000):
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), raw, context.wrap_socket(raw, server_side=True) as one:
            one.settimeout(20)
            speeches[min(number, len(speeches) - 1)](one)


def packet(head: int, body: bytes) -> bytes:
    """Return a packet of MQTT."""
    size, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        size += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([head]) + size + body


CONNACK = packet(0x20, b"\0\0\0")


def message(topic: str, payload: bytes, head: int = 0x30) -> bytes:
    """Return a PUBLISH with QoS 0, or with the packet identifier 1."""
    name = topic.encode()
    number = b"\0\1" if head & 0x06 else b""
    return packet(head, len(name).to_bytes(2, "big") + name + number + b"\0" + payload)


def welcome(one: ssl.SSLSocket, code: int = 1) -> None:
    """Answer to CONNECT, and to one SUBSCRIBE."""
    one.recv(4096)
    one.sendall(CONNACK)
    asked = one.recv(4096)
    one.sendall(packet(0x90, asked[2:4] + b"\0" + bytes([code])))


def silent(one: ssl.SSLSocket) -> None:
    """Read until the other end closes, and say nothing."""
    while one.recv(4096):
        pass


@contextmanager
def relay(port: int) -> Iterator[tuple[int, threading.Event]]:
    """Forward TCP to a port until told to stop forwarding: the connections stay half open."""
    stop, ends = threading.Event(), []

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if not stop.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                if stop.is_set():
                    ends.append(near)  # it is connected, and nothing answers
                    continue
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield listener.getsockname()[1], stop
        finally:
            for one in (listener, *ends):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
