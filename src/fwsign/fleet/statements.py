# SPDX-License-Identifier: Apache-2.0
"""All the SQL that asks about a fleet, as SQLite and PostgreSQL both speak it.

Values are always bound, with `?`. Each statement reads `running`, which has a row for each device,
or a few rows by an index; none reads all receipts.

A board has a row for each station that flashed it, and counts once. What is in place there says the
receipt with the latest time that the collector believes: the line's own clock if that is plausible,
else its arrival. Of equal times a signed one counts before one that is only said, then the one that
arrived last. How its last action ended is found in the same way, and may come from another station.
"""

from typing import Final

# ruff: noqa: S608 - the parts are our own words
_SAME: Final = "FROM running o WHERE o.board = r.board AND o.board <> ''"
_LAST: Final = f"{_SAME} ORDER BY o.ended DESC, o.last DESC LIMIT 1"
RUNNING: Final = f"""(
    SELECT r.device, r.board, r.vendor, r.product, r.version, r.sequence, r.manifest, r.notice,
        r.state, r.since, r.signed,
        CASE WHEN r.board = '' THEN r.heard ELSE (SELECT max(o.heard) {_SAME}) END AS heard,
        CASE WHEN r.board = '' THEN r.result ELSE (SELECT o.result {_LAST}) END AS result,
        CASE WHEN r.board = '' THEN r.code ELSE (SELECT o.code {_LAST}) END AS code
    FROM running r
    WHERE r.board = '' OR NOT EXISTS (
        SELECT 1 {_SAME} AND (o.placed, o.signed, o.receipt) > (r.placed, r.signed, r.receipt)))"""
"""`running` with each board once."""
DEVICE: Final = f"""
    SELECT d.name, r.board, r.vendor, r.product, r.version, r.sequence, r.manifest, r.state,
        r.since, CASE WHEN r.board = '' THEN d.last_heard ELSE r.heard END, r.result, r.code,
        r.signed, CASE WHEN r.board = '' AND d.last_heard < ? THEN 1 ELSE 0 END
    FROM {RUNNING} r JOIN devices d ON d.device = r.device"""
SILENT: Final = "r.board = '' AND d.last_heard < ?"
"""A board that was flashed once need not call."""
NO_STATION: Final = "r.state <> 'station'"
BEGINS: Final = "(substr(d.name, 1, ?) = ? OR substr(r.board, 1, ?) = ?)"
AFTER: Final = "(d.name > ? OR (d.name = ? AND r.board > ?))"
TOTALS: Final = f"""
    SELECT sum(CASE WHEN r.state = 'station' THEN 0 ELSE 1 END),
        sum(CASE WHEN r.manifest IS NOT NULL AND r.signed = 1 THEN 1 ELSE 0 END),
        sum(CASE WHEN r.manifest IS NULL AND r.state <> 'station' THEN 1 ELSE 0 END),
        sum(CASE WHEN r.board = '' AND d.last_heard < ? THEN 1 ELSE 0 END),
        count(r.code)
    FROM {RUNNING} r JOIN devices d ON d.device = r.device"""
OF_NAME: Final = f"{DEVICE} WHERE d.name = ? ORDER BY r.board LIMIT ?"
OF_BOARD: Final = f"{DEVICE} WHERE r.board = ? AND r.board <> '' ORDER BY d.name LIMIT ?"
SILENT_OF: Final = """
    SELECT count(*) FROM running r JOIN devices d ON d.device = r.device
    WHERE r.manifest = ? AND r.board = '' AND d.last_heard < ?"""
REFUSED_OF: Final = f"""
    SELECT code, count(*) FROM {RUNNING} r WHERE manifest = ? AND code IS NOT NULL GROUP BY code"""
RELEASES: Final = f"""
    SELECT manifest, vendor, product, version, sequence, notice,
        count(*), sum(signed), min(since), max(since),
        count(DISTINCT CASE WHEN signed = 1 THEN device END)
    FROM {RUNNING} r WHERE manifest IS NOT NULL
    GROUP BY manifest, vendor, product, version, sequence, notice"""
REFUSALS: Final = f"""
    SELECT code, count(*) AS devices, max(heard) FROM {RUNNING} r WHERE code IS NOT NULL
    GROUP BY code ORDER BY devices DESC, code LIMIT ?"""
BREAKS: Final = "SELECT kind, count(*) FROM breaks WHERE closed IS NULL GROUP BY kind"
FORGED: Final = "SELECT count(*) FROM forged"
LIMITED: Final = "SELECT count(*) FROM accounts WHERE limited IS NOT NULL"
NEWEST_LIMITED: Final = """
    SELECT limited_at, name, limited, refused FROM accounts WHERE limited IS NOT NULL
    ORDER BY limited_at DESC, name LIMIT ?"""
NEWEST_BREAKS: Final = """
    SELECT b.noticed, b.kind, d.name, b.digest FROM breaks b JOIN devices d ON d.device = b.device
    WHERE b.break IN (SELECT max(break) FROM breaks WHERE closed IS NULL GROUP BY device, kind)
    ORDER BY b.noticed DESC LIMIT ?"""
"""The newest of each kind of each device: one device must not hide what others did."""
NEWEST_FORGED: Final = """
    SELECT f.last_seen, f.client, f.claimed, g.times, f.code, f.message FROM forged f
    JOIN (SELECT max(forgery) AS forgery, sum(times) AS times FROM forged GROUP BY client) g
        ON g.forgery = f.forgery
    ORDER BY f.last_seen DESC LIMIT ?"""
MOVED: Final = """
    SELECT count(*) FROM (
        SELECT board FROM running WHERE board <> '' GROUP BY board HAVING count(*) > 1) b"""
"""Boards that several stations flashed."""
SPAN: Final = "SELECT min(at), max(at) FROM taken WHERE manifest = ?"
TAKEN: Final = """
    SELECT (t.at / ?) * ? AS step, count(*) FROM (
        SELECT at FROM taken WHERE manifest = ? AND board = ''
        UNION ALL
        SELECT min(at) FROM taken WHERE manifest = ? AND board <> '' GROUP BY board) t
    GROUP BY step ORDER BY step"""
"""A board takes a release once, though several stations may flash it."""
NUMBER: Final = "SELECT device FROM devices WHERE name = ?"
EVENTS: Final = """
    SELECT r.receipt, r.received, r.clock, r.kind, r.result, r.code, r.line,
        r.vendor, r.product, r.version, r.sequence, r.digest, r.signer, d.name, r.board
    FROM receipts r JOIN devices d ON d.device = r.device
    WHERE r.device = ? AND r.receipt < ? ORDER BY r.receipt DESC LIMIT ?"""
EVENTS_OF_BOARD: Final = EVENTS.replace("r.device = ? AND", "r.board = ? AND")
SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""The first statement of a transaction that reads one state, for PostgreSQL."""
