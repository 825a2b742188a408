# SPDX-License-Identifier: Apache-2.0
"""The address that a gateway follows: an envelope at a fixed https address, or a directory.

`fwsign.gateway.follow.channels` looks at the third kind of address.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.files import io_error, read_bytes
from fwsign.format.component import is_url
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from fwsign.format.suit import decode_manifest
from fwsign.gateway.choice import ChannelChoice
from fwsign.gateway.config.device import Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.config.follow_rules import HAWKBIT
from fwsign.gateway.target.sources import Sources

MAX_ENVELOPES: Final = 64
"""Envelopes in a directory: each new one is read and verified."""
ENDING: Final = ".suit"
_NO_DEPLOYMENT: Final = "none"
_OWN: Final = "sha256 "
"""The beginning of our own part of a tag, after that of the server if it gives one."""
_TAG: Final = re.compile(rf"(?:(.*) )?{_OWN}[0-9a-f]{{64}}", re.DOTALL)


class Looked(NamedTuple):
    """The content of an address.

    Args:
        tag: its tag, for the next look.
        found: the sources of its releases, the highest sequence number first; None if the content
            is that of the tag given.
        several: whether releases for other devices may be among them.
        choice: what the channel says; None if the address is no channel's.
        notes: notes of the channel's verification.
    """

    tag: str
    found: Iterator[Sources] | None
    several: bool = False
    choice: ChannelChoice | None = None
    notes: tuple[str, ...] = ()


def look(address: str, tag: str | None, rules: FetchRules, tell: Tell) -> Looked:
    """Look at an address once; an unchanged one costs one small request, or no reading of files.

    Args:
        address: an https address, one of hawkBit's API, or the path of a directory.
        tag: the tag of the last look; None to read it in any case.
        rules: the limits of fetching.
        tell: told of redirects.

    Raises:
        Malformed: `malformed.size`; Failed: `io.*`, `state.limit`.
    """
    if address.startswith(HAWKBIT):
        return _deployment(address, tag, rules, tell)
    if not is_url(address):
        return _directory(Path(address), tag, rules, tell)
    now, data = content(address, tag, rules, tell)
    if data is None:
        return Looked(now, None)
    return Looked(now, iter([Sources(address, (), rules, tell, data)]))


def _deployment(address: str, tag: str | None, rules: FetchRules, tell: Tell) -> Looked:
    from fwsign.gateway.follow.hawkbit import HawkbitDevice  # most gateways have no such server

    found = HawkbitDevice.at(address, rules, tell).deployment()
    now = found.tag if found is not None else _NO_DEPLOYMENT
    if now == tag:
        return Looked(now, None)
    return Looked(now, iter([found.sources(rules, tell)] if found is not None else []))


def content(
    address: str, tag: str | None, rules: FetchRules, tell: Tell, limit: int = MAX_ENVELOPE_SIZE
) -> tuple[str, bytes | None]:
    """Return the tag of a file now, and its content; None if that is the one of the tag given.

    A tag is that of the server, if it gives one, and the digest of the content: a server may send
    the same again under another tag each time, and that is no news.

    Args:
        address: an https address, or the path of a file.
        tag: as for `look`.
        rules: as for `look`.
        tell: as for `look`.
        limit: the largest size, in bytes.

    Raises:
        Malformed: `malformed.size`; Failed: `io.*`.
    """
    if is_url(address):
        from fwsign.gateway.https.fetch import changed  # files need no network

        data, found = changed(address, rules, _server_tag(tag), limit, tell)
    else:
        data, found = read_bytes(Path(address), limit, "files"), None
    if data is None:
        return tag or "", None
    own = f"{_OWN}{hashlib.sha256(data).hexdigest()}"
    same = tag is not None and tag.endswith(own)
    return f"{found} {own}" if found is not None else own, None if same else data


def _server_tag(tag: str | None) -> str | None:
    """Return the server's part of a tag; None if it has none."""
    match = _TAG.fullmatch(tag) if tag is not None else None
    return match[1] if match else tag


def _directory(path: Path, tag: str | None, rules: FetchRules, tell: Tell) -> Looked:
    facts = _facts(path)
    if len(facts) > MAX_ENVELOPES:
        raise Failed(
            "state.limit",
            f"{path} has {len(facts)} files *{ENDING}",
            expected=f"at most {MAX_ENVELOPES}",
            found=len(facts),
        )
    now = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if now == tag:
        return Looked(now, None)
    numbered = sorted(((_number(path / name), name) for name, *_ in facts), reverse=True)
    found = (Sources(str(path / name), (), rules, tell) for _, name in numbered)
    return Looked(now, found, several=True)


def _facts(path: Path) -> Sequence[tuple[str, int, int, int]]:
    """Return name, inode, size and time of each regular file *.suit of a directory."""
    facts = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.endswith(ENDING) and not entry.name.startswith("."):
                    with contextlib.suppress(OSError):  # a link to nowhere, or gone meanwhile
                        one = entry.stat()
                        if stat.S_ISREG(one.st_mode):
                            facts.append((entry.name, one.st_ino, one.st_size, one.st_mtime_ns))
    except OSError as error:
        raise io_error(error, path) from error
    return sorted(facts)


def _number(path: Path) -> int:
    """Return the sequence number that a file claims, to order files by; -1 if it claims none."""
    try:
        envelope = decode_envelope(read_bytes(path, MAX_ENVELOPE_SIZE))
        return decode_manifest(envelope.manifest).sequence_number
    except FwsignError:
        return -1
