# SPDX-License-Identifier: Apache-2.0
"""The memory's records of the accepted and of the installed release."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.format.component import Component
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.gateway.target.stage import Staged
from fwsign.memory.state import State
from fwsign.verify.verified import VerifiedRelease

_CONTENT: Final = re.compile(r"[0-9]{1,15} -(?:16|43|44) [0-9a-f]{64,128}", re.ASCII)


class ReleaseRecord(NamedTuple):
    """One release. It lets a run find an interrupted release; all else is verified anew.

    Args:
        manifest: the digest of its manifest, in hex.
        sequence: its sequence number.
        directory: the directory of its files, below `versions`; None if it has none.
        forward_only: whether commands or boards were begun, which cannot be undone.
        version: the version in its text, for people; None if there is none.
        files: the names of its files, for people.
        no_trial: the reason why it was not tried; None if it was, or need not.
        judged_at: the time at which it was judged; None in records of an older fwsign.
        contents: of each file its size, the COSE algorithm and the digest in hex, with spaces
            between; empty in records of an older fwsign.
    """

    manifest: str
    sequence: int
    directory: str | None
    forward_only: bool = False
    version: str | None = None
    files: tuple[str, ...] = ()
    no_trial: str | None = None
    judged_at: str | None = None
    contents: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {**self._asdict(), "files": list(self.files), "contents": list(self.contents)}


def record_of(
    release: VerifiedRelease,
    directory: str | None,
    files: Sequence[Staged],
    *,
    forward_only: bool = False,
) -> ReleaseRecord:
    """Return the record of a release; the arguments are as in `ReleaseRecord`."""
    return ReleaseRecord(
        release.manifest_digest.hex(),
        release.manifest.sequence_number,
        directory,
        forward_only,
        release.text.version if release.text else None,
        tuple(one.component.name for one in files),
        judged_at=release.now.isoformat(),
        contents=tuple(_content(one.component) for one in files),
    )


def _content(component: Component) -> str:
    return f"{component.size} {component.digest.algorithm} {component.digest.value.hex()}"


def read(state: State, name: str) -> ReleaseRecord | None:
    """Read the record under a name in the memory; None if there is none.

    Raises:
        Failed: `state.damaged`: it is not such a record.
    """
    text = state.remembered(name)
    if text is None:
        return None
    try:
        return parsed(json.loads(text))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        what = f'what the memory calls "{name}" is no record of a release'
        raise Failed("state.damaged", what, expected="a record", found=text[:80]) from error


def parsed(found: Mapping[str, Any]) -> ReleaseRecord:
    """Return the record of a JSON object from `as_json`.

    Raises:
        ValueError, TypeError, LookupError: it is not such an object.
    """
    # In records without "files", "version" is the directory.
    directory = found["directory"] if "directory" in found else found["version"]
    record = ReleaseRecord(
        found["manifest"],
        found["sequence"],
        directory,
        found.get("forward_only", False),
        found.get("version") if "directory" in found else None,
        tuple(found.get("files", ())),
        found.get("no_trial"),
        found.get("judged_at"),
        tuple(found.get("contents", ())),
    )
    maybe = (record.directory, record.version, record.no_trial, record.judged_at)
    texts = (record.manifest, *record.files, *record.contents, *filter(None, maybe))
    if not all(isinstance(one, str) for one in texts) or type(record.sequence) is not int:
        raise TypeError
    if not all(map(_CONTENT.fullmatch, record.contents)):
        raise ValueError
    return record


def write(state: State, name: str, record: ReleaseRecord | None) -> None:
    """Store a record under a name in the memory; None removes it."""
    state.remember(name, None if record is None else json.dumps(record.as_json()))


def digest_of(envelope: bytes) -> str | None:
    """Return the digest of an envelope's manifest, in hex; None if it does not read."""
    try:
        return check_manifest_digest(decode_envelope(envelope)).hex()
    except FwsignError:
        return None
