"""What is published, in which order, and what a bad store or another publisher can do to it."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import channel_kit
from fwsign.errors import Failed
from fwsign.format.cose import encode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.opening import decode_blocks
from fwsign.publish import publishing
from fwsign.publish.content import open_channel
from fwsign.publish.folder import FolderStore
from fwsign.publish.layout import release_path
from fwsign.publish.store import Source, Store
from publish_kit import Scene, Wrapped, missing_of
from support import NOW, PRODUCT, make_crl, make_envelope, make_leaf, refused


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "served")


@pytest.fixture(autouse=True)
def _told(scene: Scene) -> None:
    scene.told.clear()


class Stops(Wrapped):
    """A store whose publisher is killed before the write of a number."""

    def __init__(self, store: Store, left: int) -> None:
        super().__init__(store)
        self.left = left

    def _count(self) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        self._count()
        return super().put_absent(path, source, size)

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        self._count()
        return super().replace(path, data, seen, names)


def test_a_crash_between_any_two_writes_leaves_what_followers_can_use(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "AT_ONCE", 1)
    old = scene.release(100)
    new = [scene.release(101, b"one" * 9, b"two" * 9), scene.release(102)]
    first, second = scene.channel(1, old), scene.channel(2, *new)
    for writes in range(7):
        store = FolderStore(tmp_path / str(writes))
        scene.publish(store, old, first)
        if writes < 6:  # three payloads, two envelopes, the channel
            with pytest.raises(KeyboardInterrupt):
                scene.publish(Stops(store, writes), *new, second)
            assert store.read("stable.channel") == first.data
        else:
            scene.publish(Stops(store, writes), *new, second)
        assert missing_of(store) == []
        scene.publish(store, *new, second)
        assert store.read("stable.channel") == second.data
        assert missing_of(store) == []


class Loses(Wrapped):
    """A bucket that says yes, and drops what has a suffix."""

    def __init__(self, store: Store, suffix: str) -> None:
        super().__init__(store)
        self.suffix = suffix

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        if self.suffix == "payload":
            while source.read(1 << 20):
                pass
            return True
        return super().put_absent(path, source, size)

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        return path.endswith(self.suffix) or super().replace(path, data, seen, names)


@pytest.mark.parametrize("what", ["payload", ".suit", ".channel"])
def test_a_bucket_that_loses_writes_is_noticed(store: FolderStore, scene: Scene, what: str) -> None:
    old, new = scene.release(100), scene.release(101)
    scene.publish(store, old, scene.channel(1, old))
    before = store.read("stable.channel")
    # A channel over an older one: what is there is whole, and not what was written.
    why = "what was there before is there" if what == ".channel" else "nothing is there"
    with refused("io.write-lost", f"{store.place} said that", "is written, but it is not", why):
        scene.publish(Loses(store, what), new, scene.channel(2, new))
    assert store.read("stable.channel") == before
    assert missing_of(store) == []


def test_a_bucket_that_cuts_writes_is_noticed(store: FolderStore, scene: Scene) -> None:
    class Cuts(Wrapped):
        def put_absent(self, path: str, source: Source, size: int) -> bool:
            super().put_absent(path, source, size)
            file = Path(self.place) / path
            file.write_bytes(file.read_bytes()[:-1])
            return True

    given = scene.release(100, b"x" * 100)
    with refused("io.write-lost", "99 bytes are there, 100 are right"):
        scene.publish(Cuts(store), given)


def test_a_truncated_blob_is_replaced_and_told(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100, b"x" * 100)
    scene.publish(store, given)
    (path,) = given.payloads
    (Path(store.place) / path).write_bytes(b"x" * 99)
    assert scene.publish(store, given).outcomes[path] == "repaired"
    assert scene.told == [f"{path} was not what its name says, and was replaced"]
    assert store.read(path) == b"x" * 100


def test_a_swapped_blob_is_replaced_where_it_is_asked_for(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100, b"x" * 100)
    scene.publish(store, given)
    (path,) = given.payloads
    (Path(store.place) / path).write_bytes(b"y" * 100)
    assert scene.publish(store, given).outcomes[path] == "there"  # devices would refuse it
    assert scene.publish(store, given, check=True).outcomes[path] == "repaired"
    assert store.read(path) == b"x" * 100


def test_a_channel_that_names_nothing_is_refused(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    digest = given.release.manifest_digest.hex()
    with refused("io.release-missing", digest, f"neither given nor in {store.place}"):
        scene.publish(store, scene.channel(1, given))
    assert not Path(store.place).exists()


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_channel_over_a_release_that_is_not_whole_is_refused(
    store: FolderStore, scene: Scene, harm: str
) -> None:
    given = scene.release(100, b"x" * 100)
    scene.publish(store, given)
    (path,) = given.payloads
    if harm == "cut":
        (Path(store.place) / path).write_bytes(b"x" * 9)
    else:
        store.delete(path)
    why = "9 bytes are there, 100 are right" if harm == "cut" else "nothing is there"
    with refused("tampered.payload-size", path, f"is not whole in {store.place}: {why}"):
        scene.publish(store, scene.channel(1, given))
    assert store.entry("stable.channel") is None
    scene.publish(store, given, scene.channel(1, given))
    assert missing_of(store) == []


def test_a_channel_over_a_swapped_release_is_refused(store: FolderStore, scene: Scene) -> None:
    given, other = scene.release(100), scene.release(101)
    scene.publish(store, given)
    (Path(store.place) / given.path).write_bytes(other.data)
    with refused("tampered.manifest", given.path, "is another release"):
        scene.publish(store, scene.channel(1, given))
    (Path(store.place) / given.path).write_bytes(given.data[:-1])
    with refused("malformed.cbor"):
        scene.publish(store, scene.channel(1, given))


def test_a_channel_over_a_revoked_release_is_refused(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given)
    crls = [make_crl(scene.pki.issuing, [scene.pki.leaf], number=2), make_crl(scene.pki.root)]
    judge = scene.verifier._policy._replace(crls=tuple(crls))
    now = type(scene.verifier)([scene.pki.root.anchor], judge)
    publisher = scene.publisher(store, [], [scene.channel(1, given)])
    plan = publisher._plan
    plan._options = plan._options._replace(judge=lambda data: now.verify(data, at=NOW))
    with refused("untrusted.revoked"):
        publisher.run()


def test_a_channel_that_lies_about_releases_is_refused(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    channel = scene.channel(1, given, sequence=99)
    with refused("malformed.channel", "says sequence number 99 of a release with 100"):
        scene.publish(store, given, channel)
    other = scene.release(100, product="thermostat")
    with refused("unsuitable.product", "which is a release of another product"):
        scene.publish(store, other, scene.channel(1, other))
    assert not Path(store.place).exists()


def test_an_unreadable_channel_is_not_replaced(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    for junk in (b"", b"junk", given.data, scene.channel(1, given, name="beta").data):
        Path(store.place).mkdir(exist_ok=True)
        (Path(store.place) / "stable.channel").write_bytes(junk)
        with refused("state.published", "stable.channel", "cannot be read as a channel") as caught:
            scene.publish(store, given, scene.channel(1, given))
        assert caught.value.hint == "find out who wrote it, then remove it by hand"
        assert store.read("stable.channel") == junk
        assert not (Path(store.place) / "sha256").exists()


def test_a_channel_of_another_product_is_not_replaced(store: FolderStore, scene: Scene) -> None:
    """Two products in one place need channels of two names."""
    given, other = scene.release(100), scene.release(101, product="thermostat")
    first = scene.channel(1, given)
    scene.publish(store, given, first)
    publisher = scene.publisher(store, [other], [scene.channel(2, other, product="thermostat")])
    with refused(
        "unsuitable.product",
        f"stable.channel in {store.place} is for acme.example {PRODUCT}, not acme.example thermo",
    ) as caught:
        publisher.run()
    assert caught.value.hint == "give this channel another name, or publish it to another place"
    assert store.read("stable.channel") == first.data
    assert store.entry(other.path) is None
    scene.publish(store, other, scene.channel(2, other, product="thermostat", name="thermostat"))
    assert missing_of(store) == missing_of(store, "thermostat") == []


def test_a_channel_that_leaps_too_far_is_refused(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    with refused("unsuitable.fast-forward", "stable.channel", "has number 1"):
        scene.publish(store, scene.channel(2**33, given, sign=channel_kit.forged))


def test_an_envelope_with_newer_crls_stays(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    newer = scene.newer(given)
    assert scene.publish(store, given).outcomes[given.path] == "written"
    assert scene.publish(store, newer).outcomes[given.path] == "written"
    assert store.read(given.path) == newer.data
    assert scene.publish(store, given).outcomes[given.path] == "newer there"
    assert scene.told == [f"{given.path} has newer CRLs than the one given, and stays"]
    assert store.read(given.path) == newer.data


def test_a_channel_with_newer_crls_stays(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    channel = scene.channel(1, given)
    newer = open_channel(scene.stapled(channel.data), "stable.channel")
    scene.publish(store, given, channel)
    assert scene.publish(store, newer).outcomes == {"stable.channel": "written"}
    assert store.read("stable.channel") == newer.data
    assert scene.publisher(store, [], [channel])._plan.make() == {"stable.channel": "newer there"}
    assert scene.publish(store, channel).outcomes == {"stable.channel": "newer there"}
    assert scene.told == ["stable.channel has newer CRLs than the one given, and stays"]
    assert store.read("stable.channel") == newer.data


@pytest.mark.parametrize("forged", [False, True], ids=["unreadable", "forged"])
def test_crls_that_nobody_takes_do_not_keep_what_is_there(
    store: FolderStore, scene: Scene, forged: bool
) -> None:
    """Whoever holds the place can put any CRL on a channel or an envelope."""
    given = scene.release(100)
    channel = scene.channel(1, given)
    scene.publish(store, given, channel)
    other = scene.pki.issuing._replace(key=scene.pki.leaf.key)
    crl = make_crl(other, number=9, days=(0, 40)) if forged else b"no CRL"
    for data, path in ((channel.data, "stable.channel"), (given.data, given.path)):
        envelope = decode_envelope(data)
        (block,) = decode_blocks(envelope.blocks)
        spoilt = encode_block(block._replace(crls=(*block.crls, crl)))
        (Path(store.place) / path).write_bytes(encode_envelope(envelope._replace(blocks=(spoilt,))))
    outcomes = scene.publish(store, given, channel).outcomes
    assert outcomes["stable.channel"] == "written"
    assert outcomes[given.path] == ("written" if forged else "repaired")
    assert store.read("stable.channel") == channel.data
    assert store.read(given.path) == given.data


def test_newer_crls_do_not_keep_an_envelope_that_was_stripped(
    store: FolderStore, scene: Scene
) -> None:
    given = scene.release(100)
    other = make_leaf(scene.pki.issuing, "second")
    signers = [(leaf, [scene.pki.issuing], scene.pki.crls) for leaf in (scene.pki.leaf, other)]
    two = make_envelope(given.release.manifest, signers)
    both = given._replace(data=two, release=scene.judge(two))
    scene.publish(store, scene.newer(given))
    assert scene.publish(store, both).outcomes[given.path] == "written"
    assert store.read(given.path) == two


def test_an_envelope_that_is_not_one_is_replaced(store: FolderStore, scene: Scene) -> None:
    given, other = scene.release(100), scene.release(101)
    for junk in (b"junk", other.data):
        scene.publish(store, given)
        (Path(store.place) / given.path).write_bytes(junk)
        assert scene.publish(store, given).outcomes[given.path] == "repaired"
        assert store.read(given.path) == given.data


class Meddles(Wrapped):
    """A store where something happens right after a path was written."""

    def __init__(self, store: Store, after: str, act: Callable[[], object]) -> None:
        super().__init__(store)
        self.after, self.act = after, act

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        done = super().replace(path, data, seen, names)
        if path.endswith(self.after):
            self.act()
        return done


@pytest.mark.parametrize("after", [".suit", ".channel"])
def test_a_payload_that_garbage_collection_took_comes_back(
    store: FolderStore, scene: Scene, after: str
) -> None:
    given = scene.release(100)
    scene.publish(store, given)
    (path,) = given.payloads
    newer = scene.newer(given)
    meddled = Meddles(store, after, lambda: store.delete(path))
    assert scene.publish(meddled, newer, scene.channel(1, newer)).outcomes[path] == "written"
    assert missing_of(store) == []


def test_an_envelope_that_a_collection_took_comes_back(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    meddled = Meddles(store, ".channel", lambda: store.delete(given.path))
    scene.publish(meddled, given, scene.channel(1, given))
    assert missing_of(store) == []


def test_what_was_there_and_goes_meanwhile_is_told(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given)
    (path,) = given.payloads
    meddled = Meddles(store, ".channel", lambda: store.delete(path))
    with refused("tampered.payload-size", path, "nothing is there"):
        scene.publish(meddled, scene.channel(1, given))


def test_another_publisher_meanwhile_is_not_overwritten(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    theirs, ours = scene.channel(3, given), scene.channel(2, given, hold="ours")

    class Races(Wrapped):
        def replace(
            self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
        ) -> bool:
            scene.publish(self.store, theirs)
            return super().replace(path, data, seen, names)

    with refused("state.conflict", "another publisher is at work"):
        scene.publish(Races(store), ours)
    assert store.read("stable.channel") == theirs.data


def test_a_write_whose_answer_was_lost_meets_itself(store: FolderStore, scene: Scene) -> None:
    class Again(Wrapped):
        def replace(
            self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
        ) -> bool:
            super().replace(path, data, seen, names)
            return super().replace(path, data, seen, names)

    given = scene.release(100)
    scene.publish(Again(store), given, scene.channel(1, given))
    assert missing_of(store) == []


def test_one_failure_of_many_payloads_stops_the_rest(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100, *(bytes([index]) * 50 for index in range(30)))

    class Fails(Wrapped):
        count = 0

        def put_absent(self, path: str, source: Source, size: int) -> bool:  # noqa: ARG002
            type(self).count += 1
            raise Failed("io.full", f"no space left on device for {size} bytes of {path}")

    with refused("io.full", "no space left on device for 50 bytes of sha256/"):
        scene.publish(Fails(store), given)
    assert Fails.count < 30
    assert store.entry(given.path) is None


def test_one_failure_ends_the_writes_that_are_under_way(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100, b"bad", b"x" * (8 << 20))
    begun, failed = threading.Event(), threading.Event()

    class Waits(Wrapped):
        def put_absent(self, path: str, source: Source, size: int) -> bool:
            if size == 3:
                begun.wait(10)
                failed.set()
                raise Failed("io.full", f"no space left on device for {path}")
            source.read(1)
            begun.set()
            failed.wait(10)
            time.sleep(0.2)
            return super().put_absent(path, source, size)

    with refused("io.full", "no space left on device"):
        scene.publish(Waits(store), given)
    assert [one for one in Path(store.place).rglob("*") if one.is_file()] == []


def test_a_plan_writes_nothing(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    channel = scene.channel(1, given)
    publisher = scene.publisher(store, [given], [channel])
    (path,) = given.payloads
    assert publisher._plan.make() == {
        path: "written",
        given.path: "written",
        "stable.channel": "written",
    }
    assert not Path(store.place).exists()
    scene.publish(store, given, channel)
    (Path(store.place) / path).write_bytes(b"")
    assert publisher._plan.make() == {
        path: "repaired",
        given.path: "there",
        "stable.channel": "there",
    }


def test_payloads_inside_the_envelope_stay_inside(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100, inside=True)
    assert list(scene.publish(store, given).outcomes) == [given.path]
    assert given.path == release_path(given.release.manifest_digest)


def test_an_old_envelope_is_written_again_and_so_is_new(store: FolderStore, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given)
    os.utime(Path(store.place) / given.path, (1, 1))
    assert scene.publish(store, given).outcomes[given.path] == "there"
    entry = store.entry(given.path)
    assert entry is not None
    assert entry.modified > 1_000_000_000
