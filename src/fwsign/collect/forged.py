# SPDX-License-Identifier: Apache-2.0
"""Lines that do not count: they are kept apart, with the reason, and are in no answer.

Whoever has a certificate can send wrong lines for ever. Of each client a few are kept, and the rest
is counted.
"""

import hashlib
import json
from typing import Any, Final

from fwsign.collect.store import FleetRun
from fwsign.errors import FwsignError
from fwsign.receipts.chain import device_of

MAX_FORGED: Final = 64
"""Refused lines of one client that are kept; whoever reads them has seen enough."""
MAX_FORGED_LINE: Final = 4096
"""Characters of a refused line that are kept."""
MAX_WORDS: Final = 500
"""Characters of the reason, and of a name."""


def reject(run: FleetRun, client: str, line: str, refusal: FwsignError, now: int) -> None:
    """Keep a refused line apart, with the reason; of each client only so many.

    Args:
        run: a transaction for writing.
        client: the name in the certificate of the client.
        line: the line as it came.
        refusal: the reason.
        now: seconds since 1970, by the collector's clock.
    """
    data = line.encode(errors="surrogateescape")
    digest = hashlib.sha256(data).digest()
    again = "UPDATE forged SET last_seen = ?, times = times + 1 WHERE client = ? AND digest = ?"
    seen = "SELECT 1 FROM forged WHERE client = ? AND digest = ?"
    if run.rows(seen, client, digest):
        run.rows(again, now, client, digest)
        return
    ((count,),) = run.rows("SELECT COUNT(*) FROM forged WHERE client = ?", client)
    if count >= MAX_FORGED:  # the newest one stands for all that are not kept
        newest = "SELECT max(forgery) FROM forged WHERE client = ?"
        run.rows(
            f"UPDATE forged SET last_seen = ?, times = times + 1 WHERE forgery = ({newest})",  # noqa: S608
            now,
            client,
        )
        return
    run.rows(
        "INSERT INTO forged (client, claimed, first_seen, last_seen, times, code, message, digest,"
        " line) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
        client,
        _claimed(line),
        now,
        now,
        refusal.code,
        _plain(refusal.message)[:MAX_WORDS],
        digest,
        _plain(data.decode(errors="backslashreplace"))[:MAX_FORGED_LINE],
    )


def _claimed(line: str) -> str | None:
    """Return the device that a refused line names, if it can be read at all."""
    try:
        found: Any = json.loads(line)
        name = device_of(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None
    return _plain(name)[:MAX_WORDS] if name is not None else None


def _plain(text: str) -> str:
    """Return a text as every database takes it."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")
