# SPDX-License-Identifier: Apache-2.0
"""Keys in an ssh-agent: `ssh-agent:SHA256:FINGERPRINT`, `ssh-agent:COMMENT`, or `ssh-agent:`.

An agent signs messages and hashes them itself (draft-ietf-sshm-ssh-agent s.3.6), so these keys have
`sign_message`. What fwsign signs is no login: those are a string with a session identifier or begin
with SSHSIG, and ours are a COSE Sig_structure or the DER of a certificate, request or CRL.
"""

from __future__ import annotations

import base64
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from fwsign.format.cose import key_name
from fwsign.keys import uri
from fwsign.keys.confirm import checked
from fwsign.keys.held import Scheme, check_scheme, digest_of
from fwsign.keys.public_keys import ssh_public_key
from fwsign.keys.ssh_wire import Agent, AgentEntry, AgentReader, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.errors import Failed
    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.uri import KeyUri

SOCKET: Final = "SSH_AUTH_SOCK"
"""The variable that says where the agent listens."""
_OWN_DIGEST: Final = {256: "SHA-256", 384: "SHA-384", 521: "SHA-512"}
"""The digest of a curve, by the size of its key (RFC 5656 s.6.2.1)."""
_RSA: Final = {"SHA-256": (2, b"rsa-sha2-256"), "SHA-512": (4, b"rsa-sha2-512")}
"""The flag that asks for a digest, and the name of the signature (RFC 8332)."""


def open_key(text: str, passphrase: Passphrase) -> AgentKey:
    """Open a key by its URI: `ssh-agent:[SHA256:FINGERPRINT|COMMENT][?socket=PATH]`.

    Args:
        text: the URI; without a name, the agent must have one key that can sign.
        passphrase: not asked: the agent has the key in clear.

    Raises:
        Failed: `key.unsupported`: the URI, or a key that signs no releases; `key.missing`: none
            or several fit; `key.unreachable`, `key.failed`.
    """
    del passphrase
    found = uri.parse(text, ("socket",))
    if found.host is not None:
        raise uri.refusal(found.scheme, "there is no host; ssh-agent:COMMENT names a key")
    agent = Agent(_socket(found))
    entry = _chosen(agent.entries(), found.path, agent.path)
    return AgentKey(agent, entry)


