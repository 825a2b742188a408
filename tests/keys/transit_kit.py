"""For tests of keys in transit engines: rules of policies, keys by name, a server that lies."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bao_kit import Bao
from fwsign.keys import open_key
from fwsign.keys.held import HeldKey

SIGN = 'path "transit/sign/{0}" {{ capabilities = ["update"] }}\n'
READ = 'path "transit/keys/{0}" {{ capabilities = ["read"] }}\n'
TOKEN = "s.told-to-nobody"


def opened(uri: str) -> HeldKey:
    """Open a key whose token is where the URI or the environment says."""
    return open_key(uri, lambda: None)


def made(bao: Bao, alg: str, name: str) -> str:
    """Return the URI of a key, which is made if it is not there."""
    if bao.api("GET", f"transit/keys/{name}").status == 404:
        bao.make(alg, name)
    return bao.uri(name)


class Asked(NamedTuple):
    """A request that a server got."""

    method: str
    path: str
    token: str | None
    body: Any


Send = Callable[[int, bytes], None]
Answering = Callable[[Asked, Any], bool]
"""Answers a request by the handler, and returns True; False for the answer of an honest server."""


class Lying:
    """A server over plain HTTP with one P-256 key, which answers as a test says.

    Args:
        answering: asked first.
    """

    def __init__(self, answering: Answering) -> None:
        self.key = self.signing = ec.generate_private_key(ec.SECP256R1())
        self.answering = answering
        self.asked: list[Asked] = []
        self.port = 0

    @property
    def uri(self) -> str:
        """The URI of its key."""
        return f"openbao:release?address=http://127.0.0.1:{self.port}"

    def honest(self, asked: Asked) -> object:
        """Return what OpenBao answers."""
        if asked.path.startswith("/v1/transit/keys/"):
            form = PublicFormat.SubjectPublicKeyInfo
            pem = self.key.public_key().public_bytes(Encoding.PEM, form).decode()
            facts = {"type": "ecdsa-p256", "latest_version": 1, "supports_signing": True}
            return {"data": {**facts, "keys": {"1": {"public_key": pem}}}}
        digest = base64.b64decode(asked.body["input"])
        pair = decode_dss_signature(self.signing.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
        raw = b"".join(one.to_bytes(32, "big") for one in pair)
        return {"data": {"signature": f"vault:v1:{base64.urlsafe_b64encode(raw).decode()}"}}


@contextmanager
def lying(answering: Answering = lambda _asked, _handler: False) -> Iterator[Lying]:
    """Run such a server."""
    lie = Lying(answering)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers["Content-Length"] or 0)
            body = json.loads(self.rfile.read(size) or b"null")
            asked = Asked(self.command, self.path, self.headers["X-Vault-Token"], body)
            lie.asked.append(asked)
            try:
                if not lie.answering(asked, self):
                    answer(self, 200, json.dumps(lie.honest(asked)).encode())
            except OSError:  # the client has enough
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the base class wants these names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    lie.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield lie
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: Any, status: int, body: bytes, **headers: str) -> None:
    """Send an answer."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
