# SPDX-License-Identifier: Apache-2.0
"""HTTPS connections: allowed addresses, the check of servers, and a socket with a deadline."""

import contextlib
import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import SplitResult, urljoin, urlsplit

from fwsign.errors import Failed
from fwsign.files import refuse_special
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import credentials
from fwsign.gateway.https.proxy import tunnel
from fwsign.gateway.https.server_dates import check_dates, ignore_dates, is_wrong
from fwsign.gateway.https.tcp import dial

_OF_DATES: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_DATES: Final = "is this gateway's clock right? Else the server needs a new certificate"


class Timed(ssl.SSLSocket):
    """A socket with a deadline, which a server cannot extend by sending a byte now and then."""

    deadline: float
    stall: float
    suppress_ragged_eofs: bool
    """Whether an end without a closed TLS connection passes for an end; of the base class."""

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        """Receive within the remaining time."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self.settimeout(min(left, self.stall))
        return super().recv_into(*arguments, **more)


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


def is_known(url: str, rules: FetchRules) -> bool:
    """Tell whether the gateway's own credentials may go to an address."""
    return urlsplit(url).hostname in rules.allow_hosts


def join(base: str, place: str) -> str:
    """Return the address of a place relative to a base; `check_address` refuses bad ones."""
    try:
        return urljoin(base, place)
    except ValueError:  # such as https://[
        return place


def same_origin(one: str, other: str) -> bool:
    """Tell whether two https addresses are on the same host and port."""

    def origin(url: str) -> tuple[str | None, int]:
        parts = urlsplit(url)
        return parts.hostname, parts.port or http.client.HTTPS_PORT

    return origin(one) == origin(other)


def target_of(parts: SplitResult) -> str:
    """Return the request target: path and query."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def make_context(ca: Path | None, kind: type[ssl.SSLSocket] = Timed) -> ssl.SSLContext:
    """Return a context with the roots for servers: the given file, or OpenSSL's built-in place.

    Args:
        ca: the file.
        kind: the class of its sockets.

    SSL_CERT_FILE and SSL_CERT_DIR do not count; `load_default_certs` would follow them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9525 s.2: names are alternative names
    context.sslsocket_class = kind
    if ca:
        refuse_special(ca)
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


class Connector:
    """Connects to servers by a device's rules.

    Args:
        rules: the limits, and the files of the gateway's own credentials.
        kind: the class of the sockets.
        client: opens the gateway's key, where not by the settings of device.toml.

    Raises:
        Failed: `io.config`, `io.fetch-connect`, `io.*`.
    """

    def __init__(
        self,
        rules: FetchRules,
        kind: type[ssl.SSLSocket] = Timed,
        client: credentials.ClientKey = credentials.OF_FETCH,
    ) -> None:
        self._rules = rules
        self._context = make_context(rules.ca, kind)
        self._own = self._context
        if rules.client_cert and rules.client_key:
            self._own = make_context(rules.ca, kind)
            credentials.use_client(self._own, rules.client_cert, rules.client_key, client)
        if is_wrong(rules.since):
            ignore_dates(self._context)
            ignore_dates(self._own)
        self._login = credentials.read_login(rules.login_file) if rules.login_file else None

    def connect(
        self, url: str, deadline: float, *, own: bool, turn: int = 0
    ) -> http.client.HTTPSConnection:
        """Return a connection to the server of an address.

        Args:
            url: the address.
            deadline: the end of the time for the transfer, by `time.monotonic`.
            own: whether the server may see the gateway's certificate.
            turn: the number of tries before.

        Raises:
            TimeoutError, ConnectionResetError: worth another try; Failed: `io.fetch-connect`.
            Cut: the proxy is busy.
        """
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or http.client.HTTPS_PORT
        secure = self.secure(url, (host, port), deadline, own=own, turn=turn)
        timed = cast("Timed", secure)  # the context's class of sockets
        timed.deadline, timed.stall = deadline, self._rules.stall_seconds
        # RFC 9112 s.9.8: an answer that ends by closing is whole only if TLS was closed too.
        timed.suppress_ragged_eofs = False
        # With its port given, http.client does not split an IPv6 address.
        connection = http.client.HTTPSConnection(host, port, context=secure.context)
        connection.sock = secure
        connection.auto_open = 0
        return connection

    def secure(
        self, url: str, place: tuple[str, int], deadline: float, *, own: bool, turn: int = 0
    ) -> ssl.SSLSocket:
        """Return a socket to a server that has proved who it is.

        Args:
            url: the address, for errors.
            place: its host and port.
            deadline: the end of the time for this, by `time.monotonic`.
            own: whether the server may see the gateway's certificate.
            turn: the number of tries before.

        Raises:
            As `connect`.
        """
        rules, (host, port) = self._rules, place
        context = self._own if own else self._context
        with _explained(url), contextlib.ExitStack() as stack:
            sock = dial(*(rules.proxy or place), self._by(deadline), rules.buffer, turn)
            stack.callback(sock.close)
            if rules.proxy is not None:
                tunnel(sock, host, port, self._login, self._by(deadline))
            sock.settimeout(max(self._by(deadline) - time.monotonic(), 0.001))
            secure = context.wrap_socket(sock, server_hostname=host)
            stack.callback(secure.close)
            check_dates(secure, rules.since)
            stack.pop_all()
        return secure

    def _by(self, deadline: float) -> float:
        """Return the end of the time for the next step."""
        return min(deadline, time.monotonic() + self._rules.stall_seconds)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Name the address in an error of its connection."""
    try:
        yield
    except (TimeoutError, ConnectionResetError):
        raise
    except Failed as error:
        message = f"{url}: {error.message}"
        raise Failed(
            error.code, message, expected=error.expected, found=error.found, hint=error.hint
        ) from error
    except (ssl.SSLError, OSError, ValueError) as error:  # ValueError: an impossible name
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error
        raise Failed(
            "io.fetch-connect",
            f"{url}: no connection: {str(reason).lower()}",
            expected="a server with a certificate that is trusted",
            found=str(reason),
            hint=_DATES if getattr(error, "verify_code", None) in _OF_DATES else None,
        ) from error
