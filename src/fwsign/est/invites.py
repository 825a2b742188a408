# SPDX-License-Identifier: Apache-2.0
"""Invitations: whom a PKI's server may certify, one file for each name in `enrol`.

An invitation goes through these states, and never back:

    open -> approved -> issued        a rule approves the first request at once
    open -> waiting -> approved       the operator does
    any but issued -> denied

The first good request claims it: from then on it is for that key alone. The file says `issued`
before the certificate is written, so that no kill lets a password count twice. Only where that
certificate cannot be written, as on a full disk, it is `approved` again, for the same key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.files import exclusive, io_error, read_bytes, write_atomic
from fwsign.names import peer_name
from fwsign.pki.ca_limits import permitted_leaf
from fwsign.pki.issuance import is_taken
from fwsign.pki.leaves import Leaf, leaf_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fwsign.pki.directory import Pki
    from fwsign.pki.leaves import Address

DIRECTORY: Final = "enrol"
KINDS: Final = ("client", "server")
"""The kinds of certificates that the server issues."""
INVITE_LIMIT: Final = 64 * 1024
"""Octets of an invitation's file."""
_GROUP, _GROUPS = 5, 5
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, none of which looks like another

State: TypeAlias = str
OPEN, WAITING, APPROVED, ISSUED, DENIED = "open", "waiting", "approved", "issued", "denied"


class Invite(NamedTuple):
    """An invitation."""

    name: str
    kind: str
    domains: tuple[str, ...]
    addresses: tuple[str, ...]
    secret: str | None
    """The SHA-256 of the password, in hexadecimal; None if a device's identity counts instead."""
    device: str | None
    """The serial number of the device whose IDevID counts; None if a password counts."""
    again: bool
    """Whether an entry of this name is replaced."""
    until: datetime
    state: State = OPEN
    key: str | None = None
    """The key that has claimed it: the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal."""
    since: datetime | None = None
    """When it came into its state."""

    def leaf(self) -> Leaf:
        """Return the content of the certificate."""
        addresses = tuple(map(ip_address, self.addresses))
        return Leaf(self.kind, self.name, self.domains, addresses)

    def opens(self, password: str) -> bool:
        """Tell whether a password is the one of this invitation."""
        given = _hash(self.name, password)
        return hmac.compare_digest(self.secret or "", given)

    def standing(self, now: datetime) -> str:
        """Return the state for people: `expired` for one that was not used in time."""
        return "expired" if self.state == OPEN and now >= self.until else self.state


def invite(
    pki: Pki,
    name: str,
    *,
    kind: str,
    domains: Sequence[str] = (),
    addresses: Sequence[Address] = (),
    device: str | None = None,
    again: bool = False,
    until: datetime,
    now: datetime,
) -> str | None:
    """Invite a name; return its password, which is stored nowhere, or None if a device counts.

    A new invitation replaces an older one that is not waiting.

    Args:
        pki: the PKI.
        name: the name of the entry, and the CN.
        kind: one of `KINDS`.
        domains: the hosts of a server.
        addresses: its addresses.
        device: the serial number of a device whose IDevID opens the invitation.
        again: invite an entry that exists; its certificate will be replaced.
        until: the last time at which a request may claim it.
        now: an aware time.

    Raises:
        Failed: `state.pki-exists`: the name is taken, or its request waits; `state.policy`,
            `state.ca-limit`, `state.pki`, `io.*`.
    """
    peer_name(name)
    leaf = permitted_leaf(
        pki, pki.issuing(kind), Leaf(kind, name, tuple(domains), tuple(addresses))
    )
    password = None if device else _password()
    with exclusive(pki.directory):
        _check_name(pki, name, kind, again=again)
        before = read(pki, name)
        if before is not None and before.state in (WAITING, APPROVED):
            raise Failed(
                "state.pki-exists",
                f'a request for "{name}" is {before.state} already',
                expected="a name without a request",
                found=before.state,
                hint=f"deny it first: fwsign pki deny {name}",
            )
        made = Invite(
            name,
            kind,
            leaf.domains,
            tuple(map(str, leaf.addresses)),
            _hash(name, password) if password else None,
            device,
            again,
            until,
            since=now,
        )
        write(pki, made)
    return password


