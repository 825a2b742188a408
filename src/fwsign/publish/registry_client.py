# SPDX-License-Identifier: Apache-2.0
"""Requests to a registry: TLS, tokens, limits, and errors as ours.

Credentials go to the registry, and to a token server that is its own or that the user named, and
nowhere else: a redirect to another host loses them.
"""

import json
import re
import threading
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from fwsign.errors import Failed
from fwsign.format.payload import CHUNK_SIZE
from fwsign.publish.registry_auth import Credentials, is_token_server
from fwsign.publish.store import LARGEST_READ

CONNECT_SECONDS: Final = 10
STALL_SECONDS: Final = 60
"""The registry's longest silence."""
ATTEMPTS: Final = 3
"""How often a question is sent that has no answer."""
REDIRECTS: Final = 5
"""How often a question is sent on."""
_QUESTIONS: Final = ("GET", "HEAD")
_ELSEWHERE: Final = (301, 302, 303, 307, 308)
MAX_JSON: Final = 4 * 1024 * 1024
"""Bytes of a manifest, as registries limit it, or of another answer in JSON."""
MAX_TOKEN: Final = 64 * 1024
_TOKEN = re.compile(r"[ -~]+")
_PAIRS = re.compile(r'([A-Za-z]+)="([^"]*)"')
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]", "::1")


