# SPDX-License-Identifier: Apache-2.0
"""The gateway's own credentials for servers: a client certificate, a token, a proxy's login.

They lie in files of device.toml's `[fetch]`. Files with secrets may be read by their owner alone.
"""

import base64
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import read_owned

MAX_SECRET: Final = 64 * 1024
"""Bytes of a key file."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")  # RFC 6750 s.2.1
_LEAST: Final = 8
"""Characters of a token that no other text has by chance."""
_LOGIN: Final = re.compile(r"[^:\x00-\x1f\x7f]{1,255}:[^\x00-\x1f\x7f]{0,255}")


def read_token(path: Path) -> str:
    """Return the token of a file.

    Raises:
        Failed: `io.config`, `io.*`.
    """
    text = _secret("fetch.token_file", path).decode("latin-1").strip()
    if not _TOKEN.fullmatch(text):
        raise _wrong(
            "fetch.token_file", path, "a token of letters, digits and ._~+/-=, on one line"
        )
    return text


def hide(text: str, token: str | None) -> str:
    """Return a text without the token: a server may repeat it where messages quote the server."""
    return text if token is None or len(token) < _LEAST else text.replace(token, "(token)")


def without(error: Failed, token: str | None) -> Failed:
    """Return an error without the token."""
    found = None if error.found is None else hide(error.found, token)
    expected = None if error.expected is None else hide(error.expected, token)
    message = hide(error.message, token)
    return Failed(error.code, message, expected=expected, found=found, hint=error.hint)


def read_login(path: Path) -> str:
    """Return the value of Proxy-Authorization for a file with user:password (RFC 7617).

    Raises:
        Failed: `io.config`, `io.*`.
    """
    data = _secret("fetch.proxy_login_file", path).rstrip(b"\r\n")
    try:
        fine = _LOGIN.fullmatch(data.decode())
    except UnicodeDecodeError:
        fine = None
    if not fine:
        raise _wrong("fetch.proxy_login_file", path, "user:password, on one line")
    return "Basic " + base64.b64encode(data).decode("ascii")


class ClientKey(NamedTuple):
    """The names of a client's two files in errors, and the source of its key's passphrase.

    Args:
        certificate: the name of the certificate's setting or option.
        key: the name of the key's.
        passphrase: returns the passphrase; None where nobody is there to type one.
    """

    certificate: str
    key: str
    passphrase: Callable[[], str] | None = None


OF_FETCH: Final = ClientKey("fetch.client_cert", "fetch.client_key")


def use_client(
    context: ssl.SSLContext, certificate: Path, key: Path, names: ClientKey = OF_FETCH
) -> None:
    """Let a context prove who this gateway is.

    Args:
        context: the context.
        certificate: a PEM file with the certificate, and with the CAs between it and the root.
        key: a PEM file with its private key, without a passphrase unless somebody can type it.
        names: their names in errors, and the source of the passphrase.

    Raises:
        Failed: `io.config`, `io.*`.
    """
    _owned(names.certificate, certificate)
    locked, ask = b"ENCRYPTED" in _secret(names.key, key), names.passphrase
    if locked and ask is None:
        expected = "a private key without a passphrase, since nobody is there to type one"
        raise _wrong(names.key, key, expected)
    typed = ask().encode() if locked and ask is not None else b""
    try:
        context.load_cert_chain(certificate, key, password=lambda: typed)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        more = ", or the passphrase is wrong" if locked else ""
        raise Failed(
            "io.config",
            f"{names.certificate} {certificate} and {names.key} {key} are not a certificate "
            f"and its private key, in PEM{more}: {reason.lower().replace('_', ' ')}",
            expected="a certificate and its private key",
            found=reason,
        ) from None


def _secret(key: str, path: Path) -> bytes:
    """Return the content of a file that no other user can read."""
    data = _owned(key, path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise Failed(
            "io.config",
            f"{key} {path} can be read by other users: mode {mode:04o}",
            expected="mode 0600",
            found=f"mode {mode:04o}",
            hint=f"chmod 600 {path}",
        )
    return data


def _owned(key: str, path: Path) -> bytes:
    try:
        return read_owned(path, MAX_SECRET)
    except Failed as error:
        message = f"{key}: {error.message}"
        raise Failed(error.code, message, expected=error.expected, found=error.found) from error


def _wrong(key: str, path: Path, expected: str) -> Failed:
    """Return the error for a file with something else; its content is not shown."""
    return Failed("io.config", f"{key} {path} is not {expected}", expected=expected)
