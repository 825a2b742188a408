# SPDX-License-Identifier: Apache-2.0
"""What the memory keeps of a release: read as it was written, also by older versions."""

import json
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.target import release_record
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.memory.state import State
from support import refused

RECORD = ReleaseRecord("ab" * 32, 7, "ab" * 32, True, "2.4.0", ("a.bin", "b.bin"))


@pytest.fixture
def state(tmp_path: Path) -> Any:
    with State.open(tmp_path / "state.db", create=True) as opened:
        yield opened


def test_what_is_written_is_read(state: State) -> None:
    assert release_record.read(state, "install") is None
    release_record.write(state, "install", RECORD)
    assert release_record.read(state, "install") == RECORD
    release_record.write(state, "install", None)
    assert release_record.read(state, "install") is None


def test_what_an_older_version_wrote_is_read(state: State) -> None:
    old = {"manifest": "ab" * 32, "sequence": 7, "version": "cd" * 32}
    state.remember("installed", json.dumps(old))
    assert release_record.read(state, "installed") == ReleaseRecord("ab" * 32, 7, "cd" * 32)
    state.remember("install", json.dumps({**old, "version": None, "forward_only": True}))
    assert release_record.read(state, "install") == ReleaseRecord(
        "ab" * 32, 7, None, forward_only=True
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "1",
        "{}",
        '{"manifest": "a", "sequence": 1}',
        '{"manifest": 1, "sequence": 1, "version": null}',
        '{"manifest": "a", "sequence": true, "version": null}',
        '{"manifest": "a", "sequence": 1, "directory": null, "files": [1]}',
    ],
)
def test_what_is_no_record_is_refused(state: State, text: str) -> None:
    state.remember("installed", text)
    with refused("state.damaged", 'what the memory calls "installed" is no record of a release'):
        release_record.read(state, "installed")
