# SPDX-License-Identifier: Apache-2.0
"""An HTTPS server for releases, as plain as they are; `bench/run` starts it.

usage: release_server.py DIR CHAIN KEY        prints its port, and serves DIR until it is ended

It gives each file an entity tag, and answers with status 304 where the client has that file.
"""

import hashlib
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    """Serve."""
    folder, chain, key = sys.argv[1:]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = (Path(folder) / Path(self.path).name).read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            is_known = self.headers.get("If-None-Match") == tag
            self.send_response(304 if is_known else 200)
            self.send_header("ETag", tag)
            if not is_known:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if not is_known:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
