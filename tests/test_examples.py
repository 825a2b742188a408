"""The programs in examples/, run as users run them, with a real server."""

import contextlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PAYLOAD = b"application 1\n" * 20_000


def fwsign(place: Path, *words: str) -> None:
    """Run the program in a directory."""
    command = [sys.executable, "-m", "fwsign", *words]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running(place: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until the end of the block; its standard error can be read."""
    with subprocess.Popen(words, cwd=place, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def sign(place: Path, content: bytes, number: int) -> None:
    """Sign a release of one file, in web/."""
    (place / "web/app.tar").write_bytes(content)
    words = ("--output", "web/update.suit", "--sequence", str(number), "--force")
    whose = ("--pki", "pki", "--signer", "release", "--product", "gateway-x1")
    fwsign(place, "sign", "web/app.tar", *whose, *words)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a PKI, and release 1 in web/."""
    protection = ("--no-passphrase", "--vendor", "acme.example", "--org", "Acme")
    fwsign(tmp_path, "pki", "init", "pki", *protection)
    (tmp_path / "web").mkdir()
    sign(tmp_path, PAYLOAD, 1)
    return tmp_path


def enrol(place: Path) -> None:
    """Make a gateway in a directory."""
    (place / "target").mkdir(mode=0o755)
    where = ("--config", "device.toml", "--state", "gateway.db", "--target-dir", "target")
    named = ("--vendor", "acme.example", "--product", "gateway-x1", "--anchor", "pki/ca.crt")
    fwsign(place, "device", "init", *where, *named)


# --- the updater of the library page --------------------------------------------------------------


def update(place: Path) -> str:
    """Run the updater, and return the last line that it prints."""
    command = [sys.executable, str(EXAMPLES / "updater.py"), "device.toml", "web/update.suit"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()[-1]


def test_the_updater_installs_and_confirms(place: Path) -> None:
    enrol(place)
    with (place / "device.toml").open("a") as file:
        file.write('\n[trial]\nhealth = ["/bin/true"]\nconfirm = "application"\n')
    assert update(place) == "on trial: release 1"
    status = ("device", "status", "--config", "device.toml")
    fwsign(place, *status)
    assert update(place) == "already installed: release 1"
    sign(place, b"application 2\n", 2)
    assert update(place) == "on trial: release 2"
    assert (place / "target/current/app.tar").read_bytes() == b"application 2\n"
    sign(place, PAYLOAD, 1)
    assert update(place).startswith("genuine, but not for this device now: unsuitable.rollback: ")


def test_the_updater_says_what_to_do_with_a_refusal(place: Path) -> None:
    enrol(place)
    envelope = (place / "web/update.suit").read_bytes()
    (place / "web/update.suit").write_bytes(envelope[:-1])
    assert update(place).startswith("do not use it: malformed.")
    (place / "web/update.suit").unlink()
    assert update(place).startswith("nothing is known of it, try again later: io.missing: ")


def test_the_updater_lives_through_a_release_that_fails(place: Path) -> None:
    enrol(place)
    health = place / "health"
    health.write_text(f"#!/bin/sh\n! grep -q broken {place}/target/current/app.tar\n")
    health.chmod(0o755)
    with (place / "device.toml").open("a") as file:
        file.write(f'\n[trial]\nhealth = ["{health}"]\n')
    assert update(place) == "installed: release 1"
    sign(place, b"broken\n", 2)
    assert update(place).startswith("genuine, but not for this device now: unsuitable.trial: ")
    assert (place / "target/current/app.tar").read_bytes() == PAYLOAD
    sign(place, b"application 3\n", 3)
    assert update(place) == "installed: release 3"


# --- the proxy ------------------------------------------------------------------------------------


@pytest.fixture
def proxy(place: Path) -> Iterator[str]:
    """The address of the proxy, whose update server gives what is in web/."""
    (place / "cache").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(place / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        upstream = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, str(EXAMPLES / "verifying_proxy.py"), upstream]
        command += ["--anchor", "pki/ca.crt", "--vendor", "acme.example", "--product", "gateway-x1"]
        command += ["--cache", "cache", "--listen", "127.0.0.1:0"]
        with running(place, *command) as process:
            assert process.stderr is not None
            yield "http://" + process.stderr.readline().split()[-1]
        server.shutdown()


def get(url: str) -> tuple[int, bytes]:
    """Return the status and body of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own server
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def refusal(url: str) -> str:
    """Return the code of a refusal."""
    status, body = get(url)
    assert status == 502
    return str(json.loads(body)["code"])


def test_the_proxy_hands_on_what_verifies(place: Path, proxy: str) -> None:
    assert get(f"{proxy}/update.suit") == (200, (place / "web/update.suit").read_bytes())
    assert get(f"{proxy}/app.tar") == (200, PAYLOAD)
    (place / "web/app.tar").unlink()
    assert get(f"{proxy}/app.tar") == (200, PAYLOAD)  # verified once, and kept


def test_the_proxy_gives_no_byte_of_a_changed_payload(place: Path, proxy: str) -> None:
    assert get(f"{proxy}/update.suit")[0] == 200
    (place / "web/app.tar").write_bytes(PAYLOAD[:-1] + b"x")
    assert refusal(f"{proxy}/app.tar") == "tampered.payload-digest"
    assert list((place / "cache").iterdir()) == []


def test_the_proxy_refuses_an_older_release_and_a_changed_one(place: Path, proxy: str) -> None:
    old = (place / "web/update.suit").read_bytes()
    sign(place, PAYLOAD, 2)
    assert get(f"{proxy}/update.suit")[0] == 200
    (place / "web/update.suit").write_bytes(old)
    assert refusal(f"{proxy}/update.suit") == "unsuitable.rollback"
    (place / "web/update.suit").write_bytes(old[:-1])
    assert refusal(f"{proxy}/update.suit").startswith(("malformed.", "tampered."))


def test_the_proxy_gives_nothing_that_no_release_names(place: Path, proxy: str) -> None:
    (place / "web/other.bin").write_bytes(b"unsigned")
    assert refusal(f"{proxy}/app.tar") == "io.payload-missing"
    assert get(f"{proxy}/update.suit")[0] == 200
    for name in ("other.bin", "../app.tar", "pki/private/ca.key", ""):
        assert refusal(f"{proxy}/{name}") == "io.payload-missing"
