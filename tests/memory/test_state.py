"""The device's memory: floors that only rise, times, CRLs, and files that are not one."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed, FwsignError
from fwsign.format.kinds import flash_identifier
from fwsign.memory import file as state_file
from fwsign.memory.crls import MAX_EQUAL_CRLS
from fwsign.memory.file import default_path
from fwsign.memory.floors import MAX_RECORDED, Floor
from fwsign.memory.state import State
from fwsign.receipts.chain import verify_lines
from fwsign.verify.policy import DevicePolicy, Recorded
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Pki,
    component,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    refused,
    sign_with,
)

BASE = DevicePolicy(vendor=VENDOR, product=PRODUCT)
BOARD = "mac:a0b765c1d2e3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "boards.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    with State.open(path, create=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def judge(
    pki: Pki, state: State, number: int, *files: str, identity: str | None = BOARD, **more: Any
) -> tuple[VerifiedRelease, Floor | None]:
    """Verify a release by what the memory says."""
    crls, base, at = more.pop("crls", None), more.pop("base", BASE), more.pop("at", NOW)
    parts = [component(file=name) for name in files]
    manifest = make_manifest(*parts, sequence_number=number, **more)
    policy, floor = state.policy(base, identity)
    release = Verifier([pki.root.anchor], policy).verify(sign_with(pki, manifest, crls=crls), at=at)
    return release, floor


def held(state: State, base: DevicePolicy = BASE) -> list[bytes]:
    """Return the CRLs that the memory adds to a policy."""
    return [one.data for one in state.policy(base, BOARD)[0].held]


def install(pki: Pki, state: State, number: int, *files: str, **more: Any) -> VerifiedRelease:
    release, floor = judge(pki, state, number, *files, **more)
    state.accept(more.get("identity", BOARD), release, floor)
    return release


# --- floors ---------------------------------------------------------------------------------


def test_first_use_checks_rollback_and_has_no_floor(state: State) -> None:
    policy, floor = state.policy(BASE, BOARD)
    assert floor is None
    assert (policy.min_sequence, policy.recorded, policy.time_floor) == (0, (), None)
    assert state.is_new


def test_a_floor_survives(pki: Pki, path: Path) -> None:
    with State.open(path, create=True) as state:
        release = install(pki, state, 100)
        assert release.unchecked == ()
    with State.open(path) as state:
        assert not state.is_new
        identifiers = tuple(one.identifier for one in release.components)
        floor = Floor(100, (Recorded(release.manifest_digest, identifiers),))
        assert state.floor(BOARD, VENDOR, PRODUCT) == floor
        assert state.policy(BASE, BOARD)[1] == floor


def test_rollback_is_refused(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    with refused("unsuitable.rollback", "99 is below 100"):
        install(pki, state, 99)


def test_a_higher_number_replaces_what_was_recorded(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    release = install(pki, state, 101)
    floor = state.floor(BOARD, VENDOR, PRODUCT)
    assert floor is not None
    assert floor.sequence == 101
    assert [one.manifest_digest for one in floor.recorded] == [release.manifest_digest]


def test_the_same_release_is_accepted_again(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    before = state.floor(BOARD, VENDOR, PRODUCT)
    install(pki, state, 100)
    assert state.floor(BOARD, VENDOR, PRODUCT) == before


def test_another_release_of_one_number_is_refused(pki: Pki, state: State) -> None:
    install(pki, state, 100, "a.bin")
    with refused("unsuitable.conflict", '"A.bin"'):
        install(pki, state, 100, "A.bin", "b.bin")


def test_other_components_of_one_number_are_added(pki: Pki, state: State) -> None:
    install(pki, state, 100, "a.bin")
    install(pki, state, 100, "b.bin")
    with refused("unsuitable.conflict"):
        install(pki, state, 100, "b.bin", "c.bin")
    floor = state.floor(BOARD, VENDOR, PRODUCT)
    assert floor is not None
    names = {one.components[0][1] for one in floor.recorded}
    assert names == {b"a.bin", b"b.bin"}


def test_flash_components_are_recorded_too(pki: Pki, state: State) -> None:
    places = [flash_identifier("esp32c3", 0), flash_identifier("esp32c3", 0x10000)]
    parts = [
        component(file=f"{index}.bin")._replace(identifier=place)
        for index, place in enumerate(places)
    ]
    policy, floor = state.policy(BASE, None)
    envelope = sign_with(pki, make_manifest(*parts))
    state.accept(None, Verifier([pki.root.anchor], policy).verify(envelope, at=NOW), floor)
    found = state.floor(None, VENDOR, PRODUCT)
    assert found is not None
    assert found.recorded[0].components == tuple(places)


def test_each_board_and_product_has_its_own_floor(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    assert state.floor("mac:other", VENDOR, PRODUCT) is None
    assert state.floor(None, VENDOR, PRODUCT) is None
    assert state.floor(BOARD, VENDOR, "other") is None
    assert state.floor(BOARD, "other.example", PRODUCT) is None


def test_boards_without_identity_share_a_floor(pki: Pki, state: State) -> None:
    install(pki, state, 100, identity=None)
    with refused("unsuitable.rollback"):
        install(pki, state, 99, identity=None)


def test_a_class_of_another_vendor_moves_nothing(state: State) -> None:
    """A signer may write any class into a manifest, also one derived from another vendor."""
    foreign = make_manifest(sequence_number=2**52)._replace(
        vendor_id=make_manifest(vendor="evil.example").vendor_id
    )
    evil = make_pki(vendors=["evil.example"])
    policy, floor = state.policy(DevicePolicy(vendor="evil.example", min_sequence=0), BOARD)
    release = Verifier([evil.root.anchor], policy).verify(sign_with(evil, foreign), at=NOW)
    state.accept(BOARD, release, floor)
    assert state.floor(BOARD, VENDOR, PRODUCT) is None


def test_a_policy_keeps_what_is_stricter(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    one = Recorded(b"x" * 32, ())
    floor = state.floor(BOARD, VENDOR, PRODUCT)
    assert floor is not None
    for given, recorded, lowest, expected in (
        (50, (one,), 100, floor.recorded),
        (100, (one,), 100, (one, *floor.recorded)),
        (150, (one,), 150, (one,)),
        (150, (), 150, ()),
    ):
        base = BASE._replace(min_sequence=given, recorded=recorded)
        policy, known = state.policy(base, BOARD)
        assert (policy.min_sequence, policy.recorded, known) == (lowest, expected, floor)


def test_without_a_product_rollback_stays_unchecked(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    for base in (DevicePolicy(), DevicePolicy(vendor=VENDOR)):
        policy, floor = state.policy(base, BOARD)
        assert (policy.min_sequence, floor) == (None, None)
        assert policy.held
        release, _ = judge(pki, state, 99, base=base)
        assert "rollback" in release.unchecked


def test_a_waived_rollback_never_lowers_a_floor(pki: Pki, state: State) -> None:
    install(pki, state, 100, "a.bin")
    before = state.floor(BOARD, VENDOR, PRODUCT)
    for number in (99, 100):
        release, _ = judge(pki, state, number, "a.bin", "c.bin", base=DevicePolicy())
        state.accept(BOARD, release, None)
        assert state.floor(BOARD, VENDOR, PRODUCT) == before
    release, _ = judge(pki, state, 101, base=DevicePolicy())
    state.accept(BOARD, release, None)
    after = state.floor(BOARD, VENDOR, PRODUCT)
    assert after is not None
    assert after.sequence == 101


def test_a_release_judged_by_something_else_never_lowers_a_floor(pki: Pki, state: State) -> None:
    install(pki, state, 100)
    floor = state.floor(BOARD, VENDOR, PRODUCT)
    policy = BASE._replace(min_sequence=1)
    envelope = sign_with(pki, make_manifest(sequence_number=5))
    state.accept(BOARD, Verifier([pki.root.anchor], policy).verify(envelope, at=NOW), floor)
    assert state.floor(BOARD, VENDOR, PRODUCT) == floor


def test_a_floor_that_moved_meanwhile_is_a_conflict(pki: Pki, state: State, path: Path) -> None:
    release, floor = judge(pki, state, 100)
    with State.open(path) as other:
        install(pki, other, 101)
    with refused("state.conflict", "the floor was none and is 101"):
        state.accept(BOARD, release, floor)
    release, floor = judge(pki, state, 102)
    with State.open(path) as other:
        install(pki, other, 103)
    with refused("state.conflict", "the floor was 101 and is 103"):
        state.accept(BOARD, release, floor)


def test_one_release_for_many_boards_without_identity_is_no_conflict(
    pki: Pki, state: State
) -> None:
    judged = [judge(pki, state, 100, identity=None) for _ in range(3)]
    for release, floor in judged:
        state.accept(None, release, floor)


def test_too_many_releases_of_one_number_are_refused(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_RECORDED >= 64
    monkeypatch.setattr("fwsign.memory.floors.MAX_RECORDED", 2)
    install(pki, state, 100, "a.bin")
    install(pki, state, 100, "b.bin")
    with refused("state.limit", "2 releases have sequence number 100 already"):
        install(pki, state, 100, "c.bin")


@pytest.mark.parametrize("identity", ["x" * 201, "a\nb", "\x1b[31m", "\udc80"])
def test_a_board_cannot_call_itself_anything(state: State, identity: str) -> None:
    with refused("state.limit", "the board calls itself "):
        state.floor(identity, VENDOR, PRODUCT)


# --- time and CRLs --------------------------------------------------------------------------


def test_the_clock_is_never_remembered(pki: Pki, state: State) -> None:
    release = install(pki, state, 100, at=NOW + 20 * DAY)
    assert release.now == NOW + 20 * DAY
    assert state.policy(BASE, BOARD)[0].time_floor == NOW - DAY  # of the CRLs


def test_a_time_never_goes_back(pki: Pki, state: State) -> None:
    newer = [make_crl(one, number=2, days=(0, 30)) for one in (pki.issuing, pki.root)]
    install(pki, state, 100, crls=newer)
    install(pki, state, 101)
    assert state.policy(BASE, BOARD)[0].time_floor == NOW
    given = BASE._replace(time_floor=NOW + DAY)
    assert state.policy(given, BOARD)[0].time_floor == NOW + DAY


def test_the_time_of_a_block_that_does_not_count_is_not_remembered(state: State) -> None:
    """Another vendor's team could otherwise take every device to the year 2099."""
    ours, theirs = make_pki(), make_pki(vendors=["other.example"], common="Other ")
    near = ours.crls
    far = [make_crl(one, days=(20, 60)) for one in (theirs.issuing, theirs.root)]
    signers = [(one.leaf, [one.issuing], crls) for one, crls in ((ours, near), (theirs, far))]
    envelope = make_envelope(make_manifest(), signers)
    anchors = [ours.root.anchor, theirs.root.anchor]
    release = Verifier(anchors, state.policy(BASE, BOARD)[0]).verify(envelope, at=NOW)
    assert [one.refusal is None for one in release.signers] == [True, False]
    state.accept(BOARD, release, None)
    policy, _ = state.policy(BASE, BOARD)
    assert policy.time_floor == NOW - DAY
    assert {one.data for one in policy.held} == set(near)


