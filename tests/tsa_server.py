"""A time-stamping authority on 127.0.0.1, which answers as a test says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fwsign.x509 import der
from support import NOW, tlv
from tsa_kit import Tsa, integer, sequence

Answer = Callable[[bytes], bytes]


def granted(token: bytes, status: int = 0) -> bytes:
    """Encode a TimeStampResp with a token."""
    return sequence(sequence(integer(status)), token)


def rejected(status: int = 2, words: str = "") -> bytes:
    """Encode a TimeStampResp without one."""
    said = sequence(tlv(0x0C, words.encode())) if words else b""
    return sequence(sequence(integer(status), said))


def stamping(tsa: Tsa, gen_time: datetime = NOW) -> Answer:
    """Return an answer with a token for what is asked, at any time."""

    def answer(request: bytes) -> bytes:
        query = der.DerReader(der.DerReader(request).content(0x30))
        query.integer()
        imprint, nonce = query.whole(0x30), query.whole(2)
        return granted(tsa.stamp(b"", imprint=imprint, nonce=nonce, gen_time=gen_time))

    return answer


@contextmanager
def serving(
    answer: Answer, *, status: int = 200, headers: dict[str, str] | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve; yield the address, and the requests' headers as they come, method and path too."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append({"method": self.command, "path": self.path, **dict(self.headers.items())})
            data = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:  # the client has enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsa?x=1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
