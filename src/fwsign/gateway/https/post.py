# SPDX-License-Identifier: Apache-2.0
"""Sending over HTTPS, by the rules of fetching: one request, one small answer, no redirects.

Nothing is tried again here: the caller has kept what it sends, and sends it again later.
"""

import http.client
import ssl
import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.answer import Cut, wait_of
from fwsign.gateway.https.connection import Connector, check_address, is_known, target_of
from fwsign.gateway.https.credentials import OF_FETCH, ClientKey, read_token, without
from fwsign.gateway.https.download import no_answer

MAX_ANSWER: Final = 16 * 1024
"""Bytes of a server's answer."""
_SERVER_ERROR: Final = 500


class Posted(NamedTuple):
    """A server's answer.

    Args:
        status: below 500.
        body: its content, which nobody has judged.
        wait: seconds that the server asks to wait; 0 if it does not say.
    """

    status: int
    body: bytes
    wait: float = 0.0


class Poster:
    """Sends to one address, with a connection for each request.

    Args:
        url: the address, https.
        rules: the device's rules; its own credentials go to hosts of `allow_hosts` alone.
        client: the names of the client's files in errors.

    Raises:
        Failed: `io.fetch-address`, `io.fetch-connect`, `io.config`, `io.*`.
    """

    def __init__(self, url: str, rules: FetchRules, client: ClientKey = OF_FETCH) -> None:
        check_address(url, rules)
        self._url, self._rules = url, rules
        self._own = is_known(url, rules)
        self._connector = Connector(rules, client=client)
        # A token of hawkBit is for its server alone.
        file = rules.token_file if self._own and rules.token_kind == "bearer" else None  # noqa: S105
        self._token = read_token(file) if file else None

    def post(self, body: bytes, content_type: str, seconds: float) -> Posted:
        """Send a body and return the answer.

        Args:
            body: the content.
            content_type: its media type.
            seconds: the longest time for all of this.

        Raises:
            Failed: `io.fetch-*`.
        """
        try:
            return self._post(body, content_type, time.monotonic() + seconds)
        except Failed as error:
            raise without(error, self._token) from None
        except TimeoutError as error:
            raise self._slow(seconds) from error
        except Cut as error:
            raise Failed("io.fetch-connect", f"{self._url}: {error}", found=str(error)) from error
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise no_answer(self._url, error) from error

    def _post(self, body: bytes, content_type: str, deadline: float) -> Posted:
        headers = {
            "User-Agent": f"fwsign/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": content_type,
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connector.connect(self._url, deadline, own=self._own)
        try:
            connection.request("POST", target_of(urlsplit(self._url)), body, headers)
            response = connection.getresponse()
            found = response.read(MAX_ANSWER + 1)
            if len(found) > MAX_ANSWER:
                what = f"an answer of more than {MAX_ANSWER} bytes"
                raise Failed("io.fetch-protocol", f"{self._url}: {what}", found=what)
            if response.status >= _SERVER_ERROR:
                what = f"status {response.status}"
                message = f"{self._url}: the server cannot take it now: {what}"
                raise Failed("io.fetch-status", message, expected="status 200", found=what)
            return Posted(response.status, found, wait_of(response))
        finally:
            connection.close()

    def _slow(self, seconds: float) -> Failed:
        return Failed(
            "io.fetch-slow",
            f"{self._url} did not answer in {seconds:.0f} seconds",
            expected=f"{seconds:.0f} seconds",
            found="more",
        )