def test_without_crls_nothing_is_known(pki: Pki, state: State) -> None:
    install(pki, state, 100, crls=[])
    policy, _ = state.policy(BASE, BOARD)
    assert (policy.held, policy.time_floor) == ((), None)


def test_a_replayed_crl_does_not_bring_a_signer_back(pki: Pki, state: State) -> None:
    other = make_leaf(pki.issuing, "other")
    revoking = make_crl(pki.issuing, [pki.leaf], number=2), make_crl(pki.root)
    install(Pki(pki.root, pki.issuing, other), state, 100, crls=revoking)
    for crls in (pki.crls, ()):  # the old ones, and none at all
        with refused("untrusted.revoked", "release"):
            install(pki, state, 101, crls=crls)
    given = BASE._replace(crls=(revoking[1],))
    assert held(state, given) == list(revoking)


def test_a_lower_crl_does_not_replace_a_higher_one(pki: Pki, state: State) -> None:
    high = [make_crl(one, number=7) for one in (pki.issuing, pki.root)]
    install(pki, state, 100, crls=high)
    before = held(state)
    install(pki, state, 101)
    assert held(state) == before == high


def test_a_crl_of_another_process_is_not_lost(pki: Pki, state: State, path: Path) -> None:
    release, floor = judge(pki, state, 100)
    high = tuple(make_crl(one, number=7) for one in (pki.issuing, pki.root))
    with State.open(path) as other:
        install(pki, other, 100, crls=high, identity="mac:other")
    state.accept(BOARD, release, floor)
    assert held(state) == list(high)


