"""Little space: looked for before anything is fetched, and made by giving up the older version."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.run import hooks
from fwsign.gateway.trial import commit
from gateway.kit import Gateway, make_gateway
from gateway.test_programs import is_free, wait_until
from pki_kit import at_file_event, fork, needs_fork
from support import refused, stride

SIZE = 1_000_000


def content(number: int, size: int = SIZE) -> dict[str, bytes]:
    return {"app.tar": number.to_bytes(8, "big") * (size // 8)}


def versions(gateway: Gateway) -> set[str]:
    return {one.name for one in (gateway.target / "versions").iterdir()}


class Disk:
    """A small file system at a path, which is unmounted at the end."""

    def __init__(self, path: Path, options: str) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"mode=0755,{options}", "none", str(path)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose target directory has room for two releases of a megabyte, and not three."""
    (tmp_path / "target").mkdir()
    with Disk(tmp_path / "target", "size=2500k"):
        yield make_gateway(tmp_path)


def test_with_room_for_two_releases_the_third_is_installed(small: Gateway) -> None:
    for number in range(1, 6):
        time.sleep(0.01)
        done = small.install(small.release(number, content(number)))
        assert small.installed == content(number)
        words = [note for note in done.notes if note.startswith("for room, version ")]
        assert len(words) == (1 if number > 2 else 0)
        assert len(versions(small)) == min(number, 2)


def test_versions_that_the_owner_keeps_are_not_given_up(small: Gateway) -> None:
    text = small.config.read_text()
    small.config.write_text(f"keep = 3\n{text}")
    for number in (1, 2):
        small.install(small.release(number, content(number)))
    before = versions(small)
    with refused("io.full", "there is no room"):
        small.install(small.release(3, content(3)))
    assert versions(small) == before
    small.config.write_text(f"keep = 1\n{text}")
    small.install(small.release(3, content(3)))
    assert len(versions(small)) == 1


