# SPDX-License-Identifier: Apache-2.0
"""Fill a collector's store with a fleet that does not exist.

usage: synthetic.py STORE [--devices 100000] [--receipts 10000000]

Every row is made from the numbers of its device and receipt, so that two runs make the same fleet.
The lines are short and not signed: they are for questions, and no evidence. PostgreSQL takes them
by COPY, and the indexes are made after it.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from fwsign.collect import schema
from fwsign.collect.store import FleetRun, FleetStore, open_store

VENDOR: Final = "acme.example"
PRODUCTS: Final = ("gateway-x1", "gateway-x2", "sensor-s1")
NOW: Final = 1_795_000_000
"""The time of the newest receipt."""
PERIOD: Final = 365 * 24 * 3600
"""Seconds from the oldest receipt to the newest."""
CODES: Final = ("unsuitable.rollback", "stale.crl", "tampered.payload-digest", "io.full")
REFUSED_EACH: Final = 23
"""One of so many receipts is a refusal."""
SILENT_EACH: Final = 50
"""One of so many devices has been silent for long."""
UNSIGNED_EACH: Final = 9
"""One of so many devices does not sign."""
RECEIPT_COLUMNS: Final = (
    *("receipt", "device", "chain", "received", "clock", "kind", "result", "code"),
    *("vendor", "product", "version", "sequence", "manifest", "digest", "previous"),
    *("signer", "line"),
)
_BATCH: Final = 10_000


def version_of(release: int) -> str:
    """Return the version of a release by its number, from 1 on."""
    return f"{1 + release // 20}.{release % 20}.0"


def digest_of(device: int, number: int) -> bytes:
    """Return the digest of a device's receipt; this is not the digest of its line."""
    return hashlib.sha256(f"{device}-{number}".encode()).digest()


def manifest_of(product: str, release: int) -> bytes:
    """Return the manifest digest of a release."""
    return hashlib.sha256(f"{product}-{release}".encode()).digest()


def rows_of(device: int, each: int, first: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a device's receipts.

    Args:
        device: its number, from 1 on.
        each: how many receipts it has.
        first: the number of the first one.
    """
    product = PRODUCTS[device % len(PRODUCTS)]
    end = NOW - device % 86_400 - (90 * 86_400 if device % SILENT_EACH == 0 else 0)
    newest = 40 - device % 7 % 4  # most run one of the last four
    for number in range(each):
        at = end - (each - 1 - number) * (PERIOD // each)
        release = max(1, newest - (each - 1 - number) // 4)
        refused = number < each - 1 and (device + number) % REFUSED_EACH == 0
        code = CODES[(device + number) % len(CODES)] if refused else None
        result = "refused" if refused else "installed"
        yield (
            first + number,
            device,
            1,
            at,
            at,
            "install",
            result,
            code,
            VENDOR,
            product,
            version_of(release),
            release,
            manifest_of(product, release),
            digest_of(device, number),
            digest_of(device, number - 1) if number else None,
            f"gw-{device:06}" if device % UNSIGNED_EACH else None,
            f'{{"clock":{at},"device":{{"id":"gw-{device:06}"}},"kind":"install","result":"{result}"}}',
        )


def _notice(release: int) -> str | None:
    """Return the notice of a release: one of five closes a hole."""
    if release % 5:
        return None
    return f'{{"advisories":["CVE-2026-{1000 + release}"],"class":"security"}}'


def _devices(count: int, each: int) -> Iterator[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]:
    """Yield the row of each device, with those of its receipts."""
    for device in range(1, count + 1):
        rows = list(rows_of(device, each, 1 + (device - 1) * each))
        first, last = rows[0], rows[-1]
        own = (device, f"gw-{device:06}", VENDOR, first[9], first[3], last[3], each, 1, last[13])
        yield own, rows


def load(store: FleetStore, devices: int, receipts: int) -> None:
    """Fill a store whose tables are empty."""
    each = receipts // devices
    with store.transaction() as run:
        for name in schema.INDEXES:
            run.rows(f"DROP INDEX {name}")
        pending: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _COLUMNS}
        for own, rows in _devices(devices, each):
            last = rows[-1]
            pending["devices"].append(own)
            pending["receipts"] += rows
            state = ("installed", last[4], last[0], int(last[15] is not None), last[3], last[6])
            times = (last[4], last[4], last[0])
            pending["running"].append((own[0], "", *last[8:13], _notice(last[11]), *state, *times))
            first = {row[12]: row[4] for row in reversed(rows) if row[7] is None}
            pending["taken"] += [(manifest, own[0], "", at) for manifest, at in first.items()]
            if len(pending["receipts"]) >= _BATCH:
                _flush(run, pending)
        _flush(run, pending)
        if store.dialect == "postgresql":
            for table, key in (("devices", "device"), ("receipts", "receipt")):
                run.rows(
                    f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), "  # noqa: S608
                    f"(SELECT max({key}) FROM {table}))"
                )
        for statement in schema.statements(store.dialect):
            run.rows(statement)
    if store.dialect == "postgresql":
        with store.transaction() as run:
            run.rows("ANALYZE")


_COLUMNS: Final = {
    "devices": (
        *("device", "name", "vendor", "product", "first_heard", "last_heard", "receipts"),
        *("chain", "head"),
    ),
    "receipts": RECEIPT_COLUMNS,
    "running": (
        *("device", "board", "vendor", "product", "version", "sequence", "manifest"),
        *("notice", "state", "since", "receipt", "signed", "heard", "result"),
        *("placed", "ended", "last"),
    ),
    "taken": ("manifest", "device", "board", "at"),
}


def _flush(run: FleetRun, pending: dict[str, list[tuple[Any, ...]]]) -> None:
    for table, rows in pending.items():
        names = ", ".join(_COLUMNS[table])
        if run.dialect == "postgresql":
            command = f"COPY {table} ({names}) FROM STDIN"
            with run.connection.cursor() as cursor, cursor.copy(command) as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(_COLUMNS[table]))
            run.many(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608
        rows.clear()


def main() -> None:
    """Load a store and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--receipts", type=int, default=10_000_000)
    given = parser.parse_args()
    began = time.monotonic()
    with open_store(given.store) as store:
        load(store, given.devices, given.receipts)
    print(f"{given.receipts} receipts in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
