#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A proxy that hands on verified releases only.

Machines behind it fetch their updates over plain HTTP, from one address, and cannot verify. The
proxy fetches an envelope from the update server, verifies it, and fetches and verifies each payload
before it gives out the first byte. What does not verify is answered with status 502 and the reason.

    verifying_proxy.py https://updates.acme.example/x1 --anchor ca.crt --vendor acme.example \
        --product gateway-x1 --cache /var/cache/releases --listen 127.0.0.1:8080

It remembers the highest sequence number only as long as it runs: a device that must never go back
keeps a floor of its own, as `fwsign install` does.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from fwsign.errors import Failed, FwsignError
from fwsign.verify import Anchor, DevicePolicy, VerifiedRelease, Verifier

MAX_ENVELOPE = 16 * 1024 * 1024
"""Bytes of an envelope that are read; fwsign refuses larger ones anyway."""
SECONDS = 30
"""The longest silence of the update server."""


class Releases:
    """Fetches releases, verifies them, and keeps verified payloads.

    Args:
        upstream: the address of the update server, without a slash at its end.
        anchors: whom to trust.
        policy: the demands on every release.
        cache: a directory for verified payloads, named by their digests.
    """

    def __init__(
        self, upstream: str, anchors: list[Anchor], policy: DevicePolicy, cache: Path
    ) -> None:
        self._upstream, self._anchors, self._policy, self._cache = upstream, anchors, policy, cache
        self._release: VerifiedRelease | None = None
        self._lock = threading.Lock()  # one fetch at a time

    def envelope(self, name: str) -> bytes:
        """Return a verified envelope.

        Args:
            name: its name on the update server.

        Raises:
            FwsignError: it is refused.
            OSError: it cannot be fetched.
        """
        with self._lock, self._fetched(name) as source:
            data = source.read(MAX_ENVELOPE + 1)
            floor = self._release.manifest.sequence_number if self._release else 0
            policy = self._policy._replace(min_sequence=floor)
            self._release = Verifier(self._anchors, policy).verify(data, at=datetime.now(UTC))
            return data

    def payload(self, name: str) -> Path:
        """Return the path of a verified payload of the release that was handed on last.

        Raises:
            FwsignError: it is refused, or the release has no such payload.
            OSError: it cannot be fetched or written.
        """
        with self._lock:
            release = self._release
            found = [one for one in release.components if one.uri == name] if release else []
            if release is None or not found:
                what = f'no verified release has a payload called "{name}"'
                raise Failed("io.payload-missing", what, expected="a payload", found=name)
            kept = self._cache / found[0].digest.value.hex()
            if not kept.exists():
                with tempfile.NamedTemporaryFile(dir=self._cache) as staged:
                    with self._fetched(name) as source:
                        release.receive(found[0], source, staged)
                    staged.flush()
                    kept.hardlink_to(staged.name)  # only now, since receive has returned
            return kept

    @contextmanager
    def _fetched(self, name: str) -> Iterator[IO[bytes]]:
        with urllib.request.urlopen(f"{self._upstream}/{name}", timeout=SECONDS) as answer:  # noqa: S310
            yield answer


def serve(releases: Releases, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that hands on what verifies; it begins with `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with an envelope, a payload, or a refusal."""
            name = self.path.removeprefix("/")
            try:
                if name.endswith(".suit"):
                    data = releases.envelope(name)
                    self._head(200, len(data))
                    self.wfile.write(data)
                    return
                with releases.payload(name).open("rb") as file:
                    self._head(200, file.seek(0, 2))
                    file.seek(0)
                    shutil.copyfileobj(file, self.wfile)
            except FwsignError as refusal:
                self._refuse(refusal.code, refusal.message)
            except OSError as error:
                self._refuse("io.fetch", str(error))

        def _refuse(self, code: str, message: str) -> None:
            answer = json.dumps({"code": code, "message": message}).encode()
            self._head(502, len(answer))
            self.wfile.write(answer)

        def _head(self, status: int, size: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.end_headers()

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """Run the proxy until it is stopped."""
    parser = argparse.ArgumentParser(description="hand on verified releases only")
    parser.add_argument("upstream", help="address of the update server")
    parser.add_argument("--anchor", action="append", required=True, type=Path, metavar="PEM")
    parser.add_argument("--vendor", required=True)
    parser.add_argument("--product", required=True)
    parser.add_argument("--cache", required=True, type=Path, metavar="DIR")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    given = parser.parse_args()
    policy = DevicePolicy(vendor=given.vendor, product=given.product, revocation="require")
    anchors = [Anchor.from_pem(path.read_bytes()) for path in given.anchor]
    releases = Releases(given.upstream.rstrip("/"), anchors, policy, given.cache)
    host, _, port = given.listen.rpartition(":")
    with serve(releases, host, int(port)) as server:
        print(f"listening on {host}:{server.server_port}", file=sys.stderr, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
