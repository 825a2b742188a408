"""An HTTPS server that misbehaves as it is told to, with a certificate of fwsign's own PKI."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from support import NOW, certify, key_usage, make_ca, name, new_key

Answer = Callable[["Handler"], object]


class Handler(BaseHTTPRequestHandler):
    """Gives files, whole or from a byte on; `answers` may do otherwise for a path."""

    protocol_version = "HTTP/1.1"
    files: Mapping[str, bytes]
    answers: dict[str, Answer]
    requests: list[tuple[str, str | None]]
    heads: list[dict[str, str]]
    stopped: threading.Event
    body: bytes
    """The content of a POST."""

    def do_GET(self) -> None:
        self.close_connection = True
        self.requests.append((self.path, self.headers.get("Range")))
        self.heads.append(dict(self.headers))
        with suppress(OSError, ssl.SSLError):
            if self.path in self.answers:
                self.answers[self.path](self)
            else:
                self.give()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    @property
    def start(self) -> int:
        """The first byte that is asked for."""
        found = self.range
        return int(found[1]) if found else 0

    @property
    def range(self) -> re.Match[str] | None:
        """The range that is asked for."""
        return re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")

    def give(self, *, most: int | None = None) -> None:
        """Give a file, or the first bytes of what was asked for, and hang up."""
        data = self.files.get(self.path)
        if data is None:
            self.head(404, {"Content-Length": "0"})
            return
        found = self.range
        last = min(int(found[2]), len(data) - 1) if found and found[2] else len(data) - 1
        rest = data[self.start : last + 1]
        headers = {"Content-Length": str(len(rest))}
        if found:
            headers["Content-Range"] = f"bytes {self.start}-{last}/{len(data)}"
        self.head(206 if found else 200, headers)
        self.wfile.write(rest[:most])

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Give a status and headers."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Say nothing."""


class Server(NamedTuple):
    """A running server."""

    port: int
    files: dict[str, bytes]
    answers: dict[str, Answer]
    requests: list[tuple[str, str | None]]
    heads: list[dict[str, str]]
    """The headers of each request."""
    ca: Path

    def clear(self) -> None:
        """Forget files, answers and requests."""
        for one in (self.files, self.answers, self.requests, self.heads):
            one.clear()

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"https://localhost:{self.port}{path}"


LONG = (-4000, 40000)
"""Days, before and after now, of certificates that outlast these tests."""


def certificates(
    folder: Path,
    names: Sequence[x509.GeneralName] | None = (x509.DNSName("localhost"),),
    days: tuple[int, int] = LONG,
    root_days: tuple[int, int] = LONG,
) -> tuple[Path, Path]:
    """Make a CA and a server certificate below it; return the CA's file and the server's.

    Args:
        folder: the place of the files.
        names: the server's alternative names; None for a common name alone.
        days: the server's days, before and after the time of the clock.
        root_days: those of the CA.
    """
    root = make_ca("Update servers", days=_from_now(root_days))
    key = new_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    if names is not None:
        extensions.append((x509.SubjectAlternativeName(names), False))
    server = certify(key, name("localhost"), root, extensions, days=_from_now(days))
    ca, own = folder / "servers.pem", folder / "server.pem"
    ca.write_bytes(root.certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own.write_bytes(private + server.certificate.public_bytes(Encoding.PEM))
    return ca, own


def _from_now(days: tuple[int, int]) -> tuple[int, int]:
    """Return days from the clock's time as days from the time of most tests."""
    passed = (datetime.now(UTC) - NOW).days
    return days[0] + passed, days[1] + passed


@contextmanager
def own_localhost() -> Iterator[None]:
    """Let this process know where localhost is, though the system may have no /etc/hosts."""
    system = socket.getaddrinfo

    def find(host: Any, *rest: Any, **more: Any) -> Any:
        return system("127.0.0.1" if host == "localhost" else host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", find)
        yield


@contextmanager
def serving(
    folder: Path, made: tuple[Path, Path] | None = None, clients: Path | None = None
) -> Iterator[Server]:
    """Run a server.

    Args:
        folder: the place of its certificates.
        made: its CA and its certificate; None to make them.
        clients: the CA that a client's certificate must come from; None to ask for none.
    """
    ca, own = made or certificates(folder)
    stopped = threading.Event()
    server_files: dict[str, bytes] = {}
    answers: dict[str, Answer] = {}
    requests: list[tuple[str, str | None]] = []
    heads: list[dict[str, str]] = []
    state = {"files": server_files, "answers": answers, "requests": requests, "heads": heads}
    handler = type("Handler", (Handler,), {**state, "stopped": stopped})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    with own_localhost(), Quiet(("127.0.0.1", 0), handler) as server:
        server.context = context
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Server(
                server.server_address[1],
                server_files,
                answers,
                requests,
                heads,
                ca,
            )
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up, and does TLS in the thread of each connection."""

    daemon_threads = False
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handle one connection."""
        with (
            suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as secure,
        ):
            super().finish_request(secure, client_address)