class RegistryAnswer(NamedTuple):
    """A registry's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RegistryClient:
    """Requests to one repository of one registry. Threads may use it at once.

    Args:
        host: the registry, with its port.
        name: the repository.
        credentials: those for it, if there are any.
        token_hosts: further token servers that may have them.
    """

    def __init__(
        self,
        host: str,
        name: str,
        credentials: Credentials | None,
        token_hosts: Collection[str] = (),
    ) -> None:
        self.name, self._token_hosts = name, token_hosts
        self._host, self._credentials = host, credentials
        scheme = "http" if is_loopback(host) else "https"
        self.base = f"{scheme}://{host}"
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        self._pool = urllib3.PoolManager(timeout=timeout, maxsize=8)
        self._token: str | None = None
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        place: str,
        *,
        good: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = LARGEST_READ,
    ) -> RegistryAnswer:
        """Send a request; log in if the registry wants that.

        Args:
            method: GET, HEAD, POST, PATCH, PUT or DELETE.
            place: a path below /v2/NAME/, or an address that the registry gave.
            good: the statuses that are answers.
            headers: further headers.
            body: the body.
            limit: the most bytes of the answer.

        Raises:
            Failed: `io.permission`: a status of 401 or 403; `io.place`: everything else.
        """
        url = self.resolve(place)
        answer = self._send(method, url, headers or {}, body, limit)
        if answer.status == 401 and self._is_own(url):
            self._log_in(answer.headers.get("WWW-Authenticate", ""))
            answer = self._send(method, url, headers or {}, body, limit)
        if answer.status not in good:
            raise self._refused(method, url, answer)
        return answer

    def resolve(self, place: str, below: str = "") -> str:
        """Return the address of a place that the registry named.

        Args:
            place: an address, or a path.
            below: the place in whose answer it was; "" for /v2/NAME/.

        Raises:
            Failed: `io.place`: it is no address, or one without TLS.
        """
        try:
            url = urljoin(urljoin(f"{self.base}/v2/{self.name}/", below), place)
            scheme = urlsplit(url).scheme
        except ValueError:
            raise self._failed(f"it names {place!r:.200}, which is no address") from None
        if scheme != urlsplit(self.base).scheme:
            raise self._failed(f"it sent us from {self.base} to {scheme}://")
        return url

    def _is_own(self, url: str) -> bool:
        return urlsplit(url).netloc == urlsplit(self.base).netloc

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> RegistryAnswer:
        """Send a request; follow where the registry sends a question, without credentials."""
        answer = self._send_once(method, url, headers, body, limit)
        for _ in range(REDIRECTS):
            place = answer.headers.get("Location")
            if method not in _QUESTIONS or answer.status not in _ELSEWHERE or not place:
                break
            url = self.resolve(place, url)
            answer = self._send_once(method, url, headers, body, limit)
        return answer

    def _send_once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> RegistryAnswer:
        sent = {"User-Agent": "fwsign", **headers}
        if self._is_own(url) and (authorization := self._authorization()) is not None:
            sent["Authorization"] = authorization
        asks = method in _QUESTIONS
        tries = urllib3.Retry(
            total=ATTEMPTS if asks else 0,
            connect=ATTEMPTS,
            read=ATTEMPTS if asks else 0,
            status=0,
            backoff_factor=0.3,
        )
        try:
            answer = self._pool.request(
                method,
                url,
                headers=sent,
                body=body,
                retries=tries,
                redirect=False,
                preload_content=False,
            )
            data = b"" if method == "HEAD" else _read(answer, limit + 1)
            answer.release_conn()
        except (HTTPError, OSError) as error:
            raise self._failed(_plain(error)) from None
        if len(data) > limit:
            raise self._failed(f"an answer of more than {limit} bytes")
        return RegistryAnswer(answer.status, answer.headers, data)

    # --- logging in --------------------------------------------------------------------------

    def _authorization(self) -> str | None:
        with self._lock:
            return self._token

    def _log_in(self, challenge: str) -> None:
        """Take the registry's challenge: Basic, or Bearer with a token from its server."""
        kind, _, rest = challenge.partition(" ")
        credentials = self._credentials
        if kind.lower() == "basic" and credentials is not None:
            token: str | None = credentials.basic
        elif kind.lower() == "bearer":
            token = f"Bearer {self._fetch_token(dict(_PAIRS.findall(rest)))}"
        else:
            token = None
        with self._lock:
            self._token = token

    def _fetch_token(self, facts: Mapping[str, str]) -> str:
        realm = facts.get("realm", "")
        asked = {
            "service": facts.get("service", ""),
            "scope": facts.get("scope") or f"repository:{self.name}:pull,push",
        }
        try:
            where = urlsplit(realm)
        except ValueError:
            raise self._failed(f"its token server {realm!r:.200} is no address") from None
        loopback = is_loopback(self._host) and is_loopback(where.netloc)
        if where.scheme != "https" and not (where.scheme == "http" and loopback):
            raise self._failed(f"its token server {realm!r:.200} is not https")
        headers = {"User-Agent": "fwsign"}
        if self._credentials is not None:
            self._refuse_strange(where.hostname or "")
            headers["Authorization"] = self._credentials.basic
        try:
            answer = self._pool.request(
                "GET",
                f"{realm}{'&' if where.query else '?'}{urlencode(asked)}",
                headers=headers,
                retries=urllib3.Retry(total=ATTEMPTS),
                redirect=False,
                preload_content=False,
            )
            data = answer.read(MAX_TOKEN + 1)
            answer.close()
        except (HTTPError, OSError) as error:
            raise self._failed(f"its token server failed: {_plain(error)}") from None
        if answer.status in (401, 403):
            raise self._forbidden(f"its token server answers {answer.status}")
        found: Any = self.json(data)
        token = found.get("token") or found.get("access_token")
        if answer.status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise self._failed(f"its token server gave no token, but status {answer.status}")
        return token

    def _refuse_strange(self, server: str) -> None:
        """Refuse a token server that must not have the credentials."""
        own = urlsplit(self.base).hostname or ""
        if not is_token_server(server, own, self._token_hosts):
            message = f"its token server {server!r:.200} is of another domain"
            raise Failed(
                "io.place",
                f"the registry {self._host}: {message}: it gets no credentials",
                expected=f"{own}, or a name below it",
                found=server,
                hint=f"if it is that of your registry: --token-host {server:.200}",
            )

    # --- errors ------------------------------------------------------------------------------

    def json(self, data: bytes) -> Any:
        """Return an object that the registry sent as JSON."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._failed("an answer that is no JSON object")
        return found

    def _refused(self, method: str, url: str, answer: RegistryAnswer) -> Failed:
        words = f"{method} {urlsplit(url).path} has status {answer.status}"
        said = _said(answer.body)
        words = f"{words}: {said}" if said else words
        return self._forbidden(words) if answer.status in (401, 403) else self._failed(words)

    def _forbidden(self, words: str) -> Failed:
        who = "no credentials" if self._credentials is None else "the credentials that we have"
        return Failed(
            "io.permission",
            f"the registry {self._host} does not let us in with {who}: {words}",
            expected="a login that may push",
            found=who,
            hint="log in with: docker login; or give a file with USER:PASSWORD: --auth FILE",
        )

    def _failed(self, words: str) -> Failed:
        return Failed("io.place", f"the registry {self._host}: {words}", found=words)


def _read(answer: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    """Read an answer up to a limit; what is longer is not read, and its connection is closed."""
    data = bytearray()
    while len(data) < limit and (
        more := answer.read(min(CHUNK_SIZE, limit - len(data)), decode_content=False)
    ):
        data += more
    if len(data) == limit:
        answer.close()
    return bytes(data)


def is_loopback(host: str) -> bool:
    """Tell whether a host, with or without a port, is this machine."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in _LOOPBACK


def _said(body: bytes) -> str:
    """Return what a registry says of an error, for people."""
    try:
        first = json.loads(body)["errors"][0]
        return f"{first.get('code', '')} {first.get('message', '')}".strip()[:200]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""


def _plain(error: Exception) -> str:
    """Return an error of the library in few words."""
    reason = getattr(error, "reason", None)
    text = str(reason if reason is not None else error)
    return text.rpartition("): ")[2][:300] or type(error).__name__
