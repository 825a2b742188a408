"""What the tests of EST share: requests for certificates, and a client without any library."""

import base64
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import NameOID

from fwsign.est import invites
from fwsign.est.http import Answer, HttpRequest, Refused
from fwsign.est.limits import RateLimits
from fwsign.est.rules import EnrolmentRules
from fwsign.est.server import Server, ServerEvent, make_context
from fwsign.est.service import PREFIX, Client, Service
from fwsign.pki.authority import open_authority
from pki_kit import DAY, NOW, issue, make, no_passphrase

Key = ec.EllipticCurvePrivateKey
CLIENT = Client("192.0.2.9")


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def csr(
    key: Any,
    name: str | None = None,
    *,
    org: str | None = None,
    serial: str | None = None,
    names: Sequence[x509.GeneralName] = (),
) -> x509.CertificateSigningRequest:
    parts = (
        (NameOID.ORGANIZATION_NAME, org),
        (NameOID.COMMON_NAME, name),
        (NameOID.SERIAL_NUMBER, serial),
    )
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text is not None])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def body_of(request: x509.CertificateSigningRequest | bytes) -> bytes:
    data = request if isinstance(request, bytes) else request.public_bytes(Encoding.DER)
    return base64.encodebytes(data)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def certificates_in(body: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body, validate=True))


class Enrolment:
    """A PKI with a service, and what operators and clients do with them."""

    def __init__(self, directory: Path, *, now: datetime = NOW, **rules: Any) -> None:
        self.pki = make(directory / "pki", now=now, permit=["localhost"])
        self.now = now
        self.service = self.start(**rules)

    def start(self, **rules: Any) -> Service:
        ca = self.pki.issuing("client")
        authority = open_authority(self.pki, ca, no_passphrase)
        directory = self.pki.directory
        self.service = Service(
            directory, (ca, authority), EnrolmentRules(**rules), lambda: self.now
        )
        return self.service

    def invite(self, name: str, **more: Any) -> str:
        arguments = {"kind": "client", "until": self.now + 7 * DAY, "now": self.now, **more}
        return invites.invite(self.pki, name, **arguments) or ""

    def ask(
        self,
        operation: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        client: Client = CLIENT,
        **headers: str,
    ) -> Answer:
        """Ask the service itself; a refusal is raised."""
        said = {"host": "x", "content-type": "application/pkcs10"}
        said |= {name.replace("_", "-"): text for name, text in headers.items()}
        return self.service.answer(HttpRequest(method, PREFIX + operation, said, body), client)

    def enrol(
        self, name: str, password: str, request: x509.CertificateSigningRequest | bytes
    ) -> Answer:
        return self.ask("simpleenroll", body_of(request), authorization=basic(name, password))

    def enrol_again(
        self, certificate: x509.Certificate, request: x509.CertificateSigningRequest
    ) -> Answer:
        client = Client("192.0.2.9", certificate.public_bytes(Encoding.DER))
        return self.ask("simplereenroll", body_of(request), client=client)

    def enrolled(self, name: str = "sensor-7", key: Any = None, **more: Any) -> x509.Certificate:
        """Enrol a client, and return its certificate."""
        answer = self.enrol(name, self.invite(name, **more), csr(key or new_key(), name))
        assert answer.status == 200
        return certificates_in(answer.body)[0]


def refusal(call: Any, status: int, message: str) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    assert (caught.value.status, caught.value.message) == (status, message)
    return caught.value


# --- over a network -------------------------------------------------------------------------


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Serving(NamedTuple):
    """A server in this process, and clients for it."""

    enrolment: Enrolment
    port: int
    events: list[ServerEvent]
    server: Server
    thread: threading.Thread

    def connect(
        self, identity: tuple[x509.Certificate, Key] | None = None, *, context: Any = None
    ) -> ssl.SSLSocket:
        if context is None:
            context = self.context(identity)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            return context.wrap_socket(raw, server_hostname="localhost")  # type: ignore[no-any-return]
        except BaseException:
            raw.close()
            raise

    def context(self, identity: tuple[x509.Certificate, Key] | None = None) -> ssl.SSLContext:
        pki = self.enrolment.pki
        context = ssl.create_default_context(cafile=pki.certificate_path("ca"))
        if identity is not None:
            certificate, key = identity
            file = pki.directory.parent / f"{certificate.serial_number:X}.pem"
            private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
            context.load_cert_chain(file)
        return context

    def send(self, data: bytes, identity: tuple[x509.Certificate, Key] | None = None) -> Response:
        """Send bytes on a new connection; return the answer."""
        with self.connect(identity) as tls:
            tls.sendall(data)
            return read_response(tls)

    def post(
        self,
        operation: str,
        body: bytes,
        identity: tuple[x509.Certificate, Key] | None = None,
        **headers: str,
    ) -> Response:
        return self.send(posted(operation, body, **headers), identity)


def posted(operation: str, body: bytes, **headers: str) -> bytes:
    said = {
        "Host": "localhost",
        "Content-Type": "application/pkcs10",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    lines = [f"POST {PREFIX}{operation} HTTP/1.1", *(f"{one}: {said[one]}" for one in said)]
    return "\r\n".join((*lines, "", "")).encode() + body


def read_response(connection: Any) -> Response:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Response(int(first.split()[1]), headers, body)


@contextmanager
def serving(directory: Path, *, per_minute: int = 100_000, **rules: Any) -> Iterator[Serving]:
    """Serve a new PKI. The clock is the real one: OpenSSL has no other."""
    enrolment = Enrolment(directory, now=datetime.now(UTC), **rules)
    pki = enrolment.pki
    issue(pki.directory, "est", "server", domains=["localhost"], now=enrolment.now)
    chain, anchors = directory / "chain.pem", ""
    chain.write_bytes(b"".join(map(pem_of, map(x509.load_der_x509_certificate, pki.path("est")))))
    anchors = b"".join(pem_of(pki.certificate(name)) for name in pki.authorities()).decode()
    context = make_context(chain, pki.key_path("est"), anchors, None)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]
    events: list[ServerEvent] = []
    limits = RateLimits(per_minute, 100_000)
    server = Server(listener, context, enrolment.service, limits, events.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Serving(enrolment, port, events, server, thread)
    finally:
        server.stop()
        thread.join(20)
    assert not thread.is_alive()


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
