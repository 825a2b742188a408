"""Memories that an attacker wrote: refused in little time and memory, or harmless."""

import resource
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.memory import schema
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from mutation import Dice
from support import NOW, PRODUCT, VENDOR, make_manifest, make_pki, refused, sign_with

BASE = DevicePolicy(vendor=VENDOR, product=PRODUCT)
MIB = 1024 * 1024
MOST = 100 * MIB


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a real memory: a floor with its release, CRLs, a time, texts, receipts."""
    path, pki = tmp_path_factory.mktemp("real") / "state.db", make_pki()
    with State.open(path, create=True) as state:
        policy, floor = state.policy(BASE, None)
        envelope = sign_with(pki, make_manifest(sequence_number=7), crls=pki.crls)
        state.accept(None, Verifier([pki.root.anchor], policy).verify(envelope, at=NOW), floor)
        state.remember("sources", "{}")
        for number in range(9):
            state.append_receipt({"number": number, "words": "x" * 300})
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, real: bytes) -> Path:
    path = tmp_path / "state.db"
    path.write_bytes(real)
    return path


def seal(database: sqlite3.Connection) -> None:
    """Write the sum anew, as an attacker would."""
    database.execute("REPLACE INTO facts VALUES ('sum', ?)", (schema.sum_of(database),))
    database.commit()


def altered(path: Path, *statements: str, sealed: bool = True) -> None:
    """Change a memory by SQL, in spite of STRICT, and let its sum fit."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        if sealed:
            seal(database)
        database.commit()


