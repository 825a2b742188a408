"""Buckets of real servers: SeaweedFS, moto, and localbucket, which ignores If-Match."""

import io
import itertools
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bucket_kit import (
    AZURE_KEYS,
    GOOGLE_KEYS,
    KEYS,
    SWIFT_KEYS,
    azurite,
    google,
    localbucket,
    make_bucket,
    make_container,
    moto,
    seaweedfs,
    swift,
)
from fwsign.publish.bucket import Bucket, _is_lacking, open_bucket
from fwsign.publish.places import open_store
from fwsign.publish.store import missing
from publish.contract import BIG, Basics, Contract
from publish_kit import Scene, missing_of
from support import refused, require_package

COUNT = itertools.count()


@pytest.fixture(autouse=True)
def _library() -> None:
    require_package("obstore")


def served(
    server: Callable[[Path], AbstractContextManager[str]], factory: pytest.TempPathFactory
) -> Iterator[str]:
    with server(factory.mktemp("server")) as address:
        make_bucket(address, "updates", SWIFT_KEYS if server is swift else KEYS)
        yield address


def opened(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str = "s3"
) -> Bucket:
    """Open an empty prefix of the bucket."""
    monkeypatch.setenv("HOME", str(tmp_path))
    keys, endpoint = {
        "s3": (KEYS, "AWS_ENDPOINT_URL"),
        "gs": (GOOGLE_KEYS, "GOOGLE_BASE_URL"),
        "az": (AZURE_KEYS, "AZURE_STORAGE_ENDPOINT"),
    }[scheme]
    for name, value in {**keys, endpoint: address}.items():
        monkeypatch.setenv(name, value)
    return open_bucket(f"{scheme}://updates/test-{next(COUNT)}/x1")


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(seaweedfs, tmp_path_factory)


@pytest.fixture(scope="module")
def moto_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(moto, tmp_path_factory)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(localbucket, tmp_path_factory)


@pytest.fixture(scope="module")
def google_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(google, tmp_path_factory)


@pytest.fixture(scope="module")
def azure_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite(tmp_path_factory.mktemp("azurite")) as address:
        make_container(address, "updates")
        yield address


class TestMemory(Contract):
    """The same without a server, for machines that have none."""

    @pytest.fixture
    def store(self) -> Bucket:
        from obstore.store import MemoryStore

        return Bucket(MemoryStore(), "memory")


