# SPDX-License-Identifier: Apache-2.0
"""The receipts in a device's memory: one row for each line of the chain, with its number.

No function here reads more than a few rows at a time, so that old receipts slow nothing down.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fwsign.errors import Failed
from fwsign.keys import Signer
from fwsign.memory.file import StateFile
from fwsign.memory.schema import MAX_LINE_CHARACTERS
from fwsign.receipts.chain import line_digest, make_line, pruned_before, pruning
from fwsign.receipts.fit import fit

_LAST: Final = "SELECT number, line FROM receipts ORDER BY number DESC LIMIT 1"
_FIRST: Final = "SELECT number, line FROM receipts ORDER BY number LIMIT 1"
_ONE: Final = "SELECT number, line FROM receipts WHERE number = ?"
_NEXT: Final = "SELECT number, line FROM receipts WHERE number > ? ORDER BY number LIMIT 64"


def append(
    file: StateFile,
    receipt: Mapping[str, Any],
    signer: Signer | None = None,
    chain: Sequence[bytes] = (),
) -> str:
    """Add a receipt, inside a transaction for writing, and return its line.

    Raises:
        Failed: `state.receipt`, `key.*`.
    """
    found = last(file)
    line = _line(receipt, line_digest(found) if found else None, signer, chain)
    file.run("INSERT INTO receipts (line) VALUES (?)", line)
    return line


def last(file: StateFile) -> str | None:
    """Return the newest line; None if there is none."""
    found = file.run(_LAST).fetchone()
    return found[1] if found else None


def count(file: StateFile) -> int:
    """Return the number of lines; numbers have no gaps."""
    first, newest = file.run(_FIRST).fetchone(), file.run(_LAST).fetchone()
    return newest[0] - first[0] + 1 if first else 0


def lines(file: StateFile) -> Iterator[str]:
    """Yield the lines from the first on; see `numbered`."""
    return (line for _, line in numbered(file, 0))


def numbered(file: StateFile, after: int) -> Iterator[tuple[int, str]]:
    """Yield the lines after a number, with their numbers.

    Raises:
        Failed: `state.damaged`, `state.busy`, `io.*`.
    """
    before = max(after, 0)
    while True:  # in pieces: a slow reader must not keep writers waiting
        with file.transaction("read"):
            rows = file.run(_NEXT, before).fetchall()
        if not rows:
            return
        for number, line in rows:
            if number <= before or len(line) > MAX_LINE_CHARACTERS:
                raise file.damaged(f"receipt {number} is too long, or not in its place")
            before = number
            yield number, line


def prune(
    file: StateFile,
    drop: int,
    facts: Mapping[str, Any],
    signer: Signer | None = None,
    chain: Sequence[bytes] = (),
) -> int:
    """Remove the oldest lines, inside a transaction for writing; a record takes their place.

    Args:
        file: the memory.
        drop: how many lines; at least one stays.
        facts: further content of the record.
        signer: signs the record.
        chain: the signer's certificates.

    Returns:
        The number of receipts that were removed; 0 if there was nothing to remove.

    Raises:
        Failed: `state.receipt`, `key.*`.
    """
    first = file.run(_FIRST).fetchone()
    drop = min(drop, count(file) - 1)
    earlier = pruned_before(first[1]) if first else None
    if drop < (1 if earlier is None else 2):
        return 0
    number = first[0] + drop - 1
    (_, line) = file.run(_ONE, number).fetchone() or (0, "")
    removed = drop - (earlier is not None)
    record = pruning(removed + (earlier or 0), line_digest(line))
    made = _line({**facts, **record}, None, signer, chain)
    file.run("DELETE FROM receipts WHERE number <= ?", number)
    file.run("INSERT INTO receipts VALUES (?, ?)", number, made)
    return removed


def _line(
    receipt: Mapping[str, Any], previous: str | None, signer: Signer | None, chain: Sequence[bytes]
) -> str:
    try:
        content = fit(receipt)
    except ValueError as error:
        raise Failed("state.receipt", f"not a receipt: {error}") from None
    return make_line(content, previous, signer, chain)
