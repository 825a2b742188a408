"""What is removed from a place, and what never is."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fwsign.publish.folder import FolderStore
from fwsign.publish.garbage import Collector
from fwsign.publish.layout import probe_path
from fwsign.publish.plan import GivenRelease
from fwsign.publish.store import Store
from publish_kit import Scene, Wrapped, missing_of
from support import refused

DAY = 86400


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "served")


def age(store: FolderStore, *paths: str, days: int = 30) -> None:
    """Let paths be written long ago."""
    for path in paths:
        file = Path(store.place) / path
        past = file.stat().st_mtime - days * DAY
        os.utime(file, (past, past))


def age_all(store: FolderStore) -> None:
    files = [one for one in Path(store.place).rglob("*") if one.is_file()]
    age(store, *(one.relative_to(store.place).as_posix() for one in files))


def removed(store: Store, scene: Scene, days: int = 7) -> set[str]:
    found = Collector(store, days * DAY, scene.clock).run()
    return {one.path for one in found.removed}


def everything(given: GivenRelease) -> set[str]:
    return {given.path, *given.payloads}


def test_what_no_channel_names_goes_when_it_is_old(store: FolderStore, scene: Scene) -> None:
    shared = b"shared" * 9
    old, new = scene.release(100, shared, b"old"), scene.release(101, shared, b"new")
    lately = scene.release(102)
    scene.publish(store, old, new, scene.channel(1, new), scene.channel(1, name="beta"))
    age_all(store)
    scene.publish(store, lately)
    gone = everything(old) - everything(new)
    assert len(gone) == 2
    assert removed(store, scene) == gone
    assert missing_of(store) == []
    assert store.entry(lately.path) is not None
    assert removed(store, scene) == set()


def test_each_channel_counts(store: FolderStore, scene: Scene) -> None:
    one, two = scene.release(100), scene.release(101)
    scene.publish(store, one, two, scene.channel(1, one), scene.channel(1, two, name="beta"))
    age_all(store)
    assert removed(store, scene) == set()


def test_a_payload_stays_for_an_envelope_that_was_written_lately(
    store: FolderStore, scene: Scene
) -> None:
    named, next_ = scene.release(100), scene.release(101)
    scene.publish(store, named, scene.channel(1, named), next_)
    age_all(store)
    # A publisher found the payload, wrote the envelope, and has not come to the channel yet.
    (Path(store.place) / next_.path).touch()
    assert removed(store, scene) == set()


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_channel_that_cannot_be_read_stops_it(
    store: FolderStore, scene: Scene, content: bytes | None
) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, new, scene.channel(1, new))
    beta = Path(store.place) / "beta.channel"
    if content is None:
        beta.symlink_to("nowhere")
    else:
        beta.write_bytes(content)
    age_all(store) if content is not None else age(store, old.path, *old.payloads)
    with refused("malformed.cbor" if content is not None else "io.missing"):
        removed(store, scene)
    assert store.entry(old.path) is not None


def test_a_channel_under_another_name_stops_it(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    (Path(store.place) / "beta.channel").write_bytes(store.read("stable.channel"))
    with refused("tampered.manifest", 'beta.channel has the channel "stable" in it'):
        removed(store, scene)


def test_a_place_without_a_channel_is_not_emptied(store: FolderStore, scene: Scene) -> None:
    scene.publish(store, scene.release(100))
    age_all(store)
    with refused("io.missing", f"{store.place} has no channel: all of it would be garbage"):
        removed(store, scene)
    with refused("io.missing"):
        removed(FolderStore(Path(store.place) / "nowhere"), scene)


@pytest.mark.parametrize("harm", ["gone", "junk", "swapped"])
def test_a_named_envelope_that_cannot_be_read_stops_it(
    store: FolderStore, scene: Scene, harm: str
) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, new, scene.channel(1, new))
    file = Path(store.place) / new.path
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(b"junk" if harm == "junk" else old.data)
    age_all(store)
    codes = {"gone": "io.release-missing", "junk": "malformed.cbor", "swapped": "tampered.manifest"}
    with refused(codes[harm]):
        removed(store, scene)
    assert store.entry(old.path) is not None
    assert all(store.entry(path) for path in {**old.payloads, **new.payloads})


def test_what_others_put_there_is_left_alone(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    base = Path(store.place)
    foreign = ["index.html", "sha256/readme", f"sha256/{63 * '0'}", "releases/x.suit", ".lock"]
    foreign += [f"sha256/{64 * 'A'}", "robots.txt", "releases/latest"]
    for name in foreign:
        (base / name).write_bytes(b"x")
    left = [f".{64 * 'a'}.x7", f"sha256/.{64 * 'b'}.abc", f"releases/.{64 * 'c'}.q"]
    for name in [*left, ".stable.channel.abc"]:
        (base / name).write_bytes(b"x")
    age_all(store)
    assert removed(store, scene) == {*left, ".stable.channel.abc"}
    assert all((base / name).exists() for name in foreign)


class Meddles(Wrapped):
    """A place where a publisher does something right before a removal."""

    def __init__(self, store: Store, before: str, act: Callable[[], object]) -> None:
        super().__init__(store)
        self.before, self.acts = before, [act]

    def delete(self, path: str) -> None:
        if path.startswith(self.before) and self.acts:
            self.acts.pop()()
        super().delete(path)


def test_a_publisher_between_two_looks_is_seen(
    store: FolderStore, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fwsign.publish.garbage.BATCH", 1)
    releases = [scene.release(number) for number in (100, 101, 102, 103)]
    scene.publish(store, *releases, scene.channel(1, releases[0]))
    age_all(store)
    last = max(releases[1:], key=lambda one: one.path)
    act = lambda: scene.publish(store, scene.channel(2, last))  # noqa: E731
    found = removed(Meddles(store, "releases/", act), scene)
    assert last.path not in found
    assert not set(last.payloads) & found
    assert missing_of(store) == []


def test_a_publisher_in_the_last_moment_is_told(store: FolderStore, scene: Scene) -> None:
    one, two = scene.release(100), scene.release(101)
    scene.publish(store, one, two, scene.channel(1, one))
    age_all(store)
    act = lambda: scene.publish(store, scene.channel(2, two))  # noqa: E731
    # Between the look at the channels and the removal.
    with refused("io.release-missing", two.path):
        removed(Meddles(store, "releases/", act), scene)


def test_a_payload_lost_in_the_last_moment_is_told(store: FolderStore, scene: Scene) -> None:
    one = scene.release(100)
    gone = scene.release(101)
    scene.publish(store, one, gone, scene.channel(1, one))
    age_all(store)
    store.delete(gone.path)  # by an earlier collection that was stopped
    act = lambda: scene.publish(store, gone, scene.channel(2, gone))  # noqa: E731
    (path,) = gone.payloads
    with refused("state.conflict", path, "was removed", "while a channel was published"):
        removed(Meddles(store, "sha256/", act), scene)
    scene.publish(store, gone)
    assert missing_of(store) == []


AHEAD, BEHIND = 4070908800.0, 0.0  # 2099, 1970


@pytest.mark.parametrize("clock", [AHEAD, BEHIND])
def test_a_wrong_clock_removes_nothing_that_is_new(
    store: FolderStore, scene: Scene, clock: float
) -> None:
    old, named, lately = (scene.release(number) for number in (100, 101, 102))
    scene.publish(store, old, named, scene.channel(1, named))
    age_all(store)
    scene.publish(store, lately)  # its channel comes in a moment
    found = Collector(store, 7 * DAY, lambda: clock).run()
    gone = {one.path for one in found.removed}
    assert gone == (everything(old) if clock == AHEAD else set())
    assert found.ahead == pytest.approx(clock - scene.clock(), abs=60)
    scene.publish(store, scene.channel(2, named, lately))
    assert missing_of(store) == []
    assert not [*Path(store.place).glob(".*.clock")]


class Misdated(Wrapped):
    """A place whose clock is wrong; what was written before it went wrong has the right time."""

    def __init__(self, store: Store, time: float) -> None:
        super().__init__(store)
        self.time = time

    def now(self) -> float:
        return self.time


@pytest.mark.parametrize("clock", [AHEAD, BEHIND])
def test_a_place_whose_clock_is_wrong_loses_nothing_that_is_new(
    store: FolderStore, scene: Scene, clock: float
) -> None:
    named, lately = scene.release(101), scene.release(102)
    scene.publish(store, named, lately, scene.channel(1, named))
    assert removed(Misdated(store, clock), scene) == set()


def test_a_place_that_gives_no_times_loses_nothing(store: FolderStore, scene: Scene) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, new, scene.channel(1, new))
    for file in Path(store.place).rglob("*"):
        os.utime(file, (0, 0))  # as some mounts show all files
    assert removed(Misdated(store, 0.0), scene) == set()


@pytest.mark.parametrize("clock", [AHEAD, BEHIND, 60.0])
def test_an_envelope_is_written_anew_by_a_publisher_whose_clock_is_wrong(
    store: FolderStore, scene: Scene, clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a collection with the right clock would take it for old, and nobody names it yet."""
    given, named = scene.release(100), scene.release(101)
    scene.publish(store, given, named, scene.channel(1, named))
    age_all(store)
    with monkeypatch.context() as patched:
        patched.setattr("fwsign.publish.publishing.time", SimpleNamespace(time=lambda: clock))
        scene.publish(store, given)
    assert removed(store, scene) == set()


def test_a_place_that_keeps_no_probe_is_not_cleaned(
    store: FolderStore, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, new, scene.channel(1, new))
    age_all(store)
    monkeypatch.setattr("fwsign.publish.folder.write_atomic", lambda *_, **__: None)
    with refused("io.missing", f"{store.place} has no .", ".clock"):
        removed(store, scene)
    assert store.entry(old.path) is not None


def test_the_rest_of_a_killed_look_at_the_clock_goes(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    left = probe_path()
    (Path(store.place) / left).touch()
    assert removed(store, scene) == set()
    age_all(store)
    assert removed(store, scene) == {left}


def test_a_dry_run_removes_nothing(store: FolderStore, scene: Scene) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, new, scene.channel(1, new))
    age_all(store)
    found = Collector(store, 0, scene.clock, dry_run=True).run()
    assert {one.path for one in found.removed} == everything(old)
    assert found.kept == 2
    assert all(store.entry(path) for path in everything(old))
