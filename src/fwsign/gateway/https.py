# SPDX-License-Identifier: Apache-2.0
"""HTTPS connections: allowed addresses, the check of servers, and a socket with a deadline."""

import http.client
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from fwsign.errors import Failed
from fwsign.gateway.fetch_rules import FetchRules


class Timed(ssl.SSLSocket):
    """A socket with a deadline, which a server cannot extend by sending a byte now and then."""

    deadline: float = 0.0
    stall: float = 0.0
    suppress_ragged_eofs: bool
    """Whether an end without a closed TLS connection passes for an end; of the base class."""

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        """Receive within the remaining time."""
        left = self.deadline - time.monotonic()
        if self.deadline and left <= 0:
            raise TimeoutError("the time is up")
        if self.deadline:
            self.settimeout(min(left, self.stall))
        return super().recv_into(*arguments, **more)


def connect(connection: http.client.HTTPSConnection, url: str) -> None:
    """Connect; name the url in an error."""
    try:
        connection.connect()
        if isinstance(connection.sock, Timed):
            # RFC 9112 s.9.8: an answer that ends by closing is whole only if TLS was closed too.
            connection.sock.suppress_ragged_eofs = False
    except (TimeoutError, ConnectionResetError):
        raise
    except (socket.gaierror, ssl.SSLError, OSError, UnicodeError) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error
        raise Failed(
            "io.fetch-connect",
            f"{url}: no connection: {str(reason).lower()}",
            expected="a server with a certificate that is trusted",
            found=str(reason),
        ) from error


def check_address(url: str, rules: FetchRules) -> SplitResult:
    """Refuse a url that is not https, names a user, or is on a host that is not allowed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    del port
    printable = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme != "https" or not host or "@" in parts.netloc or not printable:
        raise Failed(
            "io.fetch-address",
            f"{url} is not an https address without user and password",
            expected="https://HOST/...",
            found=url,
        )
    if rules.allow_hosts and host not in rules.allow_hosts:
        raise Failed(
            "io.fetch-address",
            f"{url} is on {host}, which allow_hosts does not name",
            expected=", ".join(rules.allow_hosts),
            found=host,
        )
    return parts


def join(base: str, place: str) -> str:
    """Return the address of a place relative to a base; `check_address` refuses bad ones."""
    try:
        return urljoin(base, place)
    except ValueError:  # such as https://[
        return place


def target_of(parts: SplitResult) -> str:
    """Return the request target: path and query."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def make_context(ca: Path | None) -> ssl.SSLContext:
    """Return a context with the roots for servers: the given file, or OpenSSL's built-in place.

    SSL_CERT_FILE and SSL_CERT_DIR do not count; `load_default_certs` would follow them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = Timed
    built = ssl.get_default_verify_paths()
    file = str(ca) if ca else built.openssl_cafile
    folder = None if ca else built.openssl_capath
    places = [place for place in (file, folder) if place and Path(place).exists()]
    try:
        if not places:
            raise FileNotFoundError(file)
        context.load_verify_locations(
            cafile=file if file in places else None, capath=folder if folder in places else None
        )
    except OSError as error:
        raise Failed(
            "io.fetch-connect",
            f"no roots to judge servers by in {file}",
            expected="a PEM file; fetch.ca in device.toml names one",
            found="none",
        ) from error
    return context
