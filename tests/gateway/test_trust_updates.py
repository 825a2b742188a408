"""A gateway whose anchors change, and a fleet that is asked first."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.gateway.rehearse import DeviceVerdict, rehearse
from fwsign.gateway.run.session import demands
from fwsign.gateway.trust import apply
from fwsign.memory.state import State
from fwsign.trust.lists import Floors
from fwsign.verify.policy import DevicePolicy
from gateway.kit import Gateway, make_gateway, pki
from support import NOW, PRODUCT, VENDOR, Pki, make_pki, refused
from trust.test_update import bare, root, sign, update

OTHER = make_pki(common="Other ")
OLD, NEW = pki().root, OTHER.root
BOTH = update(1, root(OLD), root(NEW))
ALONE = update(2, root(NEW))
CHAIN = [sign(BOTH, OLD.key), sign(ALONE, OLD.key, NEW.key)]
FILES = {"app.tar": b"application"}
BASE = DevicePolicy(revocation="off")


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def release(gateway: Gateway, number: int, by: Pki) -> Path:
    signer = (by.leaf, [by.issuing], by.crls)
    return gateway.release(number, FILES, signers=[signer])


def test_a_new_root_vouches_for_releases_and_the_old_one_no_more(gateway: Gateway) -> None:
    with refused("untrusted.no-anchor"):
        gateway.install(release(gateway, 1, OTHER))
    before, after = apply(gateway.device, b"".join(CHAIN), NOW, None)
    assert (before.number, after.number) == (0, 2)
    gateway.install(release(gateway, 2, OTHER))
    with refused("untrusted.no-anchor"):
        gateway.install(release(gateway, 3, pki()))
    assert ("trust updated", None) in gateway.results


def test_the_same_file_again_changes_nothing(gateway: Gateway) -> None:
    apply(gateway.device, b"".join(CHAIN), NOW, None)
    receipts = gateway.results
    before, after = apply(gateway.device, b"".join(CHAIN), NOW, None)
    assert before == after
    assert gateway.results == receipts


def test_a_refusal_is_recorded(gateway: Gateway) -> None:
    with refused("untrusted.signers"):
        apply(gateway.device, sign(BOTH, NEW.key), NOW, None)
    with refused("malformed.cbor"):
        apply(gateway.device, b"", NOW, None)
    assert gateway.results[-2:] == [("refused", "untrusted.signers"), ("refused", "malformed.cbor")]


def test_a_release_key_signing_a_trust_update_is_refused(gateway: Gateway) -> None:
    with refused("untrusted.signers"):
        apply(gateway.device, sign(BOTH, pki().leaf.key, NEW.key), NOW, None)


def test_a_release_given_as_a_trust_update_is_refused(gateway: Gateway) -> None:
    with refused("unsuitable.release"):
        apply(gateway.device, release(gateway, 1, pki()).read_bytes(), NOW, None)


def test_a_trust_update_given_as_a_release_is_refused(gateway: Gateway) -> None:
    path = gateway.base / "1.suit"
    path.write_bytes(CHAIN[0])
    with pytest.raises(FwsignError) as caught:
        gateway.install(path)
    assert caught.value.code in {"untrusted.no-anchor", "unsuitable.trust-update"}
    assert gateway.installed is None


def test_a_lost_memory_is_named(gateway: Gateway) -> None:
    gateway.device.state.unlink()
    with refused("state.lost"):
        apply(gateway.device, CHAIN[0], NOW, None)


# --- rehearsals -----------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Devices: new, one that has list 1, one that has list 2, and one of another product."""
    for name, updates in (("new", []), ("one", CHAIN[:1]), ("two", CHAIN)):
        (tmp_path / name).mkdir()
        gateway = make_gateway(tmp_path / name)
        gateway.install(release(gateway, 5, pki()))
        if updates:
            apply(gateway.device, b"".join(updates), NOW, None)
        (gateway.base / "device.toml").write_bytes(gateway.config.read_bytes())
    (tmp_path / "other").mkdir()
    gateway = make_gateway(tmp_path / "other", product="other")
    (gateway.base / "state.toml").write_bytes(gateway.config.read_bytes())
    return tmp_path


