"""A small fleet in a store, made of lines as a collector takes them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from fwsign.collect.store import FleetRun, FleetStore
from fwsign.collect.summary import CountedLine, clock, column, digest, note, release_columns
from fwsign.fleet.questions import Questions

WHEN = datetime(2026, 11, 27, 12, tzinfo=UTC)
AT = int(WHEN.timestamp())
DAY = 24 * 3600
CVE = "CVE-2026-41000"
HOSTILE = "<script>document.title='owned'</script></script>\x1b[31m\u202egnp.exe\"'<!--@data-->&"


@contextmanager
def asked(store: FleetStore) -> Iterator[Questions]:
    with Questions.asked(store, WHEN, timedelta(7)) as found:
        yield found


def release(
    version: str = "1.0.0",
    sequence: int | None = 10,
    product: str = "gateway-x1",
    advisories: tuple[str, ...] = (),
    digest: str | None = None,
) -> dict[str, Any]:
    """Return a release as receipts have it."""
    made = hashlib.sha256(f"{product} {version}".encode()).hexdigest()
    return {
        "manifest_digest": digest or made,
        "vendor": "acme.example",
        "product": product,
        "version": version,
        "sequence_number": sequence,
        "class": "security" if advisories else "feature",
        "advisories": list(advisories),
    }


def receipt(
    name: str, result: str | None, at: int = AT, *, kind: str = "install", **more: Any
) -> dict[str, Any]:
    """Return a receipt's content without a chain."""
    return {
        "device": {"id": name, "vendor": "acme.example", "product": "gateway-x1"},
        "kind": kind,
        "clock": datetime.fromtimestamp(at, UTC).isoformat(),
        "result": result,
        "code": None,
        **more,
    }


def take(
    run: FleetRun,
    name: str,
    content: Mapping[str, Any],
    *,
    received: int = AT,
    signed: bool = True,
    newest: bool = True,
) -> None:
    """Store a line, as the collector does."""
    run.rows(
        "INSERT INTO devices (name, first_heard, last_heard) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET last_heard = excluded.last_heard",
        *(name, received, received),
    )
    ((device,),) = run.rows("SELECT device FROM devices WHERE name = ?", name)
    ((count,),) = run.rows("SELECT count(*) FROM receipts")
    columns = release_columns(content)
    columns.pop("notice")
    columns["manifest"] = columns["manifest"] or digest(content.get("manifest"))
    board = content.get("board") or {}
    row = {
        "device": device,
        "chain": 1,
        "received": received,
        "clock": clock(content),
        "kind": column(content.get("kind")) or "",
        "result": column(content.get("result")) or "",
        "code": column(content.get("code")),
        **columns,
        "board": column(board.get("identity")),
        "digest": hashlib.sha256(f"{name} {count}".encode()).digest(),
        "signer": name if signed else None,
        "line": json.dumps(content),
    }
    marks = ", ".join("?" * len(row))
    insert = f"INSERT INTO receipts ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 - own names
    run.rows(insert, *row.values())
    ((number,),) = run.rows("SELECT max(receipt) FROM receipts")
    note(run, CountedLine(device, number, received, content, signed, newest))


def small(run: FleetRun) -> None:
    """Store a fleet of one of everything.

    Three devices run 1.5.0, which mends a hole; two run 1.4.0, one of them silent and one unsigned;
    one is on trial; one refused at last; one is a station with two boards; one says nothing.
    """
    old, new = release("1.4.0", 14), release("1.5.0", 15, advisories=(CVE,))
    for number in range(1, 4):
        name = f"gw-{number}"
        take(
            run, name, receipt(name, "installed", AT - 9 * DAY, release=old), received=AT - 9 * DAY
        )
        take(run, name, receipt(name, "installed", AT - number * 3600, release=new))
    gone = AT - 20 * DAY
    take(run, "gw-4", receipt("gw-4", "installed", gone, release=old), received=gone)
    take(run, "gw-5", receipt("gw-5", "installed", release=old), signed=False)
    refusal = {"code": "stale.crl", "message": "the CRL is too old"}
    take(run, "gw-5", receipt("gw-5", "refused", AT + 60, release=new, **refusal), signed=False)
    take(run, "gw-6", receipt("gw-6", "on trial", release=release("2.0.0", 20)))
    take(run, "gw-7", receipt("gw-7", "enrolled", kind="device"))
    for board in ("mac:01", "mac:02"):
        flashed = receipt("station-1", "verified", kind="flash", board={"identity": board})
        take(run, "station-1", {**flashed, "release": release("9.0", 90, product="sensor")})


def hostile(run: FleetRun) -> None:
    """Store a device that puts what it likes into its receipts, and problems about it."""
    wild = {**release(HOSTILE, 7, product=HOSTILE), "advisories": [HOSTILE], "class": HOSTILE}
    take(run, "evil", receipt("evil", "installed", release=wild))
    huge = "\u202e" + "x" * 5000
    refusal = receipt("evil", HOSTILE, code=HOSTILE, message=HOSTILE + huge)
    take(run, "evil", refusal, signed=False)
    ((device,),) = run.rows("SELECT device FROM devices WHERE name = 'evil'")
    run.rows(
        "INSERT INTO breaks (device, kind, noticed, digest, chain) VALUES (?, 'fork', ?, ?, 1)",
        *(device, AT, b"\xcd" * 32),
    )
    run.rows(
        "INSERT INTO forged (client, claimed, first_seen, last_seen, times, code, message, digest,"
        " line) VALUES (?, ?, ?, ?, 3, 'untrusted.receipt', ?, ?, 'x')",
        *(HOSTILE, HOSTILE, AT, AT, huge, b"\x01" * 32),
    )