def test_crls_of_equal_number_are_both_held(pki: Pki, state: State) -> None:
    one, two = (make_crl(pki.issuing, days=(-1, days)) for days in (30, 31))
    root = make_crl(pki.root)
    install(pki, state, 100, crls=[one, root])
    install(pki, state, 101, crls=[two, root])
    assert set(held(state)) == {one, two, root}
    many = [make_crl(pki.issuing, days=(-1, 32 + day)) for day in range(MAX_EQUAL_CRLS - 1)]
    with refused("state.limit", f'{MAX_EQUAL_CRLS + 1} different CRLs of "Issuing"'):
        install(pki, state, 102, crls=[*many, root])
    floor = state.floor(BOARD, VENDOR, PRODUCT)
    assert floor is not None
    assert floor.sequence == 101  # nothing of it was kept


def test_a_crl_without_number_is_held_for_compat_alone(pki: Pki, state: State) -> None:
    bare = tuple(make_crl(one, number=None) for one in (pki.issuing, pki.root))
    base = BASE._replace(profile="compat")
    install(pki, state, 100, crls=bare, base=base)
    assert held(state) == list(bare)
    later = tuple(make_crl(one, number=None, days=(0, 30)) for one in (pki.issuing, pki.root))
    install(pki, state, 101, crls=later, base=base)
    install(pki, state, 102, crls=bare, base=base)
    assert held(state) == list(later)


