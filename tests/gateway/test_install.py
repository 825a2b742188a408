"""Installing files: all of a release or nothing of it, and what the next run does."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.enrol import reset
from fwsign.gateway.run import session
from fwsign.gateway.run.session import INTENT, SOURCES
from fwsign.gateway.target.directory import Target
from fwsign.gateway.target.sources import Sources
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway, pki, usual_crls
from support import DAY, NOW, component, refused


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def versions(gateway: Gateway) -> int:
    return len(list((gateway.target / "versions").iterdir()))


def left_open(gateway: Gateway) -> str | None:
    with State.open(gateway.base / "state.db") as state:
        return state.remembered(INTENT)


class Crash(Exception):
    """Stands for the end of the process."""


def crash(*_: Any, **__: Any) -> None:
    raise Crash


@contextmanager
def crashing(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str, by: Callable[..., Any] = crash
) -> Iterator[None]:
    """Let the process seem to end in a method."""
    with monkeypatch.context() as patch, pytest.raises(Crash):  # noqa: PT012 - one statement inside
        patch.setattr(where, name, by)
        yield


def test_a_release_of_several_files_is_installed_at_once(gateway: Gateway) -> None:
    files = {"app.tar": b"app" * 1000, "site.cfg": b"", "model.bin": bytes(2_500_000)}
    done = gateway.install(gateway.release(7, files))
    assert done.verdict == "installed"
    assert gateway.installed == files
    assert gateway.floor == 7
    assert gateway.results[1:] == [("accepted", None), ("installed", None)]
    assert oct((gateway.target / "current/app.tar").stat().st_mode) == "0o100644"
    assert left_open(gateway) is None
    assert [one.name for one in (gateway.target / ".fwsign").iterdir()] == ["lock"]


def test_a_payload_in_the_envelope_is_installed(gateway: Gateway) -> None:
    from support import make_envelope, make_manifest  # here alone

    manifest = make_manifest(component(b"inside", "app.tar", "#app.tar"), sequence_number=3)
    signer = (pki().leaf, [pki().issuing], pki().crls)
    path = gateway.base / "update.suit"
    path.write_bytes(make_envelope(manifest, [signer], integrated={"#app.tar": b"inside"}))
    assert gateway.install(path, dry_run=True).verdict == "dry run"
    gateway.install(path)
    assert gateway.installed == {"app.tar": b"inside"}


def test_the_release_before_is_kept_and_no_other(gateway: Gateway) -> None:
    for number in (1, 2, 3):
        gateway.install(gateway.release(number, {"app.tar": bytes([number])}))
        assert versions(gateway) == min(number, 2)
    assert gateway.installed == {"app.tar": b"\3"}


def test_a_release_that_is_installed_is_not_installed_again(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    gateway.install(envelope)
    (envelope.parent / "app.tar").unlink()
    assert gateway.install(envelope).verdict == "already installed"
    assert len(gateway.results) == 3


def test_a_damaged_installation_is_put_right(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    gateway.install(envelope)
    for _ in range(2):
        (gateway.target / "current/app.tar").write_bytes(b"two")
        done = gateway.install(envelope)
        assert done.verdict == "installed"
        assert done.notes == ("the installed files were damaged, and are installed again",)
        assert gateway.installed == {"app.tar": b"one"}


def test_a_dry_run_changes_nothing(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    assert gateway.install(envelope, dry_run=True).verdict == "dry run"
    assert gateway.installed is None
    assert gateway.floor is None
    assert list(gateway.target.iterdir()) == []
    (envelope.parent / "app.tar").write_bytes(b"two")
    with refused("tampered.payload-digest"):
        gateway.install(envelope, dry_run=True)
    assert len(gateway.results) == 1
    with refused("state.nothing", "which release"):
        gateway.install(None, dry_run=True)


def test_payloads_may_be_elsewhere(gateway: Gateway, tmp_path: Path) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    elsewhere = tmp_path / "usb"
    elsewhere.mkdir()
    (envelope.parent / "app.tar").rename(elsewhere / "app.tar")
    with refused("io.payload-missing", str(envelope.parent / "app.tar")):
        gateway.install(envelope)
    with refused("io.payload-missing", 'no payload called "other.tar"', "app.tar"):
        gateway.install(envelope, str(elsewhere / "other.tar"))
    gateway.install(envelope, str(elsewhere / "app.tar"))
    assert gateway.installed == {"app.tar": b"one"}


# --- cut short -----------------------------------------------------------------------------------


def test_what_was_staged_is_read_again_and_not_fetched_again(gateway: Gateway) -> None:
    data = os.urandom(3_000_000)
    envelope = gateway.release(1, {"app.tar": data})
    payload = envelope.parent / "app.tar"
    payload.write_bytes(data[:2_000_000])
    with refused("tampered.payload-size"):
        gateway.install(envelope)
    assert gateway.floor is None
    stage(gateway, envelope, data[:1_500_000])
    payload.write_bytes(bytes(1_500_000) + data[1_500_000:])  # only the rest is there
    gateway.install(None)
    assert gateway.installed == {"app.tar": data}


def stage(gateway: Gateway, envelope: Path, data: bytes) -> Path:
    """Leave a part of a payload as a run that was cut short leaves it."""
    folder = gateway.target / ".fwsign/stage"
    (folder / "files").mkdir(exist_ok=True, parents=True)
    (folder / "envelope").write_bytes(envelope.read_bytes())
    (folder / "files/app.tar").write_bytes(data)
    return folder / "files/app.tar"


def test_a_staged_part_that_is_wrong_is_thrown_away(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one" * 100})
    stage(gateway, envelope, b"two" * 50)
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": b"one" * 100}


def test_a_staged_part_of_another_release_is_not_used(gateway: Gateway) -> None:
    first = gateway.release(1, {"app.tar": b"one" * 100})
    stage(gateway, first, b"one" * 50)
    gateway.install(gateway.release(2, {"app.tar": b"two" * 100}))
    assert gateway.installed == {"app.tar": b"two" * 100}


def test_there_has_to_be_something_to_resume(gateway: Gateway) -> None:
    with refused("state.nothing", "no install was begun"):
        gateway.install(None)


def test_a_release_that_was_accepted_is_finished_by_the_next_run(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.install(gateway.release(1, {"app.tar": b"one"}))
    with crashing(monkeypatch, Target, "flip"):
        gateway.install(gateway.release(2, {"app.tar": b"two"}))
    assert (gateway.installed, gateway.floor) == ({"app.tar": b"one"}, 2)
    done = gateway.install(gateway.release(3, {"app.tar": b"three"}))
    assert done.notes == ("a release that was accepted before was finished first",)
    assert gateway.results[3:] == [("accepted", None), ("installed", None)] * 2
    assert gateway.installed == {"app.tar": b"three"}


def test_a_release_that_was_accepted_and_is_damaged_is_undone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.install(gateway.release(1, {"app.tar": b"one"}))
    second = gateway.release(2, {"app.tar": b"two"})
    with crashing(monkeypatch, Target, "flip"):
        gateway.install(second)
    for path in (gateway.target / "versions").glob("*/app.tar"):
        if path.read_bytes() == b"two":
            path.write_bytes(b"bad")
    with refused("unsuitable.rollback"):
        gateway.install(gateway.release(1, {"app.tar": b"old"}))
    assert gateway.results[4:] == [
        ("rolled back", "tampered.payload-digest"),
        ("refused", "unsuitable.rollback"),
    ]
    assert (gateway.installed, left_open(gateway)) == ({"app.tar": b"one"}, None)
    gateway.install(second)
    assert gateway.installed == {"app.tar": b"two"}


@pytest.mark.parametrize("gone", [True, False])
def test_a_journal_that_is_wrong_is_only_a_hint(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    with crashing(monkeypatch, Target, "flip"):
        gateway.install(gateway.release(1, {"app.tar": b"one"}))
    hint = gateway.target / ".fwsign/stage/envelope"
    if gone:
        hint.unlink()
    else:
        hint.write_bytes(gateway.release(1, {"other": b"two"}).read_bytes())
    gateway.install(gateway.release(2, {"app.tar": b"two"}))
    assert ("rolled back", "state.nothing") in gateway.results
    assert gateway.installed == {"app.tar": b"two"}


def test_after_the_link_was_flipped_only_the_record_is_missing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = Target.flip

    def flip_and_crash(target: Target, name: str) -> None:
        flip(target, name)
        raise Crash

    envelope = gateway.release(1, {"app.tar": b"one"})
    with crashing(monkeypatch, Target, "flip", flip_and_crash):
        gateway.install(envelope)
    assert gateway.installed == {"app.tar": b"one"}
    assert gateway.install(envelope).verdict == "already installed"
    assert gateway.results[-1] == ("installed", None)


def test_a_release_in_place_is_not_called_undone_where_it_cannot_be_verified_now(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link was flipped, the record is missing, and then the clock is wrong."""
    flip = Target.flip

    def flip_and_crash(target: Target, name: str) -> None:
        flip(target, name)
        raise Crash

    envelope = gateway.release(1, {"app.tar": b"one"})
    with crashing(monkeypatch, Target, "flip", flip_and_crash):
        gateway.install(envelope)
    for _ in range(2):
        with refused("stale.certificate"):
            gateway.install(envelope, at=NOW + 9999 * DAY)
    assert ("incomplete", "stale.certificate") in gateway.results
    assert left_open(gateway) is not None
    assert gateway.installed == {"app.tar": b"one"}
    assert gateway.install(envelope).verdict == "already installed"
    assert left_open(gateway) is None


