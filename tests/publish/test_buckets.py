"""Buckets of real servers: SeaweedFS, moto, and localbucket, which ignores If-Match."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bucket_kit import KEYS, localbucket, make_bucket, moto, seaweedfs
from fwsign.publish.bucket import Bucket, open_bucket
from publish.contract import Contract
from support import require_package

COUNT = itertools.count()


@pytest.fixture(autouse=True)
def _library() -> None:
    require_package("obstore")


def served(
    server: Callable[[Path], AbstractContextManager[str]], factory: pytest.TempPathFactory
) -> Iterator[str]:
    with server(factory.mktemp("server")) as address:
        make_bucket(address, "updates")
        yield address


def opened(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """Open an empty prefix of the bucket."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    return open_bucket(f"s3://updates/test-{next(COUNT)}/x1")


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(seaweedfs, tmp_path_factory)


@pytest.fixture(scope="module")
def moto_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(moto, tmp_path_factory)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(localbucket, tmp_path_factory)


class TestSeaweedFs(Contract):
    @pytest.fixture
    def store(self, seaweed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(seaweed, monkeypatch, tmp_path)


class TestMoto(Contract):
    @pytest.fixture
    def store(self, moto_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(moto_address, monkeypatch, tmp_path)


class TestLocalbucket(Contract):
    guarded = False

    @pytest.fixture
    def store(self, careless: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
        return opened(careless, monkeypatch, tmp_path)