def test_a_ca_that_got_another_key_under_its_name_is_not_locked_out(state: State) -> None:
    root = make_ca()
    old, new = (make_ca("Issuing", root, path_length=0) for _ in range(2))
    top = make_crl(root)
    crls: list[bytes] = []
    for number, issuing in enumerate((old, new)):
        pki = Pki(root, issuing, make_leaf(issuing))
        crls.append(make_crl(issuing, number=9 - number))
        install(pki, state, 100 + number, crls=[crls[-1], top])
    assert set(held(state)) == {*crls, top}


# --- receipts and steps ---------------------------------------------------------------------


def test_receipts_are_a_chain(state: State, path: Path) -> None:
    lines = [state.append_receipt({"number": number}) for number in range(600)]
    with State.open(path) as other:
        assert list(other.receipt_lines()) == lines
    assert verify_lines(state.receipt_lines()).receipts == 600


def test_a_slow_reader_keeps_nobody_waiting(
    state: State, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "BUSY_SECONDS", 0)
    for number in range(300):
        state.append_receipt({"number": number})
    lines = state.receipt_lines()
    next(lines)
    with State.open(path) as other:
        other.append_receipt({"number": 300})
    assert len(list(lines)) == 300


def test_a_step_is_whole_or_nothing(pki: Pki, state: State) -> None:
    release, floor = judge(pki, state, 100)
    with suppress(KeyboardInterrupt), state.transaction():
        state.accept(BOARD, release, floor)
        state.append_receipt({"result": "accepted"})
        assert state.floor(BOARD, VENDOR, PRODUCT)
        raise KeyboardInterrupt
    assert state.floor(BOARD, VENDOR, PRODUCT) is None
    assert list(state.receipt_lines()) == []
    with state.transaction():
        state.accept(BOARD, release, floor)
        state.append_receipt({"result": "accepted"})
    assert state.floor(BOARD, VENDOR, PRODUCT)
    assert len(list(state.receipt_lines())) == 1


