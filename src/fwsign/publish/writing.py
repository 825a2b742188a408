# SPDX-License-Identifier: Apache-2.0
"""Write one path and read it back: a store that says "done" is not believed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.files import open_plain
from fwsign.format.component import Component
from fwsign.format.payload import Blocks
from fwsign.publish.content import CheckedSource, hash_stored
from fwsign.publish.store import Store, StoredEntry

PATIENCE: Final = (0.0, 0.3, 1.0, 3.0)
"""Seconds before each look: some stores show a write to readers only after a moment."""

Outcome: TypeAlias = Literal["written", "there", "repaired", "newer there"]
"""What became of a path; "repaired": something else was there under its name."""


class GivenPayload(NamedTuple):
    """A payload that is to be published.

    Args:
        file: the file that has it.
        component: the signed facts.
        blocks: its block list, if it has one.
    """

    file: Path
    component: Component
    blocks: Blocks | None


def why_wrong(store: Store, path: str, component: Component, *, check: bool) -> str | None:
    """Return the reason why what is there is not the payload, for people; None if it is.

    Args:
        store: the store.
        path: the path of a payload that is there.
        component: the signed facts.
        check: fetch it and hash it; else the size alone is compared.
    """
    entry = store.entry(path)
    if entry is None:
        return "nothing is there"
    if entry.size != component.carried.size:
        return f"{entry.size} bytes are there, {component.carried.size} are right"
    if check:
        try:
            hash_stored(store, path, component)
        except Tampered as error:
            return error.message
    return None


def write_payload(
    store: Store, path: str, payload: GivenPayload, advance: Callable[[int], object], *, check: bool
) -> Outcome:
    """Write a payload, unless it is there already.

    Whatever else is there under its name is replaced: by the name, only these bytes are right.

    Args:
        store: the store.
        path: the payload's path.
        payload: the payload.
        advance: told how many bytes were read.
        check: compare the digest of what is there, not its size alone.

    Raises:
        Tampered: the file changed after it was verified.
        Failed: `io.write-lost`; `io.*`.
    """
    entry, outcome = store.entry(path), "written"
    if entry is not None:
        if why_wrong(store, path, payload.component, check=check) is None:
            advance(payload.component.carried.size)
            return "there"
        store.delete(path)
        outcome = "repaired"
    with open_plain(payload.file, "files") as file:
        source = CheckedSource(file, payload.component, payload.blocks, advance)
        written = store.put_absent(path, source, payload.component.carried.size)
    if not written:
        advance(payload.component.carried.size)  # by another publisher meanwhile
    wrong = _patiently(lambda: why_wrong(store, path, payload.component, check=check))
    if wrong is not None:
        raise _lost(store, path, wrong)
    return "repaired" if outcome == "repaired" else "written" if written else "there"


def write_small(
    store: Store,
    path: str,
    data: bytes,
    seen: bytes | None,
    names: Sequence[tuple[str, int]] = (),
) -> bool:
    """Write an envelope or a channel over what was seen there, and read it back.

    Returns:
        Whether the store guarantees that nothing else was replaced.

    Raises:
        Failed: `state.conflict`, `io.write-lost`, `io.*`.
    """
    try:
        guaranteed = store.replace(path, data, seen, names)
    except Failed as error:
        # A write whose answer was lost is sent again, and then meets itself.
        if error.code != "state.conflict" or read_if_there(store, path) != data:
            raise
        guaranteed = True

    def why_other() -> str | None:
        found = read_if_there(store, path)
        if found == data:
            return None
        if found is None:
            return "nothing is there"
        return "what was there before is there" if found == seen else "another content is there"

    wrong = _patiently(why_other)
    if wrong is not None:
        raise _lost(store, path, wrong)
    return guaranteed


def read_if_there(store: Store, path: str) -> bytes | None:
    """Return the content of a small path; None if nothing is there."""
    try:
        return store.read(path)
    except Failed as error:
        if error.code == "io.missing":
            return None
        raise


def age(entry: StoredEntry, now: float) -> float:
    """Return how many seconds ago a path was written, by the store's clock and ours."""
    return max(now - entry.modified, 0.0)


def _patiently(why: Callable[[], str | None]) -> str | None:
    """Ask again, a little later each time, until there is no reason any more."""
    reason: str | None = None
    for pause in PATIENCE:
        time.sleep(pause)
        try:
            reason = why()
        except FwsignError as error:
            if pause == PATIENCE[-1]:
                raise
            reason = error.message
        if reason is None:
            break
    return reason


def _lost(store: Store, path: str, wrong: str) -> Failed:
    return Failed(
        "io.write-lost",
        f"{store.place} said that {path} is written, but it is not: {wrong}",
        expected="what was written",
        found=wrong,
    )