class TestSeaweedFs(Contract):
    @pytest.fixture
    def store(self, seaweed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(seaweed, monkeypatch, tmp_path)


class TestMoto(Contract):
    @pytest.fixture
    def store(self, moto_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(moto_address, monkeypatch, tmp_path)


class TestAzurite(Contract):
    @pytest.fixture
    def store(self, azure_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(azure_address, monkeypatch, tmp_path, "az")


class TestGoogle(Contract):
    @pytest.fixture
    def store(self, google_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(google_address, monkeypatch, tmp_path, "gs")


class TestGoogleWithoutConditions(Basics):
    """What speaks Google's XML API, and takes its conditions for unknown headers."""

    guarded = False

    @pytest.fixture
    def store(self, moto_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(moto_address, monkeypatch, tmp_path, "gs")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(swift, tmp_path_factory)


class TestSwift(Basics):
    guarded = False

    @pytest.fixture
    def store(self, unconditional: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        for name, value in SWIFT_KEYS.items():
            monkeypatch.setitem(KEYS, name, value)
        return opened(unconditional, monkeypatch, tmp_path)


class TestLocalbucket(Contract):
    guarded = False

    @pytest.fixture
    def store(self, careless: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(careless, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "place", ["s3://", "s3://b?region=x", "s3://key:secret@b", "s3://b#x", "gs:///x"]
)
def test_what_names_no_bucket_is_refused(place: str) -> None:
    with refused("io.place", f'"{place}" names no bucket'):
        open_store(place)


def test_a_bucket_without_tls_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example")
    with refused("io.place", "AWS_ENDPOINT_URL is http://storage.example, which is not https"):
        open_store("s3://b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1.storage.example")
    with refused("io.place", "which is not https"):
        open_store("s3://b")


def test_a_bucket_on_this_machine_lets_no_other_address_do_without_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of several settings the library takes the one that it prefers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "x")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "Zm9v")
    for name in ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        monkeypatch.setenv(name, "http://storage.example/x")
        with refused("io.place", f"{name} is http://storage.example/x, which is not https"):
            open_store("az://b/x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_BASE_URL", "HTTP://127.0.0.1@storage.example")
    with refused("io.place", "GOOGLE_BASE_URL is HTTP://127.0.0.1@storage.example, which is not"):
        open_store("gs://b/x")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", "http://storage.example")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    words = "AZURITE_BLOB_STORAGE_URL is http://storage.example, which is not https"
    with refused("io.place", words):
        open_store("az://b/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://storage.example")
    with refused("io.place", "AWS_ENDPOINT_URL_S3 is http://storage.example, which is not https"):
        open_store("s3://b")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_gets_what_goes_to_this_machine_without_tls(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for one in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(one, raising=False)
        monkeypatch.delenv(one.upper(), raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv(name, "http://proxy.example:3128")
    words = "is http://127.0.0.1:9000, which the proxy of the environment would get without TLS"
    with refused("io.place", words) as caught:
        open_store("s3://b")
    assert caught.value.hint == "NO_PROXY=127.0.0.1 keeps the proxy out of it"
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")  # it has an address of its own
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "x")
    with refused("io.place", "AZURITE_BLOB_STORAGE_URL is http://127.0.0.1:10000, which the proxy"):
        open_store("az://b")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert open_store("s3://b").place == "s3://b"
    assert open_store("az://b").place == "az://b"


def test_a_bucket_that_is_not_there(
    seaweed: str,
    moto_address: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scene: Scene,
) -> None:
    opened(seaweed, monkeypatch, tmp_path)
    store, small, big = open_store("s3://nobody/x1"), scene.release(1), scene.release(2, b"x" * BIG)
    with refused("io.permission", "s3://nobody/x1 does not let us write sha256/", "AccessDenied"):
        scene.publish(store, small)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_address)
    store = open_store("s3://nobody/x1")
    for given in (small, big):
        with refused("io.place", "cannot write sha256/", "in s3://nobody/x1", "NoSuchBucket"):
            scene.publish(store, given)
    with refused("io.place", "cannot write stable.channel in s3://nobody/x1", "NoSuchBucket"):
        store.replace("stable.channel", b"x", None)


def test_headers_let_caches_keep_what_never_changes(
    seaweed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scene: Scene
) -> None:
    store, given = opened(seaweed, monkeypatch, tmp_path), scene.release(100, b"x" * BIG)
    scene.publish(store, given, scene.channel(1, given))
    base = f"{seaweed}/updates/{store.place.removeprefix('s3://updates/')}"
    (payload,) = given.payloads
    for path, expected in (
        (payload, "public, max-age=31536000, immutable"),
        (given.path, "no-cache"),
        ("stable.channel", "no-cache"),
    ):
        with urllib.request.urlopen(f"{base}/{path}", timeout=10) as answer:  # noqa: S310 - ours
            assert answer.headers["Cache-Control"] == expected


SERVER_NAMES = (
    ("seaweed", "s3"),
    ("moto_address", "s3"),
    ("careless", "s3"),
    ("azure_address", "az"),
    ("google_address", "gs"),
)
SERVERS = pytest.mark.parametrize(("server", "scheme"), SERVER_NAMES)


@SERVERS
def test_a_publisher_between_reading_and_writing(
    server: str,
    scheme: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    store = opened(request.getfixturevalue(server), monkeypatch, tmp_path, scheme)
    store.replace("stable.channel", b"one", None)
    read = store._read
    stale = read("stable.channel")
    store.replace("stable.channel", b"theirs", b"one")
    monkeypatch.setattr(store, "_read", lambda _: stale)
    if server == "careless":  # it takes any If-Match, and is found out by that
        assert store.replace("stable.channel", b"ours", b"one") is False
        assert read("stable.channel")[0] == b"ours"
    else:
        with refused("state.conflict", "another publisher is at work"):
            store.replace("stable.channel", b"ours", b"one")
        assert read("stable.channel")[0] == b"theirs"


@SERVERS
def test_two_first_publishers(
    server: str,
    scheme: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    store = opened(request.getfixturevalue(server), monkeypatch, tmp_path, scheme)

    def nothing(path: str) -> tuple[bytes, object]:
        raise missing(store.place, path)

    store.replace("stable.channel", b"theirs", None)
    monkeypatch.setattr(store, "_read", nothing)
    if server == "careless":
        assert store.replace("stable.channel", b"ours", None) is False
    else:
        with refused("state.conflict"):
            store.replace("stable.channel", b"ours", None)


@pytest.fixture(params=SERVER_NAMES, ids=lambda one: one[0])
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Bucket:
    """Return an empty prefix on each server."""
    server, scheme = request.param
    return opened(request.getfixturevalue(server), monkeypatch, tmp_path, scheme)


def test_a_blob_that_is_not_what_its_name_says_is_found(store: Bucket, scene: Scene) -> None:
    given = scene.release(100)
    (path,) = given.payloads
    size = given.payloads[path].component.size
    for wrong, check in ((b"x" * (size - 1), False), (b"x" * size, True)):
        store.delete(path)
        assert store.put_absent(path, io.BytesIO(wrong), len(wrong))
        done = scene.publish(store, given, scene.channel(1, given), check=check)
        assert done.outcomes[path] == "repaired"
        assert missing_of(store) == []


def test_nothing_is_sent_again(
    store: Bucket, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    given = scene.release(100)
    channel = scene.channel(1, given)
    scene.publish(store, given, channel)
    monkeypatch.setattr("fwsign.publish.bucket.obstore.put", None)
    again = scene.publish(store, given, channel)
    assert set(again.outcomes.values()) == {"there"}
    assert again.guarded is None


def test_only_the_status_says_what_a_store_lacks() -> None:
    from obstore.exceptions import GenericError

    # Paths are digests, which may have any number in them.
    told = (
        "Error performing PUT http://s/b/sha256/a501bf in 1ms - Server returned non-2xx status code"
    )
    assert not _is_lacking(GenericError(f"{told}: 503 Service Unavailable: <Code>501</Code>"))
    assert _is_lacking(GenericError(f"{told}: 501 Not Implemented: "))
    assert _is_lacking(NotImplementedError())
