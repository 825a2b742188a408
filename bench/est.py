# SPDX-License-Identifier: Apache-2.0
"""How many devices `fwsign pki serve` enrols in a second; `bench/run` runs this.

usage: est.py [--quick]        prints the rate of each task as JSON

The server is a process of its own, the clients are threads of this one: each connects, shakes
hands, sends its request and reads its certificate. Keys and requests are made before.
"""

import base64
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from fwsign.est import invites
from fwsign.pki import NewKey, Pki, create, issue

CLIENTS = 8
ENROL = "/.well-known/est/simpleenroll"
AGAIN = "/.well-known/est/simplereenroll"


def main() -> None:
    """Print how many requests of each task are answered in a second."""
    count = 40 if "--quick" in sys.argv[1:] else 400
    with tempfile.TemporaryDirectory(prefix="fwsign-bench-") as name:
        scratch = Path(name)
        pki = new_pki(scratch)
        names = [f"device-{number:04}" for number in range(count)]
        keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
        server, place = serve(scratch)
        try:
            plain = client_context(pki)
            asked = get("/.well-known/est/cacerts")
            cas = rate(place, [(plain, asked)] * count)
            first = rate(place, [(plain, enrolment(pki, one, keys[one])) for one in names])
            known = {one: identity(pki, scratch, one, keys[one]) for one in names}
            again = rate(place, [(known[one], renewal(one, keys[one])) for one in names])
        finally:
            server.terminate()
            server.wait()
    print(json.dumps([cas, first, again]))


def new_pki(scratch: Path) -> Pki:
    """Make a PKI, and the server's certificate in it."""
    now = datetime.now(UTC)
    pki = create(
        scratch / "pki",
        org="Acme",
        vendor="acme.example",
        alg="p256",
        root_passphrase=None,
        passphrase=None,
        now=now,
        permit=["localhost"],
    )
    issue(
        pki.directory,
        "server",
        "est",
        key=NewKey("p256", None),
        domains=["localhost"],
        ca_passphrase=lambda: None,
        now=now,
    )
    return pki


def serve(scratch: Path) -> tuple["subprocess.Popen[str]", tuple[str, int]]:
    """Start the server; return it, and where it listens."""
    place = ("--pki", "pki", "--listen", "127.0.0.1:0")
    rates = ("--rate", "100000", "--rate-all", "1000000")
    program = Path(sys.executable).with_name("fwsign")
    server = subprocess.Popen(
        [program, "--quiet", "pki", "serve", "--as", "est", *place, *rates],
        cwd=scratch,
        stdout=subprocess.PIPE,
        text=True,
    )
    parts = urlsplit(server.stdout.readline().strip() if server.stdout else "")
    return server, (parts.hostname or "", parts.port or 0)


def rate(place: tuple[str, int], requests: list[tuple[ssl.SSLContext, bytes]]) -> float:
    """Send requests, several at once; return how many were answered in a second."""

    def send(one: tuple[ssl.SSLContext, bytes]) -> None:
        context, request = one
        with (
            socket.create_connection(place) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(request)
            answer = b""
            while piece := tls.recv(65536):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"bench: error: {answer[:200]!r}")

    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, requests))
    return len(requests) / (time.perf_counter() - begin)


def client_context(pki: Pki) -> ssl.SSLContext:
    """Return the TLS settings of a client without a certificate."""
    return ssl.create_default_context(cafile=pki.certificate_path("ca"))


def identity(pki: Pki, scratch: Path, name: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """Return the TLS settings of a client with its certificate."""
    file = scratch / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + pki.certificate_path(name).read_bytes())
    context = client_context(pki)
    context.load_cert_chain(file)
    return context


def get(target: str) -> bytes:
    """Return a request without a body."""
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def enrolment(pki: Pki, name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Invite a name, and return the request for its first certificate."""
    now = datetime.now(UTC)
    until = now + timedelta(days=1)
    password = invites.invite(pki, name, kind="client", until=until, now=now)
    said = base64.b64encode(f"{name}:{password}".encode()).decode()
    return post(ENROL, csr(key, (NameOID.COMMON_NAME, name)), f"Authorization: Basic {said}\r\n")


def renewal(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the request for the next certificate."""
    return post(
        AGAIN, csr(key, (NameOID.ORGANIZATION_NAME, "Acme"), (NameOID.COMMON_NAME, name)), ""
    )


def csr(key: ec.EllipticCurvePrivateKey, *parts: tuple[x509.ObjectIdentifier, str]) -> bytes:
    """Return a certificate request, in base64."""
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(Encoding.DER))


def post(target: str, body: bytes, more: str) -> bytes:
    """Return a request with a body."""
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
    return f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    main()
