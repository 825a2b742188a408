# SPDX-License-Identifier: Apache-2.0
"""What an ssh-agent and its clients say to each other (draft-ietf-sshm-ssh-agent)."""

from __future__ import annotations

import base64
import hashlib
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.errors.codes import Code

MAX_ANSWER: Final = 256 * 1024
"""Bytes of an answer, as OpenSSH limits them."""
LIST_SECONDS: Final = 10
"""The longest silence before the list of keys."""
SIGN_SECONDS: Final = 120
"""The longest silence before a signature: the agent may ask a person first (`ssh-add -c`)."""

_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14
_CERTIFICATE: Final = b"-cert-v01@openssh.com"


class AgentEntry(NamedTuple):
    """A key that an agent lists.

    Args:
        blob: the public key, as SSH writes it.
        comment: its name for people.
    """

    blob: bytes
    comment: str

    @property
    def kind(self) -> bytes:
        """The type of the key, as in "ssh-ed25519"."""
        return AgentReader(self.blob).string()

    @property
    def fingerprint(self) -> str:
        """The fingerprint, as `ssh-add -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    def __str__(self) -> str:
        """Return the fingerprint and the comment."""
        shown = "".join(one if one.isprintable() else "?" for one in self.comment[:64])
        return f'{self.fingerprint} "{shown}"'


class Agent:
    """An ssh-agent; each request has a connection of its own, so threads may ask at once.

    Args:
        path: of its socket.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def entries(self) -> tuple[AgentEntry, ...]:
        """Return its keys, without certificates.

        Raises:
            Failed: `key.unreachable`, `key.failed`.
        """
        answer = self._ask(bytes([_LIST]), LIST_SECONDS)
        try:
            if answer.byte() != _LISTED:
                raise ValueError
            pairs = [(answer.string(), answer.string()) for _ in range(answer.number())]
            found = [AgentEntry(blob, name.decode(errors="replace")) for blob, name in pairs]
            return tuple(one for one in found if not one.kind.endswith(_CERTIFICATE))
        except ValueError:
            raise self._odd("lists no keys") from None

    def sign(self, entry: AgentEntry, message: bytes, flags: int) -> tuple[bytes, bytes]:
        """Return the name of the signature, and the signature as SSH writes it.

        Raises:
            Failed: `key.locked`: the agent refuses; `key.unreachable`, `key.failed`.
        """
        request = (
            bytes([_SIGN])
            + encode_string(entry.blob)
            + encode_string(message)
            + flags.to_bytes(4, "big")
        )
        answer = self._ask(request, SIGN_SECONDS)
        try:
            if answer.byte() != _SIGNED:
                raise failed(
                    "key.locked",
                    f"the agent at {self.path} refuses to sign with {entry}: it is locked, the key "
                    "has gone or is for some hosts alone, or whoever was asked has said no",
                    found="a refusal",
                )
            signature = AgentReader(answer.string())
            return signature.string(), signature.string()
        except ValueError:
            raise self._odd("gives no signature") from None

    def _ask(self, request: bytes, seconds: float) -> AgentReader:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                connection.connect(self.path)
                connection.sendall(encode_string(request))
                size = int.from_bytes(_receive(connection, 4), "big")
                if size > MAX_ANSWER:
                    raise self._odd(f"answers with {size} bytes")
                return AgentReader(_receive(connection, size))
        except OSError as error:
            words = error.strerror or str(error) or type(error).__name__
            raise failed(
                "key.unreachable",
                f"no answer from the agent at {self.path}: {words}",
                found=words,
                hint="is it running? ssh-add -l asks it, too",
            ) from error

    def _odd(self, words: str) -> Failed:
        return failed("key.failed", f"the agent at {self.path} {words}", found=words)


class AgentReader:
    """Reads the values of an answer.

    Args:
        data: all of it.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """Return the next byte; raise ValueError if there is none."""
        return self._take(1)[0]

    def number(self) -> int:
        """Return the next number of four bytes; raise ValueError if there is none."""
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        """Return the next string (RFC 4251 s.5); raise ValueError if there is none."""
        return self._take(self.number())

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("the answer is too short")
        found, self._at = self._data[self._at : end], end
        return found


def encode_string(data: bytes) -> bytes:
    """Return bytes with their length before them (RFC 4251 s.5)."""
    return len(data).to_bytes(4, "big") + data


def failed(
    code: Code,
    message: str,
    *,
    expected: object = "an answer",
    found: object,
    hint: str | None = None,
) -> Failed:
    """Return a refusal about an agent."""
    return Failed(code, message, expected=expected, found=found, hint=hint)


def _receive(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(size - len(found))
        if not data:
            raise ConnectionResetError("it has closed the connection")
        found += data
    return bytes(found)
