"""What a gateway shows to servers: a certificate, a token, a proxy's login; and its limit."""

import base64
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fwsign.gateway.config.device import load
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import download, fetch, proxy
from gateway.kit import Gateway, make_gateway
from gateway.proxy_server import Proxy, proxying
from gateway.server import LONG, Server, certificates, serving
from support import certify, make_ca, name, new_key, refused

DATA = b"the whole file" * 1000
TOKEN = "abc.DEF-123_~+/=="


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.clear()
    _server.files["/f"] = DATA
    return _server


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Server]:
    """Another server of the same CA's name, on another port."""
    own = server.ca.parent / "server.pem"
    with serving(tmp_path_factory.mktemp("other"), (server.ca, own)) as found:
        found.files["/f"] = DATA
        yield found


def get(server: Server, **more: Any) -> bytes:
    usual = {"ca": server.ca, "pause_seconds": 0, "stall_seconds": 5}
    url, said = more.pop("url", server.url("/f")), more.pop("said", [])
    rules = FetchRules(**{**usual, "allow_hosts": ("localhost",), **more})
    return fetch.fetch_bytes(url, rules, len(DATA), said.append)


def secret(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def redirect(place: str) -> Any:
    return lambda handler: handler.head(302, {"Location": place, "Content-Length": "0"})


# --- a token -------------------------------------------------------------------------------------


class TestToken:
    @pytest.fixture
    def token(self, tmp_path: Path) -> Path:
        return secret(tmp_path, f"{TOKEN}\n")

    def test_it_goes_to_allowed_hosts(self, server: Server, token: Path) -> None:
        assert get(server, token_file=token) == DATA
        assert server.heads[0]["Authorization"] == f"Bearer {TOKEN}"

    def test_and_to_no_others(self, server: Server, token: Path) -> None:
        assert get(server, token_file=token, allow_hosts=()) == DATA
        assert "Authorization" not in server.heads[0]

    def test_it_stays_on_its_host_after_a_redirect(self, server: Server, token: Path) -> None:
        server.answers["/a"] = redirect("/f")
        assert get(server, url=server.url("/a"), token_file=token) == DATA
        assert [head.get("Authorization") for head in server.heads] == [f"Bearer {TOKEN}"] * 2

    def test_it_does_not_follow_a_redirect_to_another_place(
        self, server: Server, other: Server, token: Path
    ) -> None:
        server.answers["/a"] = redirect(other.url("/f"))
        assert get(server, url=server.url("/a"), token_file=token) == DATA
        assert "Authorization" in server.heads[0]
        assert "Authorization" not in other.heads[0]

    def test_nor_back(self, server: Server, other: Server, token: Path) -> None:
        """The other server chose the place."""
        server.answers["/a"] = redirect(other.url("/b"))
        other.answers["/b"] = redirect(server.url("/f"))
        assert get(server, url=server.url("/a"), token_file=token) == DATA
        assert ["Authorization" in head for head in server.heads] == [True, False]

    def test_nor_when_the_other_place_redirects_to_itself(
        self, server: Server, other: Server, token: Path
    ) -> None:
        server.answers["/a"] = redirect(other.url("/b"))
        other.answers["/b"] = redirect("/f")
        assert get(server, url=server.url("/a"), token_file=token) == DATA
        assert ["Authorization" in head for head in other.heads] == [False, False]

    def test_a_loop_of_redirects_with_a_token_ends(self, server: Server, token: Path) -> None:
        server.answers["/a"] = redirect("/a")
        with refused("io.fetch-redirect", "redirects more than 5 times") as caught:
            get(server, url=server.url("/a"), token_file=token)
        assert TOKEN not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (302, {"Location": f"http://localhost/?t={TOKEN}"}),
            (302, {"Location": f"/f?t={TOKEN}"}),
            (200, {"Content-Encoding": TOKEN}),
            (206, {"Content-Range": TOKEN}),
        ],
    )
    def test_a_server_that_repeats_it_is_not_quoted(
        self, server: Server, token: Path, status: int, headers: dict[str, str]
    ) -> None:
        said: list[str] = []
        server.answers["/a"] = lambda handler: handler.head(
            status, {"Content-Length": "0", **headers}
        )
        with pytest.raises(Exception, match="localhost") as caught:
            get(server, url=server.url("/a"), token_file=token, said=said)
        error = caught.value
        shown = [str(error), *map(str, vars(error).values()), *said]
        assert not [one for one in shown if TOKEN in one]
        assert [one for one in shown if "(token)" in one]

    def test_a_status_line_that_repeats_it_is_not_quoted(self, server: Server, token: Path) -> None:
        server.answers["/a"] = lambda handler: handler.wfile.write(f"{TOKEN}\r\n\r\n".encode())
        with refused("io.fetch-protocol", "(token)") as caught:
            get(server, url=server.url("/a"), token_file=token)
        assert TOKEN not in str(vars(caught.value))

    @pytest.mark.parametrize("text", ["", "a b", "a\nb", "a\r\nX: y", "\u00e4", "=", "x" * 5000])
    def test_what_is_no_token_is_refused_and_not_shown(
        self, server: Server, tmp_path: Path, text: str
    ) -> None:
        with refused("io.config", "fetch.token_file", "is not a token") as caught:
            get(server, token_file=secret(tmp_path, text))
        assert len(text) < 4 or text not in str(vars(caught.value))
        assert server.requests == []

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
    def test_others_must_not_read_or_write_its_file(
        self, server: Server, tmp_path: Path, mode: int
    ) -> None:
        with refused("io.config", f"mode {mode:04o}"):
            get(server, token_file=secret(tmp_path, TOKEN, mode))
        assert server.requests == []

    def test_a_file_that_is_not_there_is_named(self, server: Server, tmp_path: Path) -> None:
        with refused("io.missing", "fetch.token_file", "no such file"):
            get(server, token_file=tmp_path / "none")