class AgentKey:
    """A key in an ssh-agent; a `fwsign.keys.held.HeldKey` and `fwsign.keys.held.HashingKey`.

    Args:
        agent: where it is.
        entry: the key.

    Raises:
        Failed: `key.unsupported`: no release can be signed with such a key.
    """

    def __init__(self, agent: Agent, entry: AgentEntry) -> None:
        self._agent, self._entry = agent, entry
        self._public: Any = _public_key(entry)

    @property
    def place(self) -> str:
        """The URI, with the fingerprint."""
        return uri.make("ssh-agent", self._entry.fingerprint, {})

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        public: PublicKey = self._public
        return public

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign a message of Ed25519; see `fwsign.keys.held.HeldKey.sign_raw`.

        Raises:
            Failed: `key.unsupported`: a digest, which an agent does not take.
        """
        check_scheme(self.public_key, scheme)
        if scheme is not Scheme.PURE:
            raise self._unsupported(scheme, ", which takes whole messages and no digests")
        return self.sign_message(scheme, data, digest)

    def sign_message(self, scheme: Scheme, message: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.sign_message`."""
        check_scheme(self.public_key, scheme)
        if scheme is Scheme.PURE:
            signature = self._signed(message, 0, b"ssh-ed25519")
            return checked(self, scheme, message, "", signature)
        if scheme is Scheme.ECDSA:
            signature = self._ecdsa(message, digest)
        else:
            signature = self._rsa(scheme, message, digest)
        return checked(self, scheme, digest_of(message, digest), digest, signature)

    def close(self) -> None:
        """Do nothing: each request has its own connection."""

    def _ecdsa(self, message: bytes, digest: str) -> bytes:
        size = self._public.curve.key_size
        if digest != _OWN_DIGEST[size]:
            alone = f" with {digest}, but with {_OWN_DIGEST[size]} alone"
            raise self._unsupported(Scheme.ECDSA, alone)
        return _side_by_side(self._signed(message, 0, self._entry.kind), (size + 7) // 8)

    def _rsa(self, scheme: Scheme, message: bytes, digest: str) -> bytes:
        if scheme is not Scheme.PKCS1:
            raise self._unsupported(scheme, ", so RSA keys there sign certificates alone")
        if digest not in _RSA:
            raise self._unsupported(scheme, f" with {digest}, but with {' or '.join(_RSA)}")
        flags, name = _RSA[digest]
        # Some agents leave out zeros at the beginning (RFC 8332 s.3).
        return self._signed(message, flags, name).rjust(self._public.key_size // 8, b"\0")

    def _signed(self, message: bytes, flags: int, expected: bytes) -> bytes:
        name, signature = self._agent.sign(self._entry, message, flags)
        if name != expected:
            shown = name[:40].decode("ascii", "replace")
            raise failed(
                "key.failed",
                f"the agent at {self._agent.path} has signed with {shown}, not "
                f"{expected.decode()}: {self.place}",
                expected=expected.decode(),
                found=shown,
            )
        return signature

    def _unsupported(self, scheme: Scheme, why: str) -> Failed:
        name = key_name(self.public_key)
        return failed(
            "key.unsupported",
            f"a key of {name} makes no {scheme.value} signatures in an ssh-agent{why}: "
            f"{self.place}",
            expected="a message, and a scheme that agents have",
            found=scheme.value,
        )


def _socket(found: KeyUri) -> str:
    path = found.options.get("socket") or os.environ.get(SOCKET, "")
    if not hasattr(socket, "AF_UNIX"):
        raise failed(
            "key.unsupported",
            "an ssh-agent is asked by a Unix socket, and this system has none",
            expected="a Unix socket",
            found="none",
        )
    if not path:
        raise failed(
            "key.unreachable",
            f"no ssh-agent is known: {SOCKET} is not set",
            expected=f"socket= in the URI, or {SOCKET}",
            found="neither",
            hint='eval "$(ssh-agent)" starts one, ssh-add FILE gives it a key',
        )
    return path


def _chosen(entries: Sequence[AgentEntry], name: str, path: str) -> AgentEntry:
    """Return the one key that a name fits."""
    if name:
        fitting = [one for one in entries if name in {one.fingerprint, one.comment}]
    else:
        fitting = [one for one in entries if _why_not(one) is None] or list(entries)
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(map(str, fitting or entries))
    if fitting:
        words = f"several keys of the agent at {path} fit: {listed}"
    elif entries:
        words = f'the agent at {path} has no key "{name}", there are {listed}'
    else:
        words = f"the agent at {path} has no keys, or is locked"
    hint = "ssh-add FILE gives it one, ssh-add -X unlocks it" if not entries else None
    raise failed(
        "key.missing", words, expected=name or "one key", found=listed or "none", hint=hint
    )


def _why_not(entry: AgentEntry) -> str | None:
    """Return why a key cannot sign; None if it can."""
    kind = entry.kind
    if kind.startswith((b"sk-", b"webauthn-sk-")):
        return "FIDO keys sign a counter and a place beside the message, which nobody verifies here"
    if kind.startswith(b"ecdsa-sha2-nistp") or kind in {b"ssh-ed25519", b"ssh-rsa"}:
        return None
    return "no kind of key that signs releases or certificates"


def _public_key(entry: AgentEntry) -> Any:
    why = _why_not(entry)
    public = ssh_public_key(base64.b64encode(entry.blob)) if why is None else None
    if public is not None:
        return public
    kind = entry.kind[:40].decode("ascii", "replace")
    raise failed(
        "key.unsupported",
        f"{entry} is {kind}: {why or 'a key that cannot be read'}",
        expected="ssh-ed25519, ecdsa-sha2-nistp256 or ecdsa-sha2-nistp384",
        found=kind,
    )


def _side_by_side(signature: bytes, width: int) -> bytes:
    """Return r and s, each as wide as the curve's order; nothing if they are wider."""
    reader = AgentReader(signature)
    try:
        pair = (int.from_bytes(reader.string(), "big"), int.from_bytes(reader.string(), "big"))
        return b"".join(one.to_bytes(width, "big") for one in pair)
    except (ValueError, OverflowError):
        return b""