def judged(found: list[DeviceVerdict]) -> dict[str, tuple[str, str | None]]:
    return {
        one.state.parts[0]: (one.verdict, one.refusal.code if one.refusal else None)
        for one in found
    }


def ask(fleet: Path, *candidates: bytes) -> dict[str, tuple[str, str | None]]:
    before = {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()}
    found = judged(list(rehearse(fleet, candidates, BASE, NOW)))
    assert {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()} == before
    return found


def test_a_chain_strands_nobody_and_an_update_alone_those_behind(fleet: Path) -> None:
    other = ("other", "unsuitable.product")
    fine = ("accepts", None)
    assert ask(fleet, b"".join(CHAIN)) == {"new": fine, "one": fine, "two": fine, "other": other}
    assert ask(fleet, CHAIN[1]) == {
        "new": ("stranded", "unsuitable.trust-gap"),
        "one": fine,
        "two": fine,
        "other": other,
    }


def test_a_release_is_judged_by_each_memory(fleet: Path) -> None:
    gateway = Gateway(fleet / "new")
    good = release(gateway, 6, OTHER).read_bytes()
    old = ("stranded", "untrusted.no-anchor")
    found = ask(fleet, good)
    assert (found["new"], found["one"], found["two"]) == (old, ("accepts", None), ("accepts", None))
    found = ask(fleet, b"".join(CHAIN), good)
    assert found["new"] == ("accepts", None)
    low = release(gateway, 4, OTHER).read_bytes()
    assert ask(fleet, b"".join(CHAIN), low)["two"] == ("stranded", "unsuitable.rollback")


def test_floors_that_an_update_sets_count_for_the_release_behind_it(fleet: Path) -> None:
    gateway = Gateway(fleet / "two")
    low = release(gateway, 4, OTHER).read_bytes()
    reset = update(3, root(NEW), epoch=1, floors=Floors(sequence=3))
    assert ask(fleet, sign(reset, NEW.key), low)["two"] == ("accepts", None)


def test_a_memory_alone_needs_a_list_of_its_own(fleet: Path) -> None:
    for name in ("new", "two"):
        (fleet / name / "device.toml").unlink()
    found = ask(fleet, b"".join(CHAIN), release(Gateway(fleet / "one"), 6, OTHER).read_bytes())
    assert found["new"] == ("stranded", "state.lost")
    assert found["two"] == ("accepts", None)


def test_a_damaged_memory_is_stranded(fleet: Path) -> None:
    (fleet / "two/state.db").write_bytes(b"no database")
    (fleet / "two/state.db-journal").write_bytes(b"")
    assert ask(fleet, CHAIN[1])["two"] == ("stranded", "state.foreign")