def test_one_writer_waits_for_another_for_so_long(
    state: State, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "BUSY_SECONDS", 0)
    with state.transaction(), State.open(path) as other:
        with refused("state.busy", f"{path}: another process keeps it locked"):
            other.append_receipt({})
        assert other.floor(BOARD, VENDOR, PRODUCT) is None  # readers need not wait


def test_two_threads_with_one_memory_are_a_bug_of_the_caller(state: State) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(sqlite3.ProgrammingError):
        pool.submit(state.append_receipt, {}).result()


# --- files ----------------------------------------------------------------------------------


def test_a_lost_memory_is_never_begun_anew(path: Path) -> None:
    with refused("state.lost", f"{path} is not there"):
        State.open(path)
    assert not path.exists()


def test_a_memory_is_made_with_its_directories_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a/b/boards ä?#%.db"
    with State.open(path, create=True) as state:
        state.append_receipt({})
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {stat.S_IMODE(one.stat().st_mode) for one in path.parents[:2]} == {0o700}


def test_a_journal_without_its_memory_is_not_mixed_with_a_new_one(path: Path) -> None:
    Path(f"{path}-journal").write_bytes(b"x")
    with refused("state.lost", "its journal is: the memory was moved or deleted"):
        State.open(path, create=True)
    assert not path.exists()


def test_two_that_make_it_at_once_have_one_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with State.open(path, create=True) as first:
        first.append_receipt({})
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with State.open(path, create=True) as second:
        assert not second.is_new
        assert len(list(second.receipt_lines())) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_of_something_else_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Failed) as caught:
        State.open(path, create=True)
    assert caught.value.code in {"state.foreign", "state.damaged"}
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a)")
    with refused("state.foreign", f"{path} is not a device's memory"):
        State.open(path, create=True)


@contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database, database:
        yield database


def test_a_newer_memory_is_refused(state: State, path: Path) -> None:
    state.close()
    with by_hand(path) as database:
        database.execute("PRAGMA user_version = 3")
    with refused("state.newer", "of version 3, this fwsign knows 2"):
        State.open(path)


def test_a_memory_from_before_the_first_version_is_refused(state: State, path: Path) -> None:
    state.close()
    with by_hand(path) as database:
        database.execute("PRAGMA user_version = 1")
    with refused("state.foreign", "of version 1, this fwsign knows 2"):
        State.open(path)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM floors",
        "UPDATE floors SET sequence = 1",
        "UPDATE floors SET identity = 'mac:other'",
        "DELETE FROM recorded",
        "DELETE FROM crls",
        "UPDATE times SET seconds = 1",
        "DELETE FROM facts",
        "DELETE FROM receipts WHERE number = 2",
        "DROP TABLE crls",
    ],
)
def test_a_memory_changed_by_hand_is_refused(
    pki: Pki, state: State, path: Path, change: str
) -> None:
    install(pki, state, 100)
    state.append_receipt({"number": 1})
    state.append_receipt({"number": 2})
    state.close()
    with by_hand(path) as database:
        database.execute(change)
    with refused("state.damaged", f"{path} is damaged, or was changed by another program: "):
        State.open(path, create=True)


def contents(path: Path) -> str:
    with State.open(path) as state:
        found = state.policy(BASE, BOARD), state.floor(None, VENDOR, PRODUCT)
        return repr((*found, verify_lines(state.receipt_lines())))


def contents_or_code(path: Path) -> str:
    try:
        return contents(path)
    except FwsignError as error:
        return error.code


