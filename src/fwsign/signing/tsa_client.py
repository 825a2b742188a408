# SPDX-License-Identifier: Apache-2.0
"""Ask a time-stamping authority for a token, over HTTP or HTTPS (RFC 3161 section 3.4).

The connection is not trusted: `fwsign.signing` verifies the token before it is used. So a server
that is slow, wordy or not the real one can only make signing fail, within `TOTAL_SECONDS`.
"""

import http.client
import secrets
from typing import Final
from urllib.parse import SplitResult, urlsplit

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.format import cbor
from fwsign.format.cose import MAX_TOKEN_SIZE
from fwsign.format.payload import digest
from fwsign.keys import asn1
from fwsign.keys.exchange import read_bounded, within
from fwsign.x509 import der
from fwsign.x509.token import parse_token

STALL_SECONDS: Final = 10
"""The server's longest silence."""
TOTAL_SECONDS: Final = 30
"""The longest time for the whole exchange."""
MAX_RESPONSE_SIZE: Final = MAX_TOKEN_SIZE + 4096
"""Bytes of an answer: a token, and the server's status."""

_SHA256: Final = bytes.fromhex("300d06096086480165030402010500")  # with NULL, as most TSAs expect
_STATUS: Final = {2: "rejection", 3: "waiting", 4: "revocation warning", 5: "revoked"}
_UTF8: Final = 0x0C


def request_token(url: str, signature: bytes) -> bytes:
    """Return a token for a block's signature; only its form and nonce are checked.

    Args:
        url: the authority's address, http or https.
        signature: the signature in COSE form.

    Raises:
        Failed: `io.tsa`.
        Malformed, Tampered, Untrusted: as `fwsign.x509.token.parse_token`.
    """
    parts = _address(url)
    nonce = secrets.randbits(64)
    token = read_response(_exchange(url, parts, make_request(signature, nonce)))
    found = parse_token(token).nonce
    if found != nonce:
        raise Failed(
            "io.tsa", f"{url} answers another request", expected=f"nonce {nonce}", found=found
        )
    return token


def make_request(signature: bytes, nonce: int) -> bytes:
    """Make a TimeStampReq (RFC 3161 section 2.4.1) that asks for the TSA's certificates too.

    Args:
        signature: the signature; its encoding with the head is stamped (RFC 9921 section 3.1).
        nonce: a natural number.
    """
    imprint = digest(-16, cbor.byte_string_head(len(signature)), signature)
    return asn1.sequence(
        asn1.integer(1),
        asn1.sequence(_SHA256, asn1.octets(imprint)),
        asn1.integer(nonce),
        asn1.tlv(der.BOOLEAN, b"\xff"),
    )


def read_response(data: bytes) -> bytes:
    """Return the token in a TimeStampResp (RFC 3161 section 2.4.2).

    Raises:
        Failed: `io.tsa` if there is none.
    """
    try:
        outer = der.DerReader(data)
        response = der.DerReader(outer.content(der.SEQUENCE))
        outer.end()
        info = der.DerReader(response.content(der.SEQUENCE))
        status = info.integer()
        said = info.optional(der.SEQUENCE)
        if status > 1:  # 0 is granted, 1 granted with changes that verification will judge
            words = der.DerReader(said or b"").optional(_UTF8) or b""
            reason = f"{_STATUS.get(status, status)} {words.decode(errors='replace')[:200]!r}"
            raise Failed("io.tsa", f"the authority refuses: {reason}", found=reason)
        token = response.whole(der.SEQUENCE)
        response.end()
    except ValueError as error:
        raise Failed("io.tsa", f"not an answer of a time-stamping authority: {error}") from None
    return token


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, fine = urlsplit(""), False
    clean = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if not fine or not clean:
        words = "an address http://HOST/... or https://HOST/..., without user and password"
        raise Failed("io.tsa", f"{url!r} is not {words}", expected=words, found=url)
    return parts


def _exchange(url: str, parts: SplitResult, request: bytes) -> bytes:
    try:
        return within(TOTAL_SECONDS, lambda: _post(parts, request))
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        raise Failed("io.tsa", f"{url}: {reason}", found=reason) from error


def _post(parts: SplitResult, request: bytes) -> bytes:
    """Post the request, without proxies and without following redirects."""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    port = parts.port or kind.default_port  # else http.client takes an IPv6 address's end for it
    connection = kind(parts.hostname or "", port, timeout=STALL_SECONDS)
    headers = {
        "Content-Type": "application/timestamp-query",
        "Accept": "application/timestamp-reply",
        "User-Agent": f"fwsign/{__version__}",
        "Connection": "close",
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, request, headers)
        with connection.getresponse() as response:
            if response.status != 200:
                place = response.getheader("Location")
                to = f" to {place}, which is not followed" if place else ""
                raise OSError(f"status {response.status}{to}")
            data = read_bounded(response, MAX_RESPONSE_SIZE)
    finally:
        connection.close()
    return data