def _check_name(pki: Pki, name: str, kind: str, *, again: bool) -> None:
    if not again:
        if is_taken(pki, name):
            raise Failed(
                "state.pki-exists",
                f'there is a certificate "{name}" already',
                expected="a new name",
                found=name,
                hint="choose another name, or replace its certificate: --again",
            )
        return
    leaf = leaf_of(pki.certificate(name))
    if leaf is None or leaf.kind != kind:
        found = leaf.kind if leaf else "another kind"
        raise Failed(
            "state.pki",
            f'"{name}" is no {kind}',
            expected=kind,
            found=found,
        )


def decide(pki: Pki, name: str, *, approve: bool, now: datetime) -> Invite:
    """Approve the request that waits for a name, or deny it or its invitation.

    Raises:
        Failed: `state.pki`: there is none, or it is too late; `io.*`.
    """
    with exclusive(pki.directory):
        found = read(pki, peer_name(name))
        may = (WAITING,) if approve else (OPEN, WAITING, APPROVED)
        if found is None or found.state not in may:
            state = found.state if found else "not invited"
            raise Failed(
                "state.pki",
                f'"{name}" has no request to {"approve" if approve else "deny"}: it is {state}',
                expected=" or ".join(may),
                found=state,
                hint="fwsign pki requests lists them",
            )
        decided = found._replace(state=APPROVED if approve else DENIED, since=now)
        write(pki, decided)
    return decided


def listed(pki: Pki) -> tuple[Invite, ...]:
    """Return all invitations, by name.

    Raises:
        Failed: `state.pki`: a file cannot be read; `io.*`.
    """
    folder = pki.directory / DIRECTORY
    try:
        names = sorted(one.stem for one in folder.glob("*.json") if not one.name.startswith("."))
    except OSError as error:
        raise io_error(error, folder) from error
    return tuple(found for name in names if (found := read(pki, name)) is not None)


def read(pki: Pki, name: str) -> Invite | None:
    """Return the invitation of a name that `peer_name` has checked; None if there is none.

    Raises:
        Failed: `state.pki`: its file cannot be read; `io.*`.
    """
    path = _path(pki, name)
    try:
        return _parse(name, json.loads(read_bytes(path, INVITE_LIMIT)))
    except Failed as error:
        if error.code == "io.missing":
            return None
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Failed(
            "state.pki",
            f"{path} is not an invitation",
            expected="an invitation that fwsign pki invite wrote",
            found=str(error)[:120],
        ) from error


def write(pki: Pki, invite: Invite) -> None:
    """Write an invitation; the caller holds the lock."""
    path = _path(pki, invite.name)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise io_error(error, path.parent, "write") from error
    said = {key: _plain(value) for key, value in invite._asdict().items()}
    text = json.dumps(said, indent=1)
    write_atomic(path, f"{text}\n".encode(), overwrite=True, mode=0o600)


def _path(pki: Pki, name: str) -> Path:
    return pki.directory / DIRECTORY / f"{name}.json"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _parse(name: str, said: Any) -> Invite:
    texts = ("kind", "until", "state", "since", "name")
    if not all(isinstance(said[key], str) for key in texts) or said["name"] != name:
        raise ValueError("another name")
    if said["kind"] not in KINDS or said["state"] not in (OPEN, WAITING, APPROVED, ISSUED, DENIED):
        raise ValueError("an unknown kind or state")
    found = Invite(
        name,
        said["kind"],
        tuple(map(str, said["domains"])),
        tuple(map(str, said["addresses"])),
        said["secret"],
        said["device"],
        bool(said["again"]),
        _time(said["until"]),
        said["state"],
        said["key"],
        _time(said["since"]),
    )
    found.leaf()  # addresses can be read
    return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _password() -> str:
    """Return a new password of 125 bits, to be typed once."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(_GROUP * _GROUPS))
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def _hash(name: str, password: str) -> str:
    # Nobody can guess 125 random bits, so that a slow hash would only help those who flood.
    return hashlib.sha256(f"fwsign invitation\0{name}\0{password}".encode()).hexdigest()