def test_a_flipped_bit_never_changes_what_is_decided(pki: Pki, state: State, path: Path) -> None:
    install(pki, state, 100)
    for number in range(3):
        state.append_receipt({"number": number})
    state.close()
    good, data = contents(path), path.read_bytes()
    found = set()
    for at in [*range(100), *range(100, len(data), 37)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        found.add(contents_or_code(path))
    # Where nothing is stored, and in receipts before the last one, which their chain shows.
    allowed = {good, "state.damaged", "state.foreign", "state.newer", "io.permission"}
    assert found <= {*allowed, "malformed.receipt", "tampered.receipt-chain"}
    assert found >= {good, "state.damaged", "state.foreign"}


def test_a_truncated_memory_is_refused(pki: Pki, state: State, path: Path) -> None:
    install(pki, state, 100)
    state.append_receipt({})
    state.close()
    good, data = contents(path), path.read_bytes()
    found = []
    for size in range(0, len(data), 500):
        path.write_bytes(data[:size])
        found.append(contents_or_code(path))
    assert set(found) <= {good, "state.foreign", "state.damaged"}
    assert good not in found[: len(found) // 2]  # at the end are pages that say nothing


def test_paths_that_cannot_be_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with refused("io.directory", f"{tmp_path} is a directory"):
        State.open(tmp_path)
    with refused("io.directory"):
        State.open(tmp_path / "file/boards.db")
    with refused("io.exists", f"cannot write {tmp_path / 'file'}"):
        State.open(tmp_path / "file/boards.db", create=True)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need privileges there")
def test_a_link_that_leads_nowhere_is_a_lost_memory(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "none/boards.db")
    with refused("state.lost"):
        State.open(tmp_path / "link.db", create=True)


def test_a_memory_that_cannot_be_made_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise Failed("io.permission", "no")

    monkeypatch.setattr(state_file, "write_atomic", denied)
    with refused("io.permission"):
        State.open(path, create=True)


def test_a_current_directory_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Path) -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "absolute", gone)
    with refused("io.missing", "cannot read boards.db"):
        State.open(Path("boards.db"))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (sqlite3.SQLITE_READONLY_ROLLBACK, "io.permission"),
        (sqlite3.SQLITE_CANTOPEN, "io.permission"),
        (sqlite3.SQLITE_FULL, "io.full"),
        (sqlite3.SQLITE_IOERR_WRITE, "io.write"),
        (sqlite3.SQLITE_LOCKED, "state.busy"),
        (sqlite3.SQLITE_CORRUPT, "state.damaged"),
        (None, "state.damaged"),
    ],
)
def test_each_error_of_sqlite_has_a_code(state: State, path: Path, number: Any, code: str) -> None:
    error = sqlite3.OperationalError("what it says")
    if number is not None:
        error.sqlite_errorcode = number
    with refused(code, str(path)), state.transaction():
        raise error


FULL = """
import resource, sys
from pathlib import Path
from fwsign.errors import Failed, FwsignError
from fwsign.memory.state import State
path, room = Path(sys.argv[1]), int(sys.argv[2])
with State.open(path) as state:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        state.append_receipt({"a": ["x" * 1000] * 22})
    except Failed as error:
        print(error.code)
"""


@pytest.mark.skipif(os.name == "nt", reason="no limit of file sizes there")
@pytest.mark.parametrize("room", [0, 600, 5000, 30_000])
def test_a_full_disk_loses_nothing(pki: Pki, state: State, path: Path, room: int) -> None:
    install(pki, state, 100)
    state.append_receipt({})
    state.close()
    before = contents(path)
    command = [sys.executable, "-c", FULL, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout in {"io.full\n", "io.write\n"}
    assert contents(path) == before


# --- where it is ----------------------------------------------------------------------------


def test_the_memory_is_where_each_system_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_path("linux") == tmp_path / ".local/state/fwsign/boards.db"
    assert default_path("darwin") == tmp_path / "Library/Application Support/fwsign/boards.db"
    assert default_path("win32") == tmp_path / "Local/fwsign/boards.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_path("linux") == tmp_path / ".local/state/fwsign/boards.db"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_path("linux") == tmp_path / "xdg/fwsign/boards.db"


def test_without_a_home_somebody_must_name_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("LOCALAPPDATA", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for platform in ("linux", "darwin", "win32"):
        with refused("state.home", "there is no home directory"):
            default_path(platform)
