"""Registries that lie, break off, or want credentials for somebody else."""

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fwsign.publish import registry_upload
from fwsign.publish.registry import Registry, open_registry
from fwsign.publish.registry_auth import Credentials, is_token_server
from fwsign.publish.registry_client import is_loopback
from publish_kit import Scene, missing_of
from support import refused


class Fake(ThreadingHTTPServer):
    """A registry in memory. `before` may answer a request in another way, and returns True then."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.before: Callable[[Handler], bool] = lambda _: False
        self.referrers = False
        self.page = 1000

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one(self) -> None:
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if not self.server.before(self):
            self.usual()

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_one  # noqa: N815

    def usual(self) -> None:
        path = urlsplit(self.path).path
        what = path.removeprefix("/v2/x/")
        if what.startswith("blobs/uploads/"):
            self.upload(what)
        elif what.startswith("blobs/"):
            self.blob(what.removeprefix("blobs/"))
        elif what == "tags/list":
            self.list_tags()
        else:
            self.manifest(what.removeprefix("manifests/"))

    def upload(self, what: str) -> None:
        held = self.server.uploads
        if self.command == "POST":
            held[str(len(held))] = bytearray()
            self.answer(202, Location=f"/v2/x/blobs/uploads/{len(held) - 1}?state=a")
            return
        one = held[what.removeprefix("blobs/uploads/")]
        if self.command == "GET":
            self.answer(204, Range=f"0-{max(len(one) - 1, 0)}")
            return
        one += self.body()
        if self.command == "PATCH":
            self.answer(202, Location=self.path)
            return
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(one).hexdigest()}":
            self.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "other"}]}')
            return
        self.server.blobs[digest] = bytes(one)
        self.answer(201)

    def blob(self, digest: str) -> None:
        data = self.server.blobs.get(digest)
        if data is None:
            self.answer(404)
        elif self.command == "HEAD":
            self.answer(200, Content_Length=str(len(data)))
        elif match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            self.answer(206, data[int(match[1]) : int(match[2]) + 1])
        else:
            self.answer(200, data)

    def manifest(self, reference: str) -> None:
        tags = self.server.tags
        if self.command == "PUT":
            tags[reference] = self.body()
            with_subject = self.server.referrers and b'"subject"' in tags[reference]
            headers = {"OCI_Subject": "sha256:x"} if with_subject else {}
            self.answer(201, b"", **headers)
        elif self.command == "DELETE":
            gone = [
                tag
                for tag, data in tags.items()
                if f"sha256:{hashlib.sha256(data).hexdigest()}" == reference
            ]
            for tag in gone:
                del tags[tag]
            self.answer(202 if gone else 404)
        elif reference in tags:
            self.answer(200, tags[reference])
        else:
            self.answer(404)

    def list_tags(self) -> None:
        last = parse_qs(urlsplit(self.path).query).get("last", [""])[0]
        names = sorted(tag for tag in self.server.tags if tag > last)
        page, rest = names[: self.server.page], names[self.server.page :]
        more = {"Link": f'</v2/x/tags/list?n=1&last={page[-1]}>; rel="next"'} if rest else {}
        self.answer(200, json.dumps({"tags": page}).encode(), **more)


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(registry_upload, "PAUSES", (0.0, 0.0))
    return open_registry(f"{fake.host}/x", None)


def logged_in(fake: Fake, tmp_path: Path, token_hosts: tuple[str, ...] = ()) -> Registry:
    login = tmp_path / "login"
    login.write_text("fleet:open sesame")
    return open_registry(f"{fake.host}/x", login, token_hosts)


def test_a_registry_with_referrers_needs_no_fallback_tag(
    fake: Fake, store: Registry, scene: Scene
) -> None:
    fake.referrers = True
    scene.publish(store, scene.release(100))
    assert not [tag for tag in fake.tags if tag.startswith("sha256-")]
    assert len(fake.tags) == 2
    fake.referrers = False
    scene.publish(store, scene.release(101))
    assert len([tag for tag in fake.tags if tag.startswith("sha256-")]) == 1


def test_tags_are_listed_page_by_page(fake: Fake, store: Registry, scene: Scene) -> None:
    fake.page = 1
    releases = [scene.release(number) for number in (100, 101, 102)]
    scene.publish(store, *releases, scene.channel(1, *releases))
    assert sorted(one.path for one in store.names("releases/")) == sorted(
        one.path for one in releases
    )
    assert [one.path for one in store.names("")] == ["stable.channel"]


@pytest.mark.parametrize("kept", [0, 1000, 5 << 20])
def test_an_upload_goes_on_where_it_broke_off(
    fake: Fake, store: Registry, scene: Scene, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(registry_upload, "PART", 5 << 20)
    broken: list[str] = []

    def breaks(request: Handler) -> bool:
        if request.command != "PATCH" or len(broken) == 2:
            return False
        broken.append(request.path)
        number = urlsplit(request.path).path.rpartition("/")[2]
        fake.uploads[number] += request.body()[:kept]
        request.close_connection = True
        request.connection.close()
        return True

    given = scene.release(100, bytes(range(256)) * (6 << 12) * 2)
    fake.before = breaks
    scene.publish(store, given, scene.channel(1, given))
    assert len(broken) == 2
    assert missing_of(store) == []


def test_an_upload_that_always_breaks_off_is_given_up(
    fake: Fake, store: Registry, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_upload, "PART", 1 << 20)

    def fails(request: Handler) -> bool:
        if request.command != "PATCH":
            return False
        request.body()
        request.answer(503, b"")
        return True

    fake.before = fails
    given = scene.release(100, bytes(3 << 20))
    with refused("io.place", f"the registry {fake.host}: PATCH /v2/x/blobs/uploads/", "status 503"):
        scene.publish(store, given)
    assert [one[0] for one in fake.seen].count("PATCH") == 3


def test_a_swapped_blob_behind_a_tag_is_refused(fake: Fake, store: Registry, scene: Scene) -> None:
    given = scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    digest = json.loads(fake.tags["stable.channel"])["layers"][0]["digest"]
    fake.blobs[digest] = bytes(len(fake.blobs[digest]))
    with refused("io.place", f"it gave other bytes for {digest}"):
        store.read("stable.channel")


def test_a_registry_that_loses_blobs_is_noticed(fake: Fake, store: Registry, scene: Scene) -> None:
    def drops(request: Handler) -> bool:
        if request.command != "PUT" or "digest=" not in request.path:
            return False
        request.body()
        request.answer(201)
        return True

    fake.before = drops
    with refused("io.write-lost", "nothing is there"):
        scene.publish(store, scene.release(100))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b'{"layers": []}',
        b'{"layers": [{"digest": "sha256:00", "size": 1}]}',
        b'{"layers": [{"digest": 7, "size": 1}]}',
        b'{"layers": [{"digest": "sha256:%s", "size": -1}]}' % (b"0" * 64),
        b'{"layers": [{"digest": "../../x", "size": 1}]}',
        b'{"manifests": []}',
        b"[" * 100_000,
    ],
)
def test_a_tag_that_is_something_else_is_refused(
    fake: Fake, store: Registry, manifest: bytes
) -> None:
    fake.tags["stable.channel"] = manifest
    with refused("io.place"):
        store.read("stable.channel")


def test_a_huge_answer_is_not_read(fake: Fake, store: Registry) -> None:
    fake.tags["stable.channel"] = b" " * (5 << 20)
    with refused("io.place", "an answer of more than 4194304 bytes"):
        store.read("stable.channel")
    size = 33 << 20
    layer = {"digest": f"sha256:{'0' * 64}", "size": size}
    fake.tags["stable.channel"] = json.dumps({"layers": [layer]}).encode()
    with refused("io.format", f"stable.channel in {store.place} has {size} bytes"):
        store.read("stable.channel")


def wants_token(realm: str) -> Callable[[Handler], bool]:
    def before(request: Handler) -> bool:
        if request.path.startswith("/token"):
            asked = parse_qs(urlsplit(request.path).query)
            assert asked["service"] == ["reg"]
            good = request.headers.get("Authorization") == Credentials("fleet", "open sesame").basic
            body = json.dumps({"token": "t0ken"}).encode()
            request.answer(200 if good else 401, body if good else b"")
            return True
        if request.headers.get("Authorization") == "Bearer t0ken":
            return False
        request.body()
        challenge = f'Bearer realm="{realm}",service="reg",scope="repository:x:pull,push"'
        request.answer(401, WWW_Authenticate=challenge)
        return True

    return before


def test_a_token_is_fetched_and_used(fake: Fake, tmp_path: Path, scene: Scene) -> None:
    fake.before = wants_token(f"http://{fake.host}/token")
    store, given = logged_in(fake, tmp_path), scene.release(100)
    scene.publish(store, given, scene.channel(1, given))
    assert missing_of(store) == []
    asked = next(path for _, path, _ in fake.seen if path.startswith("/token"))
    assert asked.endswith("scope=repository%3Ax%3Apull%2Cpush")


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://tokens.example/token", "is not https"),
        ("https://tokens.example/token", "is of another domain: it gets no credentials"),
        ("ftp://127.0.0.1/token", "is not https"),
        ("https://[x", "is no address"),
        ("", "is not https"),
    ],
)
def test_credentials_do_not_go_to_a_strange_token_server(
    fake: Fake, tmp_path: Path, scene: Scene, realm: str, words: str
) -> None:
    fake.before = wants_token(realm)
    with refused("io.place", "its token server", words):
        scene.publish(logged_in(fake, tmp_path), scene.release(100))


def test_a_wrong_password_at_the_token_server(fake: Fake, scene: Scene) -> None:
    fake.before = wants_token(f"http://{fake.host}/token")
    store = open_registry(f"{fake.host}/x", None)
    with refused("io.permission", "its token server answers 401", "no credentials"):
        scene.publish(store, scene.release(100))


def test_credentials_do_not_follow_an_upload_to_another_host(
    fake: Fake, tmp_path: Path, scene: Scene
) -> None:
    other = Fake()
    thread = threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    basic = Credentials("fleet", "open sesame").basic

    def before(request: Handler) -> bool:
        if request.headers.get("Authorization") != basic:
            request.body()
            request.answer(401, WWW_Authenticate='Basic realm="x"')
            return True
        if request.command == "POST":
            other.uploads["9"] = bytearray()
            other.blobs = fake.blobs
            request.answer(202, Location=f"http://{other.host}/v2/x/blobs/uploads/9")
            return True
        return False

    fake.before = before
    try:
        given = scene.release(100)
        scene.publish(logged_in(fake, tmp_path), given, scene.channel(1, given))
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
    assert other.seen
    assert {authorization for _, _, authorization in other.seen} == {None}


def test_an_upload_is_not_sent_elsewhere_without_tls(store: Registry) -> None:
    store._client.base = "https://registry.example"
    with refused("io.place", "it sent us from https://registry.example to http://"):
        store._client.resolve("http://registry.example/upload")
    with refused("io.place", "it sent us from https://registry.example to http://"):
        store._client.resolve("HTTP://registry.example/upload")
    with refused("io.place", "it sent us from https://registry.example to ftp://"):
        store._client.resolve("ftp://registry.example/upload")


@pytest.mark.parametrize("place", ["https://[x", "//[x/y"])
def test_an_upload_that_goes_to_no_address_is_refused(
    fake: Fake, store: Registry, scene: Scene, place: str
) -> None:
    def before(request: Handler) -> bool:
        if request.command != "POST":
            return False
        request.answer(202, Location=place)
        return True

    fake.before = before
    with refused("io.place", f"the registry {fake.host}: it names '{place}', which is no address"):
        scene.publish(store, scene.release(100))


def test_a_redirect_to_no_address_is_refused(fake: Fake, store: Registry) -> None:
    def before(request: Handler) -> bool:
        request.answer(307, Location="https://[x")
        return True

    fake.before = before
    with refused("io.place", "it names 'https://[x', which is no address"):
        store.read("stable.channel")


def test_an_endless_redirect_is_not_followed(fake: Fake, store: Registry) -> None:
    def before(request: Handler) -> bool:
        request.answer(307, Location=request.path)
        return True

    fake.before = before
    with refused("io.place", "GET /v2/x/manifests/stable.channel has status 307"):
        store.read("stable.channel")
    assert len(fake.seen) == 6


def test_credentials_do_not_follow_a_redirect_to_another_host(
    fake: Fake, tmp_path: Path, scene: Scene
) -> None:
    given, basic = scene.release(100), Credentials("fleet", "open sesame").basic
    scene.publish(open_registry(f"{fake.host}/x", None), given, scene.channel(1, given))
    other = Fake()
    other.blobs = fake.blobs
    thread = threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def before(request: Handler) -> bool:
        if request.headers.get("Authorization") != basic:
            request.answer(401, WWW_Authenticate='Basic realm="x"')
            return True
        if "/blobs/" in request.path:
            request.answer(307, Location=f"http://{other.host}{request.path}")
            return True
        return False

    fake.before = before
    try:
        assert missing_of(logged_in(fake, tmp_path)) == []
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
    assert other.seen
    assert {authorization for _, _, authorization in other.seen} == {None}


def test_a_next_page_at_no_address_is_refused(fake: Fake, store: Registry) -> None:
    def before(request: Handler) -> bool:
        request.answer(200, b'{"tags": []}', Link='<https://[x>; rel="next"')
        return True

    fake.before = before
    with refused("io.place", "it names 'https://[x', which is no address"):
        list(store.names(""))


@pytest.mark.parametrize("tags", [b"7", b'"stable.channel"', b"true"])
def test_a_list_of_tags_that_is_none_is_refused(fake: Fake, store: Registry, tags: bytes) -> None:
    def before(request: Handler) -> bool:
        request.answer(200, b'{"tags": %s}' % tags)
        return True

    fake.before = before
    with refused("io.place", "a list of tags that is none"):
        list(store.names(""))


@pytest.mark.parametrize("listed", [b"7", b"[7]", b'{"a": 1}'])
def test_an_index_that_lists_nothing_is_refused(
    fake: Fake, store: Registry, scene: Scene, listed: bytes
) -> None:
    def before(request: Handler) -> bool:
        if request.command != "GET" or not request.path.startswith("/v2/x/manifests/sha256-"):
            return False
        request.answer(200, b'{"manifests": %s}' % listed)
        return True

    fake.before = before
    with refused("io.place", "is no artifact of fwsign"):
        scene.publish(store, scene.release(100))


@pytest.mark.parametrize("token", ["", "t\u00f6ken", "\u20ac", "a\nb"])
def test_a_token_that_is_no_header_is_refused(
    fake: Fake, tmp_path: Path, scene: Scene, token: str
) -> None:
    def before(request: Handler) -> bool:
        if request.path.startswith("/token"):
            request.answer(200, json.dumps({"token": token}).encode())
        else:
            request.body()
            challenge = f'Bearer realm="http://{fake.host}/token",service="reg"'
            request.answer(401, WWW_Authenticate=challenge)
        return True

    fake.before = before
    with refused("io.place", "its token server gave no token, but status 200"):
        scene.publish(logged_in(fake, tmp_path), scene.release(100))


def test_a_registry_that_allows_no_removal_says_so(
    fake: Fake, store: Registry, scene: Scene
) -> None:
    given = scene.release(100)
    scene.publish(store, given)

    def before(request: Handler) -> bool:
        if request.command != "DELETE":
            return False
        request.answer(405)
        return True

    fake.before = before
    with refused("io.place", f"{store.place}: it does not allow to delete anything"):
        store.delete(given.path)


@pytest.mark.parametrize(
    ("server", "registry", "may"),
    [
        ("registry.acme.example", "registry.acme.example", True),
        ("Tokens.Registry.acme.example", "registry.ACME.example", True),
        ("auth.docker.io", "registry-1.docker.io", True),
        ("gitlab.com", "registry.gitlab.com", True),
        ("gitlab.acme.example", "registry.acme.example", False),
        ("acme.example", "registry.acme.example", False),
        ("evil.co.uk", "acme.co.uk", False),
        ("evil.github.io", "acme.github.io", False),
        ("evilregistry.acme.example", "registry.acme.example", False),
        ("registry.acme.example.evil.example", "registry.acme.example", False),
        ("evil.docker.io", "registry-1.docker.io", False),
        ("auth.docker.io", "registry.acme.example", False),
        ("10.0.0.1", "10.9.0.1", False),
        ("9.10.9.0.1", "10.9.0.1", False),
        ("10.9.0.1", "10.9.0.1", True),
        ("localhost", "acme", False),
        ("", "acme.example", False),
    ],
)
def test_which_token_servers_get_credentials(server: str, registry: str, may: bool) -> None:
    assert is_token_server(server, registry) is may
    assert is_token_server(server, registry, ("other.example",)) is may
    assert is_token_server(server, registry, (server.upper(),))


def test_credentials_go_to_a_token_server_that_the_user_named(
    fake: Fake, tmp_path: Path, scene: Scene
) -> None:
    """Two names of this machine stand for two owners; only the named one gets the password."""
    other = fake.host.replace("127.0.0.1", "localhost")
    fake.before = wants_token(f"http://{other}/token")
    given = scene.release(100)
    with refused("io.place", "its token server 'localhost' is of another domain") as found:
        scene.publish(logged_in(fake, tmp_path), given)
    assert found.value.hint == "if it is that of your registry: --token-host localhost"
    assert (found.value.expected, found.value.found) == (
        *("127.0.0.1, or a name below it", "localhost"),
    )
    assert not any(path.startswith("/token") for _, path, _ in fake.seen)
    store = logged_in(fake, tmp_path, ("localhost",))
    scene.publish(store, given, scene.channel(1, given))
    assert missing_of(store) == []


def test_which_hosts_are_this_machine() -> None:
    assert is_loopback("127.0.0.1:5000")
    assert is_loopback("localhost")
    assert is_loopback("[::1]:5000")
    assert not is_loopback("127.0.0.1.example:5000")


def test_a_password_is_in_no_repr() -> None:
    one = Credentials("fleet", "open sesame")
    assert "sesame" not in f"{one!r} {one}"
    assert base64.b64decode(one.basic.removeprefix("Basic ")) == b"fleet:open sesame"


def test_a_source_that_ends_too_early_is_no_blob(fake: Fake, store: Registry) -> None:
    digest = hashlib.sha256(b"whole").hexdigest()
    with refused("io.place", "status 400", "DIGEST_INVALID"):
        store.put_absent(f"sha256/{digest}", io.BytesIO(b"who"), 5)
    assert fake.blobs == {}
