# SPDX-License-Identifier: Apache-2.0
"""One request to a server, with a small answer: for APIs, which are no files.

Nothing is repeated and no redirect is followed, so that a request reaches the server that was meant
or none. The rules are those of fetching: hosts, roots, credentials, time.
"""

import contextlib
import http.client
import time
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.answer import Cut, unexpected
from fwsign.gateway.https.connection import Connector, check_address, target_of
from fwsign.gateway.https.credentials import hide, read_token, without

MAX_CALL_SECONDS: Final = 120
"""Seconds for one request with its answer."""

Method: TypeAlias = Literal["GET", "POST", "PUT"]


class CallBody(NamedTuple):
    """What a request brings: its bytes, and their media type."""

    data: bytes
    media_type: str


def call(
    method: Method, url: str, rules: FetchRules, limit: int, body: CallBody | None = None
) -> bytes:
    """Ask a server once; return its answer's body.

    Args:
        method: the method.
        url: the address, https.
        rules: what bounds this, and the gateway's own credentials.
        limit: the largest answer, in bytes.
        body: what the request brings; None for nothing.

    Raises:
        Failed: `io.fetch-*`, `io.config`.
    """
    own = check_address(url, rules).hostname in rules.allow_hosts
    token = read_token(rules.token_file) if rules.token_file and own else None
    headers = {"User-Agent": f"fwsign/{__version__}", "Connection": "close"}
    headers["Accept"] = body.media_type if body else "*/*"
    if token is not None:
        headers["Authorization"] = f"{rules.authorization} {token}"
    if body is not None:
        headers["Content-Type"] = body.media_type
    deadline = time.monotonic() + min(rules.total_seconds, MAX_CALL_SECONDS)
    try:
        with contextlib.closing(Connector(rules).connect(url, deadline, own=own)) as connection:
            target, data = target_of(urlsplit(url)), body.data if body else None
            connection.request(method, target, body=data, headers=headers)
            return _answer(url, connection.getresponse(), limit)
    except Failed as error:
        raise without(error, token) from None
    except (OSError, http.client.HTTPException, Cut) as error:
        words = hide(str(error) or type(error).__name__, token)
        what = f"{url}: no proper answer: {words}"
        raise Failed("io.fetch-protocol", what, expected="an answer", found=words) from None


def _answer(url: str, response: http.client.HTTPResponse, limit: int) -> bytes:
    with response:
        if not 200 <= response.status < 300:
            raise unexpected(url, f"status {response.status}")
        found = response.read(limit + 1)
    if len(found) > limit:
        what = f"{url}: the answer has more than {limit} bytes"
        raise Failed("io.fetch-protocol", what, expected=f"at most {limit} bytes", found="more")
    return found
