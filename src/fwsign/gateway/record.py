# SPDX-License-Identifier: Apache-2.0
"""What the memory keeps of a release that was accepted, and of the one that is installed."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fwsign.errors import Failed
from fwsign.state import State
from fwsign.verified import VerifiedRelease


class Record(NamedTuple):
    """One release. A run that was cut short finds it again by this; all else is verified anew.

    Args:
        manifest: digest of its manifest, in hex.
        sequence: its sequence number.
        directory: where its files are, below `versions`; None where it has none.
        forward_only: whether commands or boards were begun, which nothing undoes.
        version: as its text says, for people; None where that says none.
        files: the names of its files, for people.
    """

    manifest: str
    sequence: int
    directory: str | None
    forward_only: bool = False
    version: str | None = None
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {**self._asdict(), "files": list(self.files)}


def record_of(
    release: VerifiedRelease,
    directory: str | None,
    files: tuple[str, ...],
    *,
    forward_only: bool = False,
) -> Record:
    """Return the record of a release; the arguments are as in `Record`."""
    return Record(
        release.manifest_digest.hex(),
        release.manifest.sequence_number,
        directory,
        forward_only,
        release.text.version if release.text else None,
        files,
    )


def read(state: State, name: str) -> Record | None:
    """Read the record that the memory has under a name; None where there is none.

    Raises:
        Failed: `state.damaged`: it is no such record.
    """
    text = state.remembered(name)
    if text is None:
        return None
    try:
        return _parsed(json.loads(text))
    except (ValueError, TypeError, LookupError) as error:
        what = f'what the memory calls "{name}" is no record of a release'
        raise Failed("state.damaged", what, expected="a record", found=text[:80]) from error


def _parsed(found: Mapping[str, Any]) -> Record:
    # Before there were files in it, "version" was the directory.
    directory = found["directory"] if "directory" in found else found["version"]
    record = Record(
        found["manifest"],
        found["sequence"],
        directory,
        found.get("forward_only", False),
        found.get("version") if "directory" in found else None,
        tuple(found.get("files", ())),
    )
    texts = (record.manifest, *record.files, *filter(None, (record.directory, record.version)))
    if not all(isinstance(one, str) for one in texts) or type(record.sequence) is not int:
        raise TypeError
    return record


def write(state: State, name: str, record: Record | None) -> None:
    """Let the memory have a record under a name, or none."""
    state.remember(name, None if record is None else json.dumps(record.as_json()))
