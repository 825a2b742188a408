# SPDX-License-Identifier: Apache-2.0
"""Logins to tokens: one for all keys of a token, and for all threads, until the last key closes."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final

from pkcs11.constants import TokenFlag
from pkcs11.exceptions import PKCS11Error, UserAlreadyLoggedIn
from pkcs11.types import PROTECTED_AUTH

from fwsign.errors import Failed
from fwsign.keys import pkcs11_module
from fwsign.keys.pkcs11_errors import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fwsign.keys.pkcs11_uri import TokenUri

_LOCK: Final = threading.RLock()
"""Libraries are told nothing of threads (C_Initialize has no arguments), so one calls at a time."""
_logins: Final[dict[tuple[str, int], Login]] = {}
_refused: Final[set[bytes]] = set()
"""Marks of the PINs that tokens have refused."""
_SALT: Final = secrets.token_bytes(16)


class Login:
    """An open session with a token, logged in; `log_in` makes it.

    Args:
        place: the library's path, and the number of the slot.
        library: the library's maker, as it calls itself.
        token: python-pkcs11's token.
        session: python-pkcs11's session.
    """

    def __init__(self, place: tuple[str, int], library: str, token: Any, session: Any) -> None:
        self.library: Final = library
        self.token: Final = token
        self.users = 0
        self.pid: Final = os.getpid()
        self._place, self._session = place, session

    @property
    def name(self) -> str:
        """The token, for people."""
        return _name(self.token)

    @contextlib.contextmanager
    def session(self, doing: str) -> Iterator[Any]:
        """Lend the session to one thread at a time.

        Args:
            doing: what is done with it, after "cannot", for errors.

        Raises:
            Failed: `key.*`; one whose token is gone is not used for other keys.
        """
        pkcs11_module.refuse_fork(self.pid)
        with _LOCK:
            try:
                yield self._session
            except PKCS11Error as error:
                failed = explained(error, self.name, doing)
                if failed.code == "key.unreachable" and _logins.get(self._place) is self:
                    del _logins[self._place]
                raise failed from error

    def close(self) -> None:
        """Give the login back; the last of its users logs out."""
        if self.pid == os.getpid():  # the lock of another process may be locked for ever
            with _LOCK:
                self.users -= 1
                if self.users <= 0:
                    self.end()

    def end(self) -> None:
        """Log out, whoever still uses the login."""
        if _logins.get(self._place) is self:
            del _logins[self._place]
        with contextlib.suppress(PKCS11Error):  # it may be gone
            self._session.close()


def log_in(uri: TokenUri, pin: Callable[[], str]) -> Login:
    """Return a login to the token that a URI describes, which another key may use already.

    Args:
        uri: the URI.
        pin: returns the PIN; called only if there is no login yet and the token wants one.

    Raises:
        Failed: `key.*`; `io.permission` for a library that others may change.
    """
    path = pkcs11_module.module_path(uri)
    library = pkcs11_module.load(path)  # before the lock, which a fork may have left locked
    with _LOCK:
        token = pkcs11_module.find_token(library, uri)
        place = (path, token.slot.slot_id)
        found = _logins.get(place)
        if found is None:
            found = _logins[place] = Login(
                place, library.manufacturer_id, token, _open(token, uri, pin)
            )
        found.users += 1
        return found


def _open(token: Any, uri: TokenUri, pin: Callable[[], str]) -> Any:
    """Open a session and log in, with one try."""
    flags = token.flags
    if not flags & TokenFlag.LOGIN_REQUIRED:
        return _session(token, None)
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise _locked(token)
    own = flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH and "pin-source" not in uri.query
    if own:  # it asks at a key pad of its own
        return _session(token, PROTECTED_AUTH)
    secret = pin()
    mark = hashlib.blake2b(repr((_name(token), secret)).encode(), key=_SALT).digest()
    if mark in _refused:
        raise _wrong(token, "it has refused this PIN already")
    try:
        return _session(token, secret)
    except Failed as error:
        if error.code == "key.passphrase":
            _refused.add(mark)
            raise _wrong_now(token) from None
        raise


def _session(token: Any, pin: Any) -> Any:
    try:
        try:
            return token.open(user_pin=pin)
        except UserAlreadyLoggedIn:  # by another library in this process: logins belong to both
            return token.open()
    except PKCS11Error as error:
        raise explained(error, _name(token), "log in") from error


def _wrong_now(token: Any) -> Failed:
    """Return the refusal of a PIN, with what the token says of further tries."""
    try:
        flags = token.slot.get_token().flags
    except PKCS11Error:
        flags = 0
    if flags & TokenFlag.USER_PIN_LOCKED:
        return _locked(token, "wrong PIN, and ")
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        return _wrong(token, "one try is left before it locks")
    return _wrong(token)


def _wrong(token: Any, more: str = "") -> Failed:
    return Failed(
        "key.passphrase",
        f"wrong PIN for {_name(token)}{'; ' if more else ''}{more}",
        expected="its PIN",
        found="another",
        hint="is it the user PIN of this token? tokens lock after a few wrong ones",
    )


def _locked(token: Any, before: str = "") -> Failed:
    return Failed(
        "key.locked",
        f"{before}{_name(token)} is locked: too many wrong PINs",
        expected="a token that takes a PIN",
        found="locked",
        hint="its security officer unlocks it, with the tools of its maker",
    )


def _name(token: Any) -> str:
    return f'the token "{token.label}"'


def end_all() -> None:
    """Log out of all tokens, as the process that logged in does at its end."""
    for login in list(_logins.values()):
        if login.pid == os.getpid():
            login.end()


atexit.register(end_all)