# --- a client certificate ------------------------------------------------------------------------


class Client:
    """A CA of clients, and a client."""

    def __init__(self, folder: Path) -> None:
        root, key = make_ca("Clients", days=LONG), new_key()
        leaf = certify(key, name("gateway-7"), root, [], days=LONG)
        self.ca, self.cert, self.key = (folder / one for one in ("ca.pem", "c.pem", "k.pem"))
        self.ca.write_bytes(root.certificate.public_bytes(Encoding.PEM))
        self.cert.write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
        plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key.write_bytes(key.private_bytes(*plain))
        self.key.chmod(0o600)
        self.locked = folder / "locked.pem"
        hidden = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        self.locked.write_bytes(key.private_bytes(*hidden))
        self.locked.chmod(0o600)

    @property
    def files(self) -> dict[str, Path]:
        return {"client_cert": self.cert, "client_key": self.key}


class TestClientCertificate:
    @pytest.fixture
    def client(self, tmp_path: Path) -> Client:
        return Client(tmp_path)

    @pytest.fixture
    def asking(self, client: Client, tmp_path: Path) -> Iterator[Server]:
        """A server that asks for a certificate."""
        with serving(tmp_path, certificates(tmp_path), client.ca) as found:
            found.files["/f"] = DATA
            yield found

    def test_a_server_that_asks_for_it_gets_it(self, asking: Server, client: Client) -> None:
        with pytest.raises(Exception, match=r"certificate required|localhost"):
            get(asking)
        assert asking.requests == []
        assert get(asking, **client.files) == DATA

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_server_that_does_not_know_the_gateway_is_an_error_with_a_hint(
        self, server: Server, status: int
    ) -> None:
        server.answers["/f"] = lambda handler: handler.head(status, {"Content-Length": "0"})
        with refused("io.fetch-status", f"status {status}") as caught:
            get(server)
        assert "fetch.token_file or fetch.client_cert" in str(caught.value.hint)

    def test_the_end_of_a_handshake_says_what_is_missing(self) -> None:
        alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert")
        alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        found = download.no_answer("https://localhost/f", alert)
        assert found.code == "io.fetch-connect"
        words = "the server refuses this gateway: tlsv13 alert certificate required"
        assert found.message == f"https://localhost/f: {words}"
        assert "fetch.client_cert" in str(found.hint)

    def test_hosts_that_are_not_named_do_not(self, asking: Server, client: Client) -> None:
        with pytest.raises(Exception, match=r"certificate required|localhost"):
            get(asking, **client.files, allow_hosts=())

    def test_nor_the_end_of_a_redirect(
        self, server: Server, asking: Server, client: Client, tmp_path: Path
    ) -> None:
        both = tmp_path / "both.pem"
        both.write_bytes(server.ca.read_bytes() + asking.ca.read_bytes())
        server.answers["/a"] = redirect(asking.url("/f"))
        with pytest.raises(Exception, match=r"certificate required|localhost"):
            get(server, url=server.url("/a"), ca=both, **client.files)
        assert get(server, url=asking.url("/f"), ca=both, **client.files) == DATA

    def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(
        self, server: Server, client: Client
    ) -> None:
        with refused("io.config", "fetch.client_key", "without a passphrase, since nobody is"):
            get(server, client_cert=client.cert, client_key=client.locked)

    def test_a_key_of_another_certificate_is_refused(
        self, server: Server, client: Client, tmp_path: Path
    ) -> None:
        plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key = secret(tmp_path, new_key().private_bytes(*plain))
        with refused("io.config", "fetch.client_cert", "key values mismatch"):
            get(server, client_cert=client.cert, client_key=key)
        with refused("io.config", "are not a certificate and its private key"):
            get(server, client_cert=client.cert, client_key=secret(tmp_path, "nothing"))

    def test_its_files_are_its_owners(self, server: Server, client: Client) -> None:
        client.key.chmod(0o644)
        with refused("io.config", "fetch.client_key", "can be read by other users: mode 0644"):
            get(server, **client.files)
        client.key.chmod(0o600)
        client.cert.chmod(0o666)
        with refused("io.config", "fetch.client_cert", "could have been written by another user"):
            get(server, **client.files)