def test_a_release_that_was_begun_is_not_tidied_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its files were moved to their version, and before it counts."""
    gateway = make_gateway(tmp_path)
    for number in (1, 2):
        gateway.install(gateway.release(number, content(number, 800)))
    envelope = gateway.release(3, content(3, 800))
    with monkeypatch.context() as patch:
        patch.setattr("fwsign.gateway.judge.Judge.verify_after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gateway.install(envelope)
    (envelope.parent / "app.tar").unlink()
    gateway.install(envelope)
    assert gateway.installed == content(3, 800)
    assert len(versions(gateway)) == 2


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_dry_run_tells_what_would_go(small: Gateway) -> None:
    for number in (1, 2):
        small.install(small.release(number, content(number)))
    before = versions(small)
    (note,) = small.install(small.release(3, content(3)), dry_run=True).notes
    assert note.startswith("for room, it would remove version ")
    assert note.rpartition(" ")[2] in before
    assert versions(small) == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_release_without_room_is_refused_before_it_is_fetched(
    small: Gateway, dry_run: bool
) -> None:
    """With both values; and the older version stays, since its room would not do either."""
    for number in (1, 2):
        small.install(small.release(number, content(number)))
    before = versions(small)
    envelope = small.release(3, content(3, 3 * SIZE))
    (envelope.parent / "app.tar").unlink()  # it is not even opened
    words = f"there is no room in {small.target}: ", " bytes are needed, ", " are free"
    with refused("io.full", *words, "even without 1 older versions") as caught:
        small.install(envelope, dry_run=dry_run)
    assert int(str(caught.value.expected).split()[0]) > 3 * SIZE > int(str(caught.value.found))
    assert caught.value.hint is not None
    assert (versions(small), small.installed, small.floor) == (before, content(2), 2)


def test_a_version_that_a_trial_may_go_back_to_is_not_given_up(small: Gateway) -> None:
    fails = small.base / "fails"
    small.configure(f'[trial]\nhealth = ["/bin/sh", "-c", "test ! -e {fails}"]\n')
    for number in (1, 2):
        small.install(small.release(number, content(number)))
    fails.touch()
    with refused("unsuitable.trial"):
        small.install(small.release(3, content(3)))
    assert (small.installed, small.floor) == (content(2), 2)


def test_an_interrupted_release_needs_room_only_for_the_rest(small: Gateway) -> None:
    small.install(small.release(1, content(1)))
    envelope = small.release(2, content(2, 1_200_000))
    whole = (envelope.parent / "app.tar").read_bytes()
    (envelope.parent / "app.tar").write_bytes(whole[:1_100_000])
    with refused("tampered.payload-size"):
        small.install(envelope)
    (envelope.parent / "app.tar").write_bytes(whole)
    assert [note for note in small.install(envelope).notes if "room" in note] == []
    assert small.installed == content(2, 1_200_000)


def test_staged_bytes_of_another_release_make_room(small: Gateway) -> None:
    small.install(small.release(1, content(1)))
    envelope = small.release(2, content(2, 1_200_000))
    (envelope.parent / "app.tar").write_bytes(b"")
    with refused("tampered.payload-size"):
        small.install(envelope)
    staged = small.target / ".fwsign/stage/files/app.tar"
    staged.write_bytes(bytes(1_100_000))
    small.install(small.release(3, content(3, 1_200_000)))
    assert small.installed == content(3, 1_200_000)


def test_room_for_names_counts_too(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with Disk(tmp_path / "target", "size=9000k,nr_inodes=20"):
        gateway = make_gateway(tmp_path)
        gateway.install(gateway.release(1, {"a": b"a"}))
        files = {f"f{number}": b"x" for number in range(20)}
        with refused("io.full", "files and directories are needed"):
            gateway.install(gateway.release(2, files))
        assert gateway.installed == {"a": b"a"}


def test_a_file_system_that_gives_no_numbers_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(tmp_path)
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    gateway.install(gateway.release(1, content(1)))


@pytest.mark.parametrize("root", [False, True])
def test_only_root_has_the_blocks_that_are_kept_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    gateway = make_gateway(tmp_path)
    reserved = os.statvfs_result((4096, 4096, 9999, 5000, 0, 9999, 5000, 0, 0, 255))
    envelope = gateway.release(1, content(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: reserved)
        patch.setattr("fwsign.gateway.space.is_root", lambda: root)
        if root:
            gateway.install(envelope)
        else:
            with refused("io.full", ", 0 are free"):
                gateway.install(envelope)


def test_a_file_system_that_cannot_be_asked_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(tmp_path)

    def broken(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, refused("io.read", "input/output error"):
        patch.setattr(os, "statvfs", broken)
        gateway.install(gateway.release(1, content(1)))


def test_the_memory_needs_room_too(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with Disk(tmp_path / "etc", "size=600k"):
        gateway = make_gateway(tmp_path, state=tmp_path / "etc/state.db")
        (tmp_path / "etc/filler").write_bytes(bytes(400_000))
        with refused("io.full", f"there is no room in {tmp_path / 'etc'}: 262144 bytes are needed"):
            gateway.install(gateway.release(1, content(1)))
        (tmp_path / "etc/filler").unlink()
        gateway.install(gateway.release(1, content(1)))


# --- what is kept, and what is left over ---------------------------------------------------------


@pytest.mark.parametrize("limit", [hooks.IN_MEMORY, 0])
def test_the_payload_of_a_failed_command_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(hooks, "IN_MEMORY", limit)
    gateway = make_gateway(tmp_path)
    done = tmp_path / "done"
    gateway.configure(f'[exec]\n"app.tar" = ["/bin/sh", "-c", "test -e {done} && cat > {done}"]\n')
    envelope = gateway.release(1, {"app.tar": b"payload"})
    for _ in range(2):
        with refused("io.hook"):
            gateway.install(envelope)
        (envelope.parent / "app.tar").unlink(missing_ok=True)  # it cannot be fetched again
    done.touch()
    gateway.install(None)
    assert done.read_bytes() == b"payload"
    assert not (gateway.target / ".fwsign/stage").exists()


@needs_fork
def test_a_payload_that_a_killed_command_had_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "IN_MEMORY", 0)
    gateway = make_gateway(tmp_path)
    plain = gateway.config.read_text()
    script = "kill -9 $(ps -o ppid= $PPID)"  # fwsign, above the guard
    gateway.configure(f'[exec]\n"app.tar" = ["/bin/sh", "-c", "{script}"]\n')
    envelope = gateway.release(1, {"app.tar": b"payload"})
    assert not fork(lambda: gateway.install(envelope), lambda: None)
    (envelope.parent / "app.tar").unlink()
    gateway.config.write_text(f'{plain}\n[exec]\n"app.tar" = ["/bin/true"]\n')
    wait_until(lambda: is_free(gateway.target))
    assert gateway.install(None).verdict == "installed"


def kill_after_commit(step: int) -> None:
    """Kill this process at its file event number `step` after it remembers an install."""
    remember = commit.remember_installed

    def late(*words: Any) -> None:
        remember(*words)
        at_file_event(step)

    for module in ("finish", "trial.steps"):
        pytest.MonkeyPatch().setattr(f"fwsign.gateway.{module}.remember_installed", late)


@needs_fork
@pytest.mark.parametrize("trial", [False, True])
@pytest.mark.parametrize("next_one", ["the same", "a refused one"])
def test_after_a_kill_behind_the_commit_nothing_is_left_over(
    tmp_path: Path, next_one: str, trial: bool
) -> None:
    """Killed at file events after the release was recorded; the next run tidies up."""
    gateway = make_gateway(tmp_path)
    if trial:
        gateway.configure('[trial]\nhealth = ["/bin/true"]\n')
    for number in (1, 2):
        gateway.install(gateway.release(number, content(number, 800)))
    for step in range(1, 60, stride(3)):
        envelope = gateway.release(step + 2, content(step + 2, 800))
        lived = fork(partial(gateway.install, envelope), partial(kill_after_commit, step))
        if next_one == "the same":
            gateway.install(envelope)
            assert gateway.installed == content(step + 2, 800)
        else:
            with refused("unsuitable.rollback"):
                gateway.install(gateway.release(1, content(1, 800)))
        assert not (gateway.target / ".fwsign/stage").exists()
        assert len(versions(gateway)) == 2
        if trial:
            assert len(list((gateway.target / ".fwsign/kept").iterdir())) <= 2
        if lived:
            return
    pytest.fail("it never lives to its end")


def test_a_repaired_release_is_one_to_go_back_to_although_its_damaged_version_goes(
    small: Gateway,
) -> None:
    fails = small.base / "fails"
    small.configure(f'[trial]\nhealth = ["/bin/sh", "-c", "test ! -e {fails}"]\n')
    first = small.release(1, content(1))
    small.install(first)
    (small.target / "current/app.tar").write_bytes(b"damaged" * (SIZE // 7))
    small.install(first)  # its version has another name now
    fails.touch()
    with refused("unsuitable.trial", "release 1 is in place again"):
        small.install(small.release(2, content(2)))
    assert (small.installed, small.floor) == (content(1), 1)
