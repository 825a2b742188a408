# SPDX-License-Identifier: Apache-2.0
"""A login at OpenBao or Vault, which asks the server and explains each refusal."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fwsign.errors import Failed, FwsignError
from fwsign.keys import transit_login, uri
from fwsign.keys.exchange import KeyServer, Reply

if TYPE_CHECKING:
    from fwsign.keys import Passphrase
    from fwsign.keys.transit_login import TransitLogin
    from fwsign.keys.uri import KeyUri

WORDS_LIMIT: Final = 300
"""Characters of a server's words that are repeated."""
NO_ROUTE: Final = "no handler for route"
"""What a server says that has nothing at a path."""
_POLICY: Final = {"GET": "read", "LIST": "list", "POST": "update"}


class Session:
    """A login; it asks the server and explains each refusal.

    Args:
        found: the key's URI.
        passphrase: asked for the token if it is nowhere else.

    Raises:
        Failed: `key.*`, `io.*`.
    """

    def __init__(self, found: KeyUri, passphrase: Passphrase) -> None:
        self._scheme = found.scheme
        ca = transit_login.setting(found, "ca", "CACERT")
        self._server = KeyServer(transit_login.address(found), Path(ca) if ca else None)
        self.address = self._server.address
        self.namespace = transit_login.setting(found, "namespace", "NAMESPACE")
        if not self.namespace.isascii() or not self.namespace.isprintable():
            raise uri.refusal(found.scheme, "namespace= has characters that no namespace has")
        self._token, self._source = "", ""
        self._revoke = False
        login = transit_login.login(found)
        if login is None:
            where = f"for {self.address}"
            self._token, self._source = transit_login.find_token(found, passphrase, where)
        else:
            self._log_in(login)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the server, and return the JSON of its answer.

        Args:
            method: GET, LIST or POST.
            path: below `/v1/`.
            body: what becomes JSON; None for none.

        Raises:
            Failed: `key.unreachable`: no answer, a sealed server; `key.passphrase`: the token is
                not known; `key.locked`: its policy forbids this; `key.missing`: there is no
                such thing; `key.failed`: other errors.
        """
        answer = self._answer(method, path, body)
        if answer.status not in {200, 204}:
            raise self._refusal(answer, method, path)
        try:
            return json.loads(answer.body or b"null")
        except (ValueError, RecursionError):
            raise self._odd("its answer is not JSON") from None

    def close(self) -> None:
        """Revoke the token if this login has made it, and close the connections."""
        if self._revoke:
            self._revoke = False
            atexit.unregister(self.close)
            with contextlib.suppress(FwsignError):  # it ends by itself
                self.ask("POST", "auth/token/revoke-self", {})
        self._server.close()

    def _log_in(self, login: TransitLogin) -> None:
        path = f"auth/{quote(login.mount)}/login"
        self._source = login.source
        try:
            found = self.ask("POST", path, {**login.public, login.field: login.secret})
        except Failed as error:
            if error.code == "key.unreachable":
                raise
            words = (error.found or "").replace(login.secret, "***")
            raise Failed(
                "key.passphrase",
                f"{self.address} refuses the login {path} with {login.source}: {words}",
                expected="a login that is allowed",
                found=words,
                hint="are the role, its policies and what it is bound to as they should be?",
            ) from None
        try:
            token = found["auth"]["client_token"]
            self._token = transit_login.word(token.encode(), "the token of the login")
        except (AttributeError, KeyError, TypeError):
            raise self._odd(f"{path} gives no token") from None
        self._revoke = True
        atexit.register(self.close)  # for those who never close the key

    def _answer(self, method: str, path: str, body: object) -> Reply:
        headers = {"X-Vault-Request": "true"}
        if self._token:
            headers["X-Vault-Token"] = self._token
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        data = None if body is None else json.dumps(body).encode()
        try:
            return self._server.ask(method, f"/v1/{path}", data, headers)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            words = self._clean(str(error) or type(error).__name__)
            untrusted = "CERTIFICATE_VERIFY_FAILED" in words
            raise Failed(
                "key.unreachable",
                f"no answer from {self.address}: {words}",
                expected="an answer",
                found=words,
                hint="ca=FILE in the URI names the CA of the server" if untrusted else None,
            ) from None

    def _refusal(self, answer: Reply, method: str, path: str) -> Failed:
        status, words = answer.status, self._words(answer)
        if status == 403:
            return self._forbidden(method, path, words)
        if 300 <= status < 400:
            place = self._clean(answer.place)
            return Failed(
                "key.unreachable",
                f"{self.address} sends to {place or 'another server'}, which is not followed",
                expected=f"an answer of {self.address}",
                found=f"status {status}",
                hint=f"address={place} names the other one" if place else None,
            )
        if status == 404 or "not found" in words:
            more = f": {words}" if words else ""
            return Failed(
                "key.missing",
                f"{self.address} has no {path}{more}",
                expected=path,
                found=words or "nothing",
            )
        if status in {429, 472, 473, 502, 503, 504}:
            return Failed(
                "key.unreachable",
                f"{self.address} cannot answer now: {words or f'status {status}'}",
                expected="a server that is unsealed and active",
                found=f"status {status}",
            )
        return self._odd(words or f"status {status}")

    def _forbidden(self, method: str, path: str, words: str) -> Failed:
        """Tell a token that is not known from one whose policy lacks the path."""
        if self._token and not self._known(words):
            return Failed(
                "key.passphrase",
                f"{self.address} does not know the token of {self._source}: it is wrong or expired",
                expected="a token that is valid",
                found=words,
                hint=f"{transit_login.program(self._scheme)} login gets a new one",
            )
        rule = f'path "{path}" {{ capabilities = ["{_POLICY[method]}"] }}'
        return Failed(
            "key.locked",
            f"{self.address} forbids {method} {path} with {self._source}",
            expected=f"a policy with {rule}",
            found=words,
            hint=f"a policy of the token needs {rule}",
        )

    def _known(self, words: str) -> bool:
        """Tell whether the server knows the token; it forbids a known one with a list of errors."""
        if "error" in words:
            return "invalid token" not in words
        return self._answer("GET", "auth/token/lookup-self", None).status == 200

    def _words(self, answer: Reply) -> str:
        """Return the errors in an answer, on one line."""
        try:
            errors = json.loads(answer.body)["errors"]
            text = "; ".join(str(one) for one in errors)
        except (ValueError, RecursionError, KeyError, TypeError):
            text = answer.body[:WORDS_LIMIT].decode(errors="replace")
        return self._clean(text)

    def _clean(self, text: str) -> str:
        """Return words of a server: on one line, not too long, and without the token."""
        if self._token:
            text = text.replace(self._token, "***")
        words = " ".join(text.split())[:WORDS_LIMIT]
        return "".join(one if one.isprintable() else "?" for one in words)

    def _odd(self, words: str) -> Failed:
        return Failed(
            "key.failed",
            f"{self.address} did not do it: {words}",
            expected="an answer of OpenBao or Vault",
            found=words,
        )
