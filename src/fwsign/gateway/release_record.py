# SPDX-License-Identifier: Apache-2.0
"""The memory's records of the accepted and of the installed release."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fwsign.errors import Failed
from fwsign.gateway.stage import Staged
from fwsign.memory.state import State
from fwsign.verify.verified import VerifiedRelease


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
    """

    manifest: str
    sequence: int
    directory: str | None
    forward_only: bool = False
    version: str | None = None
    files: tuple[str, ...] = ()
    no_trial: str | None = None
    judged_at: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {**self._asdict(), "files": list(self.files)}


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
    )


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
    )
    maybe = (record.directory, record.version, record.no_trial, record.judged_at)
    texts = (record.manifest, *record.files, *filter(None, maybe))
    if not all(isinstance(one, str) for one in texts) or type(record.sequence) is not int:
        raise TypeError
    return record


def write(state: State, name: str, record: ReleaseRecord | None) -> None:
    """Store a record under a name in the memory; None removes it."""
    state.remember(name, None if record is None else json.dumps(record.as_json()))