def test_the_journal_of_a_hostile_memory_deletes_no_file(fleet: Path) -> None:
    """SQLite deletes the super-journal that a journal names, once it has undone what is in it."""
    memory, victim = fleet / "two/state.db", fleet / "victim.txt"
    victim.write_bytes(b"precious\0")
    with closing(sqlite3.connect(memory, isolation_level=None)) as other:
        other.execute("PRAGMA cache_size = 1")
        other.execute("BEGIN IMMEDIATE")
        other.executemany("INSERT INTO receipts (line) VALUES (?)", [("x" * 3000,)] * 200)
        content, journal = memory.read_bytes(), Path(f"{memory}-journal").read_bytes()
        other.execute("ROLLBACK")
    name = bytes(victim)
    record = (0x40000000 // 4096 + 1).to_bytes(4) + name + len(name).to_bytes(4)
    magic = bytes.fromhex("d9d505f920a163d7")
    memory.write_bytes(content)
    Path(f"{memory}-journal").write_bytes(journal + record + sum(name).to_bytes(4) + magic)
    assert ask(fleet, CHAIN[1])["two"] == ("stranded", "state.damaged")
    with refused("state.damaged", "its journal is of several databases"):
        State.open(memory)
    assert victim.exists()
    Path(f"{memory}-journal").write_bytes(journal)  # one of its own is undone
    assert ask(fleet, CHAIN[1])["two"] == ("accepts", None)
    Path(f"{memory}-journal").unlink()
    Path(f"{memory}-journal").mkdir()
    with refused("io.directory"):
        State.open(memory)


def test_a_hostile_memory_that_never_ends_is_stranded(fleet: Path) -> None:
    with closing(sqlite3.connect(fleet / "two/state.db", isolation_level=None)) as other:
        other.execute("DROP TABLE recorded")
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n"
        other.execute(f"CREATE VIEW recorded AS {endless}")
    assert ask(fleet, CHAIN[1])["two"] == ("stranded", "state.damaged")


def test_a_memory_that_cannot_be_read_is_stranded(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fwsign.gateway.rehearse._copy_file", refuse)
    assert ask(fleet, CHAIN[1])["two"] == ("stranded", "io.permission")


def test_a_directory_without_memories_is_refused(tmp_path: Path) -> None:
    with refused("io.missing", "0 memories"):
        list(rehearse(tmp_path, [CHAIN[0]], BASE, NOW))


def test_too_many_devices_are_refused(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fwsign.gateway.rehearse.MAX_DEVICES", 1)
    with refused("state.limit"):
        list(rehearse(fleet, [CHAIN[0]], BASE, NOW))


def test_time_stamp_roots_change_with_the_list(gateway: Gateway) -> None:
    wanted = update(1, root(OLD), bare(NEW.key, "tsa"))
    apply(gateway.device, sign(wanted, OLD.key), NOW, None)
    with State.open(gateway.device.state) as state:
        policy = demands(gateway.device, state)[1]
    assert [one.spki for one in policy.tsa_anchors] == [NEW.anchor.spki]
    assert (policy.vendor, policy.product) == (VENDOR, PRODUCT)


def test_a_trust_update_that_comes_in_meanwhile_stops_the_install(gateway: Gateway) -> None:
    """Else a release by signers that the device trusts no more would still be accepted."""
    done: list[bool] = []

    def progress(*_: object) -> None:
        if not done:
            done.append(True)
            apply(gateway.device, b"".join(CHAIN), NOW, None)

    envelope = release(gateway, 1, pki())
    with refused("state.conflict", "a trust update came in meanwhile: its list has number 2"):
        gateway.install(envelope, progress=progress)
    assert done == [True]
    assert (gateway.installed, gateway.floor) == (None, None)
    with refused("untrusted.no-anchor"):
        gateway.install(envelope)


@pytest.mark.parametrize("ending", ["", "-journal"])
def test_a_memory_of_holes_is_not_copied_byte_by_byte(
    fleet: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Four gigabytes of nothing took half a minute, and as much space."""
    for path in [*fleet.rglob("*.db")][1:]:
        path.unlink()
    (path,) = fleet.rglob("*.db")
    expected = list(rehearse(fleet, [CHAIN[0]], BASE, NOW))
    with Path(f"{path}{ending}").open("ab") as file:
        file.truncate(4 * 1024**3)
    before = time.process_time()
    assert list(rehearse(fleet, [CHAIN[0]], BASE, NOW)) == expected
    assert time.process_time() - before < 1
    monkeypatch.delattr(os, "SEEK_DATA")  # as on Windows
    with Path(f"{path}{ending}").open("ab") as file:
        file.truncate(1024 * 1024)
    assert list(rehearse(fleet, [CHAIN[0]], BASE, NOW)) == expected
    with Path(f"{path}{ending}").open("ab") as file:
        file.truncate(8 * 1024**3 + 1)
    (found,) = rehearse(fleet, [CHAIN[0]], BASE, NOW)
    assert found.refusal is not None
    assert (found.verdict, found.refusal.code) == ("stranded", "state.damaged")
    assert f"{path}{ending} is no memory: it has 8589934593 bytes" in found.refusal.message