def test_files_that_were_moved_before_a_crash_are_used(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    with crashing(monkeypatch, State, "accept"):
        gateway.install(envelope)
    (envelope.parent / "app.tar").unlink()
    gateway.install(None)
    assert gateway.installed == {"app.tar": b"one"}


def test_a_bad_block_stops_there_and_the_next_run_goes_on_behind_the_last_good_one(
    gateway: Gateway,
) -> None:
    from blocks_kit import LONG, listed  # here alone

    folder = gateway.base / "blocks"
    folder.mkdir()
    (folder / "update.suit").write_bytes(listed(pki(), crls=usual_crls()))
    payload = folder / "build.bin"
    payload.write_bytes(LONG[:5000] + b"!" + LONG[5001:])
    with refused("tampered.block", "block 1 of 4096 bytes"):
        gateway.install(folder / "update.suit")
    staged = gateway.target / ".fwsign/stage/files/build.bin"
    assert staged.read_bytes() == LONG[:4096]
    payload.write_bytes(bytes(4096) + LONG[4096:])  # the first block is not read again
    gateway.install(None)
    assert gateway.installed == {"build.bin": LONG}


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file_where_a_payload_is_staged_is_replaced(gateway: Gateway, what: str) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    staged = stage(gateway, envelope, b"")
    staged.unlink()
    if what == "folder":
        staged.mkdir()
    else:
        os.mkfifo(staged)
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": b"one"}


def test_a_full_disk_is_called_that(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if bytes(data) == b"one":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    with monkeypatch.context() as patch, refused("io.full", "no space left on device"):
        patch.setattr(os, "write", full)
        gateway.install(envelope)
    gateway.install(None)


def test_a_source_that_breaks_is_named(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def read(self, _size: int, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    def opened(*_: Any) -> nullcontext[Broken]:
        return nullcontext(Broken())

    monkeypatch.setattr(Sources, "open", opened)
    with refused("io.read", 'the payload of "app.tar": input/output error'):
        gateway.install(gateway.release(1, {"app.tar": b"one"}))


def test_a_hint_that_cannot_be_read_is_no_hint(gateway: Gateway) -> None:
    for text in ("{", "null", "[]", "7"):
        with State.open(gateway.base / "state.db") as state:
            state.remember(SOURCES, text)
        with refused("state.nothing", "cannot be read"):
            gateway.install(None)


# --- what is refused -----------------------------------------------------------------------------


def test_two_installers_at_once_one_wins(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    with Target(gateway.target), refused("state.busy", "another fwsign install is at work"):
        gateway.install(envelope)
    gateway.install(envelope)


def test_a_lost_memory_is_never_made_anew(gateway: Gateway) -> None:
    (gateway.base / "state.db").unlink()
    with refused("state.lost", "is not there"):
        gateway.install(gateway.release(1, {"app.tar": b"one"}))
    assert not (gateway.base / "state.db").exists()


def test_a_component_for_an_unknown_board_is_refused_before_anything_is_done(
    gateway: Gateway,
) -> None:
    from fwsign.format.kinds import flash_identifier  # here alone

    part = component(b"x", "part0.bin")._replace(identifier=flash_identifier("esp32c3", 0))
    path = gateway.sign(gateway.base / "a.suit", 1, [part, component(b"y", "y")])
    with refused("unsuitable.target", '"esp32c3@0x0" is for a board with esp32c3', "none"):
        gateway.install(path)
    assert (gateway.floor, gateway.results[-1]) == (None, ("refused", "unsuitable.target"))


def test_the_same_refusal_again_and_again_does_not_fill_the_disk(gateway: Gateway) -> None:
    bad = gateway.release(1, {"app.tar": b"one"}, product="other")
    for _ in range(3):
        with refused("unsuitable.product"):
            gateway.install(bad)
    assert gateway.results[1:] == [("refused", "unsuitable.product")]


def test_what_nobody_checked_is_refused(gateway: Gateway) -> None:
    device = gateway.device
    lax = device._replace(policy=device.policy._replace(product=None))
    with refused("state.unchecked", "not waived in device.toml: product, rollback"):
        gateway.install(gateway.release(1, {"app.tar": b"one"}), device=lax)


def test_a_payload_that_cannot_be_read_is_named(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    (envelope.parent / "app.tar").unlink()
    (envelope.parent / "app.tar").mkdir()
    with refused("io.directory", "app.tar"):
        gateway.install(envelope)


def test_waived_revocation_is_in_the_receipt(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, revocation="off")
    done = gateway.install(gateway.release(1, {"app.tar": b"one"}, crls=()))
    assert done.release.unchecked == ("revocation",)
    with State.open(tmp_path / "state.db") as state:
        assert '"waived":["revocation"]' in str(state.last_receipt())


def test_it_says_that_it_is_for_posix(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    device = gateway.device

    class Windows:
        name = "nt"

    monkeypatch.setattr(session, "os", Windows)
    with refused("state.platform", "POSIX systems only"):
        gateway.install(envelope, device=device)


@pytest.mark.parametrize("place", [".", ".fwsign", "versions"])
def test_directories_that_others_can_write_are_refused(gateway: Gateway, place: str) -> None:
    gateway.install(gateway.release(1, {"app.tar": b"one"}))
    (gateway.target / place).chmod(0o777)
    with refused("io.permission", "can be changed by other users"):
        gateway.install(gateway.release(2, {"app.tar": b"two"}))
    assert gateway.installed == {"app.tar": b"one"}


@pytest.mark.parametrize("place", ["memory", "memory/state.db"])
def test_a_memory_that_others_can_exchange_is_not_believed(tmp_path: Path, place: str) -> None:
    (tmp_path / "memory").mkdir()
    gateway = make_gateway(tmp_path, state=tmp_path / "memory/state.db")
    (tmp_path / place).chmod(0o1777)
    with refused("io.permission", "can be changed by other users"):
        gateway.install(gateway.release(1, {"app.tar": b"one"}))
    with refused("io.permission"):
        reset(gateway.device, NOW, None)


def test_a_memory_is_not_made_where_others_can_exchange_it(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory").chmod(0o1777)
    with refused("io.permission", "memory can be changed by other users"):
        make_gateway(tmp_path, state=tmp_path / "memory/state.db")
    assert not (tmp_path / "etc").exists()


def test_a_memory_whose_link_goes_round_in_circles_is_an_error(gateway: Gateway) -> None:
    device = gateway.device
    (gateway.base / "state.db").unlink()
    (gateway.base / "state.db").symlink_to("state.db")
    with refused("io.read", "too many levels of symbolic links"):
        gateway.install(None, device=device)


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_a_current_that_is_not_ours_is_left_alone(gateway: Gateway, what: str) -> None:
    current = gateway.target / "current"
    if what == "file":
        current.write_bytes(b"mine")
    elif what == "folder":
        current.mkdir()
    else:
        current.symlink_to("versions/../..")
    with refused("io.exists", "is not a link that fwsign made"):
        gateway.install(gateway.release(1, {"app.tar": b"one"}))
    assert os.path.lexists(current)
    assert gateway.floor is None
