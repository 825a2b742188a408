"""What every store must do; a file of tests for a store has a class that inherits these."""

from fwsign.publish.garbage import Collector
from fwsign.publish.layout import RELEASES
from fwsign.publish.store import Store
from publish_kit import Scene, missing_of
from support import refused

BIG = 9 * 1024 * 1024 + 17
"""Bytes of a payload that goes up in parts."""


class Basics:
    """The least. A subclass has the fixture `store`: an empty place."""

    guarded: bool | None = True
    """Whether the store has conditional writes."""
    lists_payloads = True
    """Whether payloads can be listed and removed one by one."""

    def test_publish_is_seen_by_followers_and_idempotent(self, store: Store, scene: Scene) -> None:
        first, second = scene.release(100), scene.release(101, b"one" * 9, b"two" * 9)
        done = scene.publish(store, first, second, scene.channel(1, first, second))
        assert set(done.outcomes.values()) == {"written"}
        assert missing_of(store) == []
        again = scene.publish(store, first, second, scene.channel(1, first, second))
        assert set(again.outcomes.values()) <= {"there", "written"}
        channel = scene.channel(2, second)
        done = scene.publish(store, channel)
        assert done.guarded is self.guarded
        assert store.read("stable.channel") == channel.data
        assert scene.publish(store, channel).outcomes == {"stable.channel": "there"}

    def test_another_channel_is_not_replaced(self, store: Store, scene: Scene) -> None:
        given = scene.release(100)
        one, two, three = (scene.channel(number, given) for number in (1, 2, 3))
        scene.publish(store, given, one)
        scene.publish(store, two)
        with refused("state.conflict", "stable.channel", "another publisher is at work"):
            store.replace("stable.channel", three.data, one.data)
        with refused("state.conflict"):
            store.replace("stable.channel", three.data, None)
        assert store.read("stable.channel") == two.data

    def test_what_is_not_there_is_missing(self, store: Store) -> None:
        assert store.entry("stable.channel") is None
        assert store.entry("sha256/" + 64 * "0") is None
        with refused("io.missing", f"{store.place} has no stable.channel"):
            store.read("stable.channel")
        with refused("io.missing"):
            store.read("sha256/" + 64 * "0", 0, 16)
        store.delete("releases/" + 64 * "0" + ".suit")

    def test_garbage_is_collected(self, store: Store, scene: Scene) -> None:
        old, new = scene.release(100), scene.release(101)
        scene.publish(store, old, new, scene.channel(1, new))
        found = Collector(store, 3600, scene.clock).run()
        assert found.removed == ()
        found = Collector(store, 0, scene.clock, dry_run=True).run()
        assert store.entry(old.path) is not None
        found = Collector(store, 0, scene.clock).run()
        wanted = [old.path, *(old.payloads if self.lists_payloads else ())]
        assert [one.path for one in found.removed] == wanted
        assert store.entry(old.path) is None
        assert missing_of(store) == []
        assert [one.path for one in store.names(RELEASES)] == [new.path]


class Contract(Basics):
    """All of it."""

    def test_parts_of_a_payload_are_read(self, store: Store, scene: Scene) -> None:
        payload = bytes(range(256)) * (BIG // 256) + b"x" * (BIG % 256)
        given = scene.release(100, payload)
        scene.publish(store, given, check=True)
        (path,) = given.payloads
        entry = store.entry(path)
        assert entry is not None
        assert entry.size == BIG
        assert store.read(path, 300, 16) == payload[300:316]
        assert store.read(path, BIG - 3, 16) == payload[-3:]
        assert store.read(path, BIG, 16) == b""

    def test_a_lower_number_is_refused(self, store: Store, scene: Scene) -> None:
        given = scene.release(100)
        scene.publish(store, given, scene.channel(5, given))
        before = store.read("stable.channel")
        with refused("unsuitable.rollback", f"stable.channel in {store.place} has number 5"):
            scene.publish(store, scene.channel(4, given))
        with refused("unsuitable.conflict", "number 5"):
            scene.publish(store, scene.channel(5, given, hold="another content"))
        assert store.read("stable.channel") == before

    def test_a_truncated_blob_is_never_there(self, store: Store, scene: Scene) -> None:
        # The file changes after it was verified, while it goes up.
        for size in (800, BIG):
            given = scene.release(100, b"x" * size)
            (path,) = given.payloads
            given.payloads[path].file.write_bytes(b"x" * (size - 1))
            with refused("tampered.payload-size", f"{size - 1} bytes, the signed size is {size}"):
                scene.publish(store, given)
            assert store.entry(path) is None
            assert store.entry(given.path) is None

    def test_a_swapped_blob_is_never_there(self, store: Store, scene: Scene) -> None:
        given = scene.release(100, b"x" * BIG)
        (path,) = given.payloads
        given.payloads[path].file.write_bytes(b"x" * (BIG - 1) + b"y")
        with refused("tampered.payload-digest", "the signed one is"):
            scene.publish(store, given)
        assert store.entry(path) is None