def schema_by_hand(path: Path, table: str, text: str) -> None:
    """Change the text of a table in the schema, and no row of it."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (text, table))
        database.commit()


def read_all(path: Path) -> object:
    """Do what rehearsals and `receipts show --state` do."""
    with State.open(path) as state:
        known = state.trust(), state.floor(None, VENDOR, PRODUCT), state.policy(BASE, None)
        return known, state.remembered("install"), list(judge_lines(state.receipt_lines()))


GENERATED = "line TEXT AS (zeroblob(900000000)) NOT NULL"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE VIEW more AS SELECT 1", "it has other tables"),
        ("CREATE TABLE more (a)", "it has other tables"),
        ("CREATE INDEX more ON receipts (line)", "it has other tables"),
        ("CREATE TRIGGER more AFTER INSERT ON facts BEGIN SELECT 1; END", "it has other tables"),
        ("CREATE VIRTUAL TABLE more USING fts5(a)", "it has other tables"),
        ("ALTER TABLE facts ADD COLUMN more TEXT", "it has other tables"),
        ("ALTER TABLE facts ADD COLUMN more TEXT AS (name) VIRTUAL", "it has other tables"),
        ("ANALYZE", "it has other tables"),
        ("DROP TABLE times", "it has other tables"),
    ],
)
def test_any_other_object_is_refused(path: Path, statement: str, words: str) -> None:
    altered(path, statement, sealed=False)
    with refused("state.damaged", words):
        State.open(path)


@pytest.mark.parametrize("table", list(schema.TABLES))
def test_a_table_with_another_text_is_refused(path: Path, table: str) -> None:
    schema_by_hand(path, table, schema.TABLES[table] + " ")
    with refused("state.damaged", "it has other tables"):
        State.open(path)


def test_a_generated_column_costs_nothing(path: Path) -> None:
    table = f"CREATE TABLE receipts (number INTEGER PRIMARY KEY, {GENERATED}, more TEXT)"
    altered(
        path,
        "DROP TABLE receipts",
        table,
        "INSERT INTO receipts (number, more) VALUES (1, 'x')",
        sealed=False,
    )
    assert path.stat().st_size < 48 * 1024
    assert_cheap(path, "state.damaged")


@pytest.mark.parametrize("mode", ["page_size = 8192", "encoding = 'UTF-16'"])
def test_another_layout_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database:
        rest = schema.SCHEMA.partition(";\n")[2]
        database.executescript(f"PRAGMA {mode};\n{rest}")
        seal(database)
    with refused("state.damaged", "its pages have 8192" if "size" in mode else "UTF-16"):
        State.open(path)


def test_a_memory_with_a_write_ahead_log_is_refused(path: Path) -> None:
    altered(path, "PRAGMA journal_mode = WAL")
    with refused("state.damaged", "its modes are wal and UTF-8"):
        State.open(path)


def test_a_huge_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_FILE_SIZE", path.stat().st_size - 1)
    with refused("state.damaged", f"it has {path.stat().st_size} bytes"):
        State.open(path)


LOOSE = {
    name: sql.replace(") STRICT, WITHOUT ROWID", ") WITHOUT ROWID").replace(") STRICT", ")")
    for name, sql in schema.TABLES.items()
}


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("floors", "UPDATE floors SET sequence = 'many'"),
        ("floors", "UPDATE floors SET sequence = -1"),
        ("floors", "UPDATE floors SET vendor = x'00'"),
        ("floors", "UPDATE floors SET identity = printf('%.*c', 201, 'x')"),
        ("recorded", "UPDATE recorded SET components = 7"),
        ("recorded", "UPDATE recorded SET manifest = x''"),
        ("recorded", "UPDATE recorded SET components = zeroblob(70000)"),
        ("crls", "UPDATE crls SET keys = x'00'"),
        ("crls", "UPDATE crls SET crl = 'text'"),
        ("crls", "UPDATE crls SET issuer = x''"),
        ("times", "UPDATE times SET seconds = 253402300800"),
        ("times", "UPDATE times SET seconds = 1.5"),
        ("facts", "INSERT INTO facts VALUES ('trust', 'text')"),
        ("facts", "INSERT INTO facts VALUES ('text:install', x'00')"),
        ("facts", "INSERT INTO facts VALUES ('text:install', 1.5)"),
        ("facts", "INSERT INTO facts VALUES ('text:install', printf('%.*c', 1048577, 'x'))"),
        ("facts", "INSERT INTO facts VALUES ('', 'x')"),
        ("receipts", "UPDATE receipts SET line = x'00'"),
        ("receipts", "UPDATE receipts SET line = printf('%.*c', 65537, 'x')"),
        ("receipts", "INSERT INTO receipts VALUES (-1, 'x')"),
    ],
)
def test_values_of_another_type_or_length_are_refused(path: Path, table: str, change: str) -> None:
    """STRICT binds those who write through SQLite; files are written in other ways too."""
    schema_by_hand(path, table, LOOSE[table])
    if "INTO receipts" in change:
        altered(path, "DELETE FROM receipts")
    altered(path, change)
    schema_by_hand(path, table, schema.TABLES[table])
    with refused("state.damaged", "a value in it is"):
        State.open(path)


@pytest.mark.parametrize(
    "components", [b"\xff", cbor.encode(7), cbor.encode(((),)), cbor.encode((("text",),))]
)
def test_records_that_decode_to_something_else_are_damage(path: Path, components: bytes) -> None:
    altered(path, f"UPDATE recorded SET components = x'{components.hex()}'")  # noqa: S608 - ours
    with State.open(path) as state:
        with refused("state.damaged", "the components of a release: "):
            state.floor(None, VENDOR, PRODUCT)
        with refused("state.damaged", "the components of a release: "):
            state.policy(BASE, None)


def test_a_list_of_anchors_that_does_not_decode_is_damage(path: Path) -> None:
    altered(path, "INSERT INTO facts VALUES ('trust', x'ff')")
    with State.open(path) as state, refused("state.damaged", "the list of anchors: "):
        state.trust()


def test_a_text_beyond_the_limit_is_not_remembered(path: Path) -> None:
    with State.open(path) as state:
        with refused("state.limit", "a text of 1048577 characters for the memory, at most 1048576"):
            state.remember("install", "x" * (schema.MAX_TEXT + 1))
        state.remember("install", "x" * schema.MAX_TEXT)
    with State.open(path) as state:
        assert len(state.remembered("install") or "") == schema.MAX_TEXT


# --- pages ----------------------------------------------------------------------------------


def pages(data: bytes) -> list[bytearray]:
    return [bytearray(data[at : at + 4096]) for at in range(0, len(data), 4096)]


def root_of(data: bytes, table: str) -> int:
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data)
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (root,) = database.execute(query, (table,)).fetchone()
    return int(root)


def fan(child: int, key: bytes, kind: int, count: int) -> bytearray:
    """Make an inner page whose children are all the same one."""
    page, cell = bytearray(4096), child.to_bytes(4) + key
    for number in range(count):
        at = 4096 - (number + 1) * len(cell)
        page[at : at + len(cell)] = cell
        page[12 + 2 * number : 14 + 2 * number] = at.to_bytes(2)
    page[0] = kind
    page[3:5] = count.to_bytes(2)
    page[5:7] = (4096 - count * len(cell)).to_bytes(2)
    page[8:12] = child.to_bytes(4)
    return page


def nested(data: bytes, table: str, key: bytes, kind: int, count: int) -> bytes:
    """Let a table's root lead to its one page again and again, level upon level."""
    found, root = pages(data), root_of(data, table)
    found.append(found[root - 1])
    for _ in range(4):
        found.append(fan(len(found), key, kind, count))
    found[root - 1] = fan(len(found), key, kind, count)
    found[0][28:32] = len(found).to_bytes(4)
    return b"".join(found)