# --- a proxy -------------------------------------------------------------------------------------


class TestProxy:
    @pytest.fixture
    def between(self) -> Iterator[Proxy]:
        with proxying() as found:
            yield found

    def get(self, server: Server, between: Proxy, **more: Any) -> bytes:
        return get(server, proxy=("127.0.0.1", between.port), **more)

    def test_it_gets_the_name_and_nothing_else(
        self, server: Server, between: Proxy, tmp_path: Path
    ) -> None:
        token = secret(tmp_path, TOKEN)
        assert self.get(server, between, token_file=token) == DATA
        lines = between.heads[0].decode().split("\r\n")
        assert lines[0] == f"CONNECT localhost:{server.port} HTTP/1.1"
        assert lines[1] == f"Host: localhost:{server.port}"
        assert lines[2].startswith("User-Agent: fwsign/")
        assert lines[3:] == ["", ""]
        assert server.heads[0]["Authorization"] == f"Bearer {TOKEN}"

    def test_its_login_comes_from_a_file_and_goes_to_it_alone(
        self, server: Server, between: Proxy, tmp_path: Path
    ) -> None:
        login = secret(tmp_path, "gate:pass: w\u00f6rd\n")
        assert self.get(server, between, login_file=login) == DATA
        given = base64.b64encode("gate:pass: w\u00f6rd".encode()).decode()
        assert f"\r\nProxy-Authorization: Basic {given}\r\n" in between.heads[0].decode()
        assert not [key for key in server.heads[0] if "uthorization" in key]

    @pytest.mark.parametrize("text", ["", "user", ":x", "a:b\nc", "a:b\r\nX: y", b"a:\xff"])
    def test_what_is_no_login_is_refused(
        self, server: Server, between: Proxy, tmp_path: Path, text: str | bytes
    ) -> None:
        with refused("io.config", "fetch.proxy_login_file", "is not user:password"):
            self.get(server, between, login_file=secret(tmp_path, text))
        assert between.heads == []

    def test_an_ipv6_server_is_in_brackets(self, server: Server, between: Proxy) -> None:
        between.answers.append(lambda client: client.sendall(b"HTTP/1.1 403 No\r\n\r\n"))
        with refused("io.fetch-connect", "the proxy answers with status 403"):
            self.get(server, between, url="https://[2001:db8::1]/f", allow_hosts=())
        assert between.heads[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 407 Log in\r\n\r\n", "it wants a user and a password"),
            (b"HTTP/1.1 301 Moved\r\nLocation: https://evil.example/\r\n\r\n", "status 301"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "status 100"),
            (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "no proper answer"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "no proper answer"),
            (b"HTTP/2 200 OK\r\n\r\n", "no proper answer"),
            (b"\r\n\r\n", "no proper answer"),
            (b"\x16\x03\x01" + b"\0" * 100 + b"\n\n", "no proper answer"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "16384 bytes of headers"),
        ],
    )
    def test_nonsense_is_refused(
        self, server: Server, between: Proxy, answer: bytes, words: str
    ) -> None:
        between.answers.extend([lambda client: client.sendall(answer)] * 5)
        with refused("io.fetch-connect", f"{server.url('/f')}: the proxy answers with", words):
            self.get(server, between)
        assert len(between.heads) == 1

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 503 Busy\r\n\r\n", "the proxy answers with status 503"),
            (b"HTTP/1.1 429 Slow down\r\n\r\n", "the proxy answers with status 429"),
            (b"HTTP/1.1 200 O", "the proxy closed the connection"),
        ],
    )
    def test_a_busy_one_is_asked_again(
        self, server: Server, between: Proxy, answer: bytes, words: str
    ) -> None:
        between.answers.append(lambda client: client.sendall(answer))
        assert self.get(server, between) == DATA
        between.answers.extend([lambda client: client.sendall(answer)] * 5)
        with refused("io.fetch-cut", words):
            self.get(server, between)

    def test_a_silent_or_dripping_one_is_left(self, server: Server, between: Proxy) -> None:
        def drip(client: socket.socket) -> None:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                client.sendall(bytes([byte]))
                time.sleep(0.05)

        between.answers.extend([lambda _: time.sleep(1)] * 5)
        with refused("io.fetch-slow"):
            self.get(server, between, stall_seconds=0.05)
        between.answers[:] = [drip] * 5
        begin = time.monotonic()
        with refused("io.fetch-slow"):
            self.get(server, between, total_seconds=0.5)
        assert time.monotonic() - begin < 6

    def test_it_cannot_be_the_server(self, server: Server, between: Proxy, tmp_path: Path) -> None:
        """A proxy that answers in the server's place needs the server's certificate."""
        with serving(tmp_path) as evil:
            evil.files["/f"] = b"evil"

            def intercept(client: socket.socket) -> None:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with socket.create_connection(("127.0.0.1", evil.port)) as sock:
                    client.settimeout(1)
                    sock.settimeout(1)
                    sock.sendall(client.recv(65536))
                    client.sendall(sock.recv(65536))
                    client.recv(65536)

            between.answers.append(intercept)
            with refused("io.fetch-connect", "no connection: unable to get local issuer"):
                self.get(server, between)

    def test_bytes_before_the_servers_are_no_tls(self, server: Server, between: Proxy) -> None:
        answer = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        between.answers.append(lambda client: client.sendall(answer))
        with refused("io.fetch-connect", "no connection"):
            self.get(server, between)

    def test_nobody_there_is_an_error(self, server: Server) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with refused("io.fetch-connect", "refused"):
                get(server, proxy=unused.getsockname())

    def test_names_are_asked_for_by_it_alone(
        self, server: Server, between: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[object] = []
        system = socket.getaddrinfo

        def find(host: Any, *rest: Any, **more: Any) -> Any:
            asked.append(host)
            return system(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", find)
        assert self.get(server, between) == DATA
        assert set(asked) == {"127.0.0.1"}

    def test_one_that_repeats_the_login_brings_it_into_no_message(
        self, server: Server, between: Proxy, tmp_path: Path
    ) -> None:
        login = secret(tmp_path, "u:password")
        for line in ("CONNECT", "Proxy-"):  # the second begins with the login

            def repeat(client: socket.socket, line: str = line) -> None:
                head = between.heads[-1]
                client.sendall(head[head.index(line.encode()) :])

            between.answers.append(repeat)
            with refused("io.fetch-connect", "the proxy answers with no proper answer") as caught:
                self.get(server, between, login_file=login)
            shown = str(vars(caught.value))
            assert base64.b64encode(b"u:password").decode() not in shown
            assert "password" not in shown

    def test_without_time_it_is_not_asked(self) -> None:
        ours, its = socket.socketpair()
        with ours, its, pytest.raises(TimeoutError, match="the proxy does not answer"):
            proxy.tunnel(ours, "localhost", 443, None, time.monotonic())

    def test_the_head_of_its_answer_has_a_limit(self) -> None:
        assert proxy.MAX_HEAD == 16 * 1024


# --- a limit of bytes a second -------------------------------------------------------------------


class TestBytesPerSecond:
    def test_it_is_kept(self, server: Server) -> None:
        begin = time.monotonic()
        assert get(server, bytes_per_second=2 * len(DATA)) == DATA
        assert 0.3 < time.monotonic() - begin < 10

    def test_it_is_no_silence_but_counts_for_the_whole_time(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("fwsign.gateway.https.pace.SLICES", 1)  # a second between reads
            assert get(server, bytes_per_second=len(DATA) // 2, stall_seconds=0.8) == DATA
        with refused("io.fetch-slow", f"{len(DATA) // 20} bytes a second"):
            get(server, bytes_per_second=len(DATA) // 20, total_seconds=0.5)

    def test_without_one_nobody_waits(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "fwsign.gateway.https.pace.time.sleep", lambda _: pytest.fail("it waits")
        )
        assert get(server) == DATA

    def test_what_a_server_sends_ahead_is_bounded(self) -> None:
        assert FetchRules().buffer is None
        assert FetchRules(bytes_per_second=1).buffer == 16 * 1024
        assert FetchRules(bytes_per_second=100_000).buffer == 100_000
        assert FetchRules(bytes_per_second=1 << 40).buffer == 1024 * 1024


# --- device.toml ---------------------------------------------------------------------------------


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def test_all_of_it_comes_from_device_toml(gateway: Gateway) -> None:
    gateway.configure(
        """[fetch]
allow_hosts = ["localhost"]
client_cert = "/c"
client_key = "/k"
token_file = "/t"
proxy = "http://[::1]:3128/"
proxy_login_file = "/l"
bytes_per_second = 50000
"""
    )
    found = load(gateway.config).fetch
    assert (found.client_cert, found.client_key) == (Path("/c"), Path("/k"))
    assert (found.token_file, found.login_file) == (Path("/t"), Path("/l"))
    assert (found.proxy, found.bytes_per_second) == (("::1", 3128), 50000)
    assert found.since is None


def test_a_gateway_installs_with_a_token_through_a_proxy(gateway: Gateway, server: Server) -> None:
    envelope = gateway.release(1, {"app.tar": DATA})
    server.files["/update.suit"] = envelope.read_bytes()
    server.files["/app.tar"] = DATA
    token = secret(gateway.base, TOKEN)
    with proxying() as between:
        gateway.configure(
            f"""[fetch]
ca = "{server.ca}"
allow_hosts = ["localhost"]
token_file = "{token}"
proxy = "http://127.0.0.1:{between.port}"
"""
        )
        gateway.install(server.url("/update.suit"))
    assert gateway.installed == {"app.tar": DATA}
    assert len(between.heads) == 2
    assert all(head["Authorization"] == f"Bearer {TOKEN}" for head in server.heads)
    stored = b"".join(one.read_bytes() for one in gateway.base.glob("state.db*"))
    assert TOKEN.encode() not in stored
