# SPDX-License-Identifier: Apache-2.0
"""All the SQL that asks about a fleet, as SQLite and PostgreSQL both speak it.

Values are always bound, with `?`. Each statement reads `running`, which has a row for each device,
or a few rows by an index; none reads all receipts.
"""

from typing import Final

DEVICE: Final = """
    SELECT d.name, r.board, r.vendor, r.product, r.version, r.sequence, r.manifest, r.state,
        r.since, CASE WHEN r.board = '' THEN d.last_heard ELSE r.heard END, r.result, r.code,
        r.signed, CASE WHEN r.board = '' AND d.last_heard < ? THEN 1 ELSE 0 END
    FROM running r JOIN devices d ON d.device = r.device"""
SILENT: Final = "r.board = '' AND d.last_heard < ?"
"""A board that was flashed once need not call."""
NO_STATION: Final = "r.state <> 'station'"
BEGINS: Final = "(substr(d.name, 1, ?) = ? OR substr(r.board, 1, ?) = ?)"
AFTER: Final = "(d.name > ? OR (d.name = ? AND r.board > ?))"
TOTALS: Final = """
    SELECT sum(CASE WHEN r.state = 'station' THEN 0 ELSE 1 END),
        sum(CASE WHEN r.manifest IS NOT NULL AND r.signed = 1 THEN 1 ELSE 0 END),
        sum(CASE WHEN r.manifest IS NULL AND r.state <> 'station' THEN 1 ELSE 0 END),
        sum(CASE WHEN r.board = '' AND d.last_heard < ? THEN 1 ELSE 0 END),
        count(r.code)
    FROM running r JOIN devices d ON d.device = r.device"""
OF_NAME: Final = f"{DEVICE} WHERE d.name = ? ORDER BY r.board LIMIT ?"
OF_BOARD: Final = f"{DEVICE} WHERE r.board = ? AND r.board <> '' ORDER BY d.name LIMIT ?"
SILENT_OF: Final = """
    SELECT count(*) FROM running r JOIN devices d ON d.device = r.device
    WHERE r.manifest = ? AND r.board = '' AND d.last_heard < ?"""
REFUSED_OF: Final = """
    SELECT code, count(*) FROM running WHERE manifest = ? AND code IS NOT NULL GROUP BY code"""
RELEASES: Final = """
    SELECT manifest, vendor, product, version, sequence, notice,
        count(*), sum(signed), min(since), max(since),
        count(DISTINCT CASE WHEN signed = 1 THEN device END)
    FROM running WHERE manifest IS NOT NULL
    GROUP BY manifest, vendor, product, version, sequence, notice"""
REFUSALS: Final = """
    SELECT code, count(*) AS devices, max(heard) FROM running WHERE code IS NOT NULL
    GROUP BY code ORDER BY devices DESC, code LIMIT ?"""
BREAKS: Final = "SELECT kind, count(*) FROM breaks WHERE closed IS NULL GROUP BY kind"
FORGED: Final = "SELECT count(*) FROM forged"
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
SPAN: Final = "SELECT min(at), max(at) FROM taken WHERE manifest = ?"
TAKEN: Final = """
    SELECT (at / ?) * ? AS step, count(*) FROM taken WHERE manifest = ?
    GROUP BY step ORDER BY step"""
NUMBER: Final = "SELECT device FROM devices WHERE name = ?"
EVENTS: Final = """
    SELECT receipt, received, clock, kind, result, code, line,
        vendor, product, version, sequence, digest, signer
    FROM receipts WHERE device = ? AND receipt < ? ORDER BY receipt DESC LIMIT ?"""
EVENTS_OF_BOARD: Final = EVENTS.replace("device = ?", "board = ?")
SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""The first statement of a transaction that reads one state, for PostgreSQL."""