def assert_cheap(path: Path, *codes: str) -> None:
    """Read a memory; assert its code, and that it took a second and 100 MiB at most."""
    before, used = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_all(path)
        code = "fine"
    except FwsignError as error:
        code = error.code
    assert code in codes
    assert time.process_time() - before < 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) * 1024
    assert grown < MOST


@pytest.mark.parametrize("table", ["crls", "receipts"])
def test_pages_in_circles_take_no_time(path: Path, real: bytes, table: str) -> None:
    path.write_bytes(nested(real, table, b"\x01", 5, 500))
    assert_cheap(path, "state.damaged")


def test_a_schema_in_circles_takes_no_time(path: Path, real: bytes) -> None:
    found = pages(real)
    first = bytearray(4096)
    first[:] = found[0]
    leaf = bytearray(4096)
    leaf[0] = 13
    leaf[5:7] = (4096).to_bytes(2)
    found.append(leaf)
    for _ in range(4):
        found.append(fan(len(found), b"\x01", 5, 500))
    inner = fan(len(found), b"\x01", 5, 480)
    head = bytearray(12)
    head[:] = inner[:12]
    first[100:112] = head
    for number in range(480):
        at = 4096 - (number + 1) * 5
        first[at : at + 5] = len(found).to_bytes(4) + b"\x01"
        first[112 + 2 * number : 114 + 2 * number] = at.to_bytes(2)
    first[28:32] = len(found).to_bytes(4)
    path.write_bytes(b"".join([bytes(first), *map(bytes, found[1:])]))
    assert_cheap(path, "state.damaged")


KEY = bytes([2, 2, 13])  # a record of one empty text


@pytest.mark.parametrize("table", ["floors", "facts", "recorded"])
def test_indexes_in_circles_take_no_time(path: Path, real: bytes, table: str) -> None:
    path.write_bytes(nested(real, table, KEY, 2, 400))
    assert_cheap(path, "state.damaged")


