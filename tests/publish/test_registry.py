"""A repository of a real docker-registry."""

import base64
import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bucket_kit import registry
from fwsign.publish.garbage import Collector
from fwsign.publish.places import open_store
from fwsign.publish.registry import Registry, _time_of, open_registry
from fwsign.publish.registry_client import RegistryAnswer
from publish.contract import Contract
from publish_kit import Scene, missing_of
from support import refused, require_package

COUNT = itertools.count()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("urllib3")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address.removeprefix("http://")


@pytest.fixture
def store(host: str) -> Registry:
    return open_registry(f"{host}/acme/x{next(COUNT)}", None)


def fetched(store: Registry, what: str) -> Any:
    host, _, name = store.place.removeprefix("oci://").partition("/")
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/{what}",
        headers={
            "Accept": "application/vnd.oci.image.manifest.v1+json,"
            "application/vnd.oci.image.index.v1+json"
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
        return json.loads(answer.read())


class TestRegistry(Contract):
    guarded = False
    lists_payloads = False

    @pytest.fixture
    def store(self, host: str) -> Registry:
        return open_registry(f"{host}/acme/x{next(COUNT)}", None)


def test_the_payloads_are_an_artifact_and_the_envelope_refers_to_it(
    store: Registry, scene: Scene
) -> None:
    given = scene.release(100, b"one" * 9, b"two" * 9)
    scene.publish(store, given, scene.channel(1, given))
    name = f"releases-{given.release.manifest_digest.hex()}"
    payloads, envelope = (
        fetched(store, f"manifests/{name}.payloads"),
        fetched(store, f"manifests/{name}.suit"),
    )
    assert payloads["artifactType"] == "application/vnd.fwsign.payloads.v1"
    assert {one["digest"].replace(":", "/") for one in payloads["layers"]} == set(given.payloads)
    encoded = json.dumps(payloads, sort_keys=True, separators=(",", ":")).encode()
    digest = f"sha256:{sha256(encoded).hexdigest()}"
    assert envelope["subject"]["digest"] == digest
    assert envelope["layers"][0]["mediaType"] == "application/suit-envelope+cose"
    assert envelope["layers"][0]["size"] == len(given.data)
    # This registry has no API for referrers, so that the fallback tag lists it.
    index = fetched(store, f"manifests/{digest.replace(':', '-')}")
    assert [one["artifactType"] for one in index["manifests"]] == [envelope["artifactType"]]
    newer = scene.newer(given)
    scene.publish(store, newer)
    again = fetched(store, f"manifests/{digest.replace(':', '-')}")
    assert len(again["manifests"]) == 1
    assert again != index
    assert store.read(given.path) == newer.data


def test_tags_have_the_time_of_the_registry(
    store: Registry, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a publisher whose clock is wrong would let a collection take his release for old."""
    lately, named = scene.release(100), scene.release(101)
    for wrong in (0.0, 4070908800.0):
        clock = SimpleNamespace(time=partial(float, wrong), sleep=time.sleep)
        monkeypatch.setattr("fwsign.publish.registry.time", clock)
        scene.publish(store, lately, named, scene.channel(1, named))
        entry = store.entry(lately.path)
        assert entry is not None
        assert entry.modified == pytest.approx(time.time(), abs=60)
        found = Collector(store, 86400, clock.time).run()
        assert found.removed == ()


def test_a_registry_that_tells_no_time_has_ours() -> None:
    for headers in ({}, {"Date": "yesterday"}, {"Date": "Sat, 28 Nov 99999 00:31:00 GMT"}):
        found = _time_of(RegistryAnswer(200, headers, b""))
        assert found == pytest.approx(time.time(), abs=60)
    answer = RegistryAnswer(200, {"Date": "Thu, 01 Jan 1970 00:00:09 GMT"}, b"")
    assert _time_of(answer) == 9


def test_the_registry_that_lost_a_blob_is_noticed(store: Registry, scene: Scene, host: str) -> None:
    given = scene.release(100)
    scene.publish(store, given)
    (path,) = given.payloads
    store.delete(path)
    assert store.entry(path) is None
    with refused("tampered.payload-size", path, "nothing is there"):
        scene.publish(store, scene.channel(1, given))
    scene.publish(store, given, scene.channel(1, given))
    assert missing_of(store) == []
    assert host


@pytest.mark.parametrize(
    "address",
    ["", "host", "host/", "host/Name", "host/x:tag", "ho st/x", "me@host/x", "h/../x"],
)
def test_what_names_no_repository_is_refused(address: str) -> None:
    with refused("io.place", f'"oci://{address}" names no repository'):
        open_store(f"oci://{address}")


def test_a_registry_that_is_not_there(scene: Scene) -> None:
    store = open_registry("127.0.0.1:1/x", None)
    with refused("io.place", "the registry 127.0.0.1:1: "):
        scene.publish(store, scene.release(100))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that wants a password."""
    import bcrypt

    place = tmp_path_factory.mktemp("closed")
    line = b"fleet:" + bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4, b"2a"))
    (place / "htpasswd").write_bytes(line + b"\n")
    more = {
        "REGISTRY_AUTH_HTPASSWD_REALM": "basic",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(place / "htpasswd"),
    }
    with registry(place, **more) as address:
        yield address.removeprefix("http://")


def test_a_login_from_a_file_with_a_line(closed: str, scene: Scene, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("fleet:open sesame\n")
    given = scene.release(100)
    store = open_store(f"oci://{closed}/x", login)
    scene.publish(store, given, scene.channel(1, given))
    assert missing_of(store) == []


@pytest.mark.parametrize("place", [".docker/config.json", "auth.json"])
def test_the_login_of_docker_and_podman(
    closed: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    auth = base64.b64encode(b"fleet:open sesame").decode()
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": {closed: {"auth": auth}}}))
    if place == "auth.json":
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    scene.publish(open_store(f"oci://{closed}/docker"), scene.release(100))


def test_a_credential_helper_is_asked(
    closed: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-safe"
    helper.write_text(
        f'#!/bin/sh\nread host; [ "$host" = {closed} ] || exit 1\n'
        """echo '{"Username": "fleet", "Secret": "open sesame"}'\n"""
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"credsStore": "safe"}')
    scene.publish(open_store(f"oci://{closed}/helped"), scene.release(100))


@pytest.mark.parametrize("login", ["fleet:wrong password", None])
def test_a_wrong_login_is_refused_and_not_shown(
    closed: str, scene: Scene, tmp_path: Path, login: str | None
) -> None:
    path = None
    if login is not None:
        path = tmp_path / "login"
        path.write_text(login)
    who = "no credentials" if login is None else "the credentials that we have"
    store = open_store(f"oci://{closed}/x", path)
    with refused("io.permission", f"the registry {closed} does not let us in with {who}") as caught:
        scene.publish(store, scene.release(100))
    error = caught.value
    assert "wrong password" not in f"{error!r} {error.message} {error.expected} {error.found}"
    assert "wrong password" not in repr(vars(store))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no line USER:PASSWORD"),
        ("fleet", "has no line USER:PASSWORD"),
        ("{", "is no configuration of docker that can be read"),
        ('{"auths": 7}', "is no configuration of docker that can be read"),
        (
            '{"auths": {"other.example": {"auth": "YTpi"}}}',
            "has no credentials for registry.example",
        ),
        ('{"credsStore": "../bad"}', "cannot be the name of a credential helper"),
    ],
)
def test_a_file_without_a_login_is_refused(tmp_path: Path, content: str, words: str) -> None:
    login = tmp_path / "login"
    login.write_text(content)
    with refused("io.format", words):
        open_store("oci://registry.example/x", login)