@pytest.mark.parametrize("hole", ["", "-journal"])
def test_a_hole_in_a_file_makes_no_work(path: Path, real: bytes, hole: str) -> None:
    """A file of gigabytes may be made of nothing."""
    data, size = bytearray(nested(real, "crls", b"\x01", 5, 500)), 7 * 1024**3
    if not hole:
        data[28:32] = (size // 4096).to_bytes(4)
    path.write_bytes(data)
    with Path(f"{path}{hole}").open("ab") as file:
        file.truncate(size)
    assert_cheap(path, "state.damaged")
    with refused("state.damaged", "its rows are too many" if not hole else "its rows are larger"):
        State.open(path)


@pytest.mark.parametrize(
    "columns",
    [
        "'view', 'v' || i, 'v' || i, 0, 'CREATE VIEW v' || i || ' AS SELECT 1'",
        "'table', 't' || i, 't' || i, 2, 'CREATE TABLE t' || i || '(a, b, c, d, e, f)'",
    ],
)
def test_a_schema_of_many_objects_takes_no_time(path: Path, columns: str) -> None:
    """SQLite parses all of it before the first row can be read."""
    count = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(f"INSERT INTO sqlite_master {count} SELECT {columns} FROM n")  # noqa: S608
        database.commit()
    assert_cheap(path, "state.damaged")
    with refused("state.damaged", "its pages name each other in circles, or are too many"):
        State.open(path)


def test_more_crls_than_a_memory_holds_are_refused(path: Path) -> None:
    count = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 256)"
    many = f"INSERT INTO crls {count} SELECT x'00', i, x'00' FROM n"  # noqa: S608 - ours
    altered(path, "DELETE FROM crls", many)
    State.open(path).close()
    altered(path, "INSERT INTO crls VALUES (x'00', 'one more', x'00')")
    with refused("state.damaged", "its rows are too many, or not in their order"):
        State.open(path)


def test_work_is_bounded_by_the_size_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_WORK_STEP", 10)
    State.open(path).close()
    monkeypatch.setattr(schema, "_WORK_AT_LEAST", 0)
    State.open(path).close()
    monkeypatch.setattr(schema, "WORK_FOR_PAGE", 5)
    with refused("state.damaged", "its pages name each other in circles, or are too many"):
        State.open(path)


def test_receipts_that_never_come_to_an_end_are_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(list[tuple[int, str]]):
        def fetchall(self) -> "Same":
            return self

    with State.open(path) as state:
        monkeypatch.setattr(state._file, "run", lambda *_: Same([(3, "x")]))
        with refused("state.damaged", "receipt 3 is too long, or not in its place"):
            list(state.receipt_lines())
        monkeypatch.undo()


def test_a_journal_that_cannot_be_read_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(f"{path}-journal").write_bytes(b"")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with refused("io.permission", "-journal"):
        State.open(path)


def test_a_receipt_in_the_middle_that_is_too_long_is_damage(path: Path) -> None:
    altered(path, "UPDATE receipts SET line = printf('%.*c', 65537, 'x') WHERE number = 2")
    with State.open(path) as state, refused("state.damaged", "receipt 2 is too long"):
        list(state.receipt_lines())


def test_mutations_of_a_memory_are_refused_or_harmless(path: Path, real: bytes) -> None:
    """Any bytes that differ: no other exception, little time, little memory."""
    dice, codes = Dice("a hostile memory"), set()
    before = time.process_time()
    for _ in range(1500):
        data = bytearray(real)
        for _ in range(1 + dice.below(6)):
            size = dice.pick([1, 1, 2, 4, 64])
            used = dice.pick([100, len(data), len(data)])
            at = dice.below(used - size) if dice.below(3) else 4096 * dice.below(len(data) // 4096)
            data[at : at + size] = dice.bytes(size + 1).ljust(size, dice.pick([b"\0", b"\xff"]))
        if not dice.below(10):
            data = data[: dice.below(len(data))]
        path.write_bytes(data)
        try:
            read_all(path)
            codes.add("fine")
        except FwsignError as error:
            codes.add(error.code)
    assert codes <= {
        *("fine", "state.damaged", "state.foreign", "state.newer", "io.permission", "io.full"),
        *("malformed.receipt", "tampered.receipt-chain"),
    }
    assert {"fine", "state.damaged", "state.foreign"} <= codes
    assert time.process_time() - before < 60
