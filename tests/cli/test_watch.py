"""`fwsign watch` and `fwsign hint`: refusals, and the whole way with a real broker."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.kit import environment, good, refused, run
from fwsign.cli import inputs
from fwsign.keys.file import encode_private_key, load_private_key
from gateway.channel_place import Place
from gateway.follow_kit import Follower
from mqtt_kit import TOPIC, Running, Site, make_site, mosquitto
from support import DAY, NOW, require_package

require_package("paho")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gateways are POSIX only")

MAIN = f"""\
import fwsign.cli.inputs
from datetime import datetime
from fwsign.cli import main
fwsign.cli.inputs.now = lambda: datetime.fromisoformat("{NOW.isoformat()}")
main()
"""


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def broker(site: Site) -> Iterator[Running]:
    with mosquitto(site) as found:
        yield found


class Watched(NamedTuple):
    """A gateway that watches, and the place that it follows."""

    follower: Follower
    place: Place

    @property
    def config(self) -> Path:
        return self.follower.gateway.config


def watched(base: Path, watch: str = "", fetch: str = "") -> Watched:
    place = base / "place"
    more = f"[watch]\n{watch}\n[fetch]\n{fetch}"
    follower = Follower(base, f'address = "{place}/stable.channel"', more)
    return Watched(follower, Place(place, follower))


def client(site: Site, name: str) -> tuple[Any, ...]:
    """Return the options of `fwsign hint` for a client."""
    key = site.place / f"pki/private/{name}.key"
    return ("--ca", site.place / "pki/ca.crt", "--cert", site.place / f"{name}.pem", "--key", key)


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["mqtt://b.example", "b.example", "mqtts://b/x", "mqtts://b:0"])
def test_a_broker_without_tls_is_refused(tmp_path: Path, typed: str) -> None:
    one = watched(tmp_path)
    hint = "expected mqtts://HOST or mqtts://HOST:PORT, without user and password"
    message = f'the address "{typed}" is not that of a broker with TLS'
    refused(run("watch", typed, "--config", one.config), 2, message, hint)
    path = one.place.channel(7)
    refused(run("hint", path, "--to", typed), 2, message, hint)


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    one = watched(tmp_path)
    found = run("watch", "mqtts://me:secret@b.example", "--config", one.config)
    assert found.status == 2
    assert found.errors[0] == "error: the broker's address is not that of a broker with TLS"
    path = one.place.channel(7)
    found = run("hint", path, "--to", "mqtts://me:secret@b.example")
    assert found.errors[0] == "error: the address after --to is not that of a broker with TLS"
    assert "secret" not in found.err


def test_a_gateway_needs_a_broker_and_a_channel(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = watched(tmp_path / "one")
    found = run("watch", "--config", one.config)
    hint = 'name it: fwsign watch mqtts://HOST; or put broker = "mqtts://..." into [watch]'
    refused(found, 2, f"{one.config} has no broker", hint)
    two = Follower(tmp_path / "two", f'address = "{tmp_path}/offers"')
    found = run("watch", "mqtts://b.example", "--config", two.gateway.config)
    hint = "[follow] address in device.toml ends in .channel"
    refused(found, 2, f"{tmp_path}/offers is not a channel", hint)


def test_a_hint_needs_a_certificate_with_its_key(tmp_path: Path, site: Site) -> None:
    path = watched(tmp_path).place.channel(7)
    options = client(site, "publisher")
    message, hint = "--cert and --key belong together", "give both, or none"
    for some in (options[:4], (*options[:2], *options[4:])):
        refused(run("hint", path, "--to", "mqtts://b", *some), 2, message, hint)
    for topic in ("a/#", "a/+/b", ""):
        found = run("hint", path, "--to", "mqtts://b", "--topic", topic)
        refused(found, 2, "the topic of a hint has no + and #", "name one topic")


def test_a_file_that_is_no_channel_gives_no_hint(tmp_path: Path) -> None:
    one = watched(tmp_path)
    path = one.follower.offer(1)
    found = run("hint", path, "--to", "mqtts://b")
    assert (found.status, found.out) == (4, "")
    assert found.errors[0] == "error: this is a release, not a channel"


def test_a_broker_that_is_not_there(tmp_path: Path, site: Site) -> None:
    path = watched(tmp_path).place.channel(7)
    found = run("hint", path, "--to", "mqtts://localhost:1", *client(site, "publisher"))
    refused(
        found,
        5,
        "mqtts://localhost:1: no connection: connection refused",
        "is it reachable from here? --ca says whom to trust as a server",
    )


# --- with a broker --------------------------------------------------------------------------------


def heard(broker: Running, topic: str) -> bytes | None:
    """Return what the broker keeps at a topic."""
    with broker.link("gateway-7") as link:
        link.subscribe(topic)
        found = link.wait(2)
        return found.payload if found else None


@pytest.mark.external
def test_a_hint_is_retained(tmp_path: Path, site: Site, broker: Running) -> None:
    one = watched(tmp_path)
    to, options = ("--to", broker.broker.url), client(site, "publisher")
    out = good("hint", one.place.channel(7), *to, *options)
    assert out == f"hinted  stable 7 at {broker.broker.url}, topic {TOPIC}\n"
    assert heard(broker, TOPIC) == b'{"channel":"stable","number":7}'
    said = json.loads(good("hint", one.place.channel(8), *to, *options, "--json"))
    url = broker.broker.url
    expected = {"verdict": "hinted", "broker": url, "topic": TOPIC, "channel": "stable"}
    assert said == {**expected, "number": 8}
    other = "fwsign/acme.example/elsewhere/hints"
    good("hint", one.place.channel(9), *to, *options, "--topic", other)
    assert heard(broker, other) == b'{"channel":"stable","number":9}'


@pytest.mark.external
def test_a_gateway_that_gives_hints_is_refused(tmp_path: Path, site: Site, broker: Running) -> None:
    path = watched(tmp_path).place.channel(7)
    found = run("hint", path, "--to", broker.broker.url, *client(site, "gateway-7"))
    hint = "does the broker know the CA of --cert, and may this client write to the topic?"
    message = f"the broker {broker.broker.url} refuses the message to {TOPIC}"
    refused(found, 5, f"{message}: not authorized (135)", hint)


@pytest.mark.external
def test_a_key_with_a_passphrase(tmp_path: Path, site: Site, broker: Running) -> None:
    path = watched(tmp_path).place.channel(7)
    plain = load_private_key(site.place / "pki/private/publisher.key", lambda: None)
    locked, word = tmp_path / "locked.key", tmp_path / "word"
    locked.write_bytes(encode_private_key(plain, b"four words", "scrypt"))
    locked.chmod(0o600)
    line = ("hint", path, "--to", broker.broker.url, *client(site, "publisher")[:-1], locked)
    word.write_text("four words")
    good(*line, "--pass", f"file:{word}")
    word.write_text("other words")
    found = run(*line, "--pass", f"file:{word}")
    assert found.status == 5
    assert "or the passphrase is wrong" in found.errors[0]
    assert "words" not in found.err.replace("passphrase", "")


@pytest.mark.external
def test_a_hint_of_an_expired_channel_is_a_warning(
    tmp_path: Path, site: Site, broker: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = watched(tmp_path).place.channel(7)
    monkeypatch.setattr(inputs, "now", lambda: NOW + 8 * DAY)
    found = run("hint", path, "--to", broker.broker.url, *client(site, "publisher"))
    assert found.status == 0
    assert "warning: this channel expired 2026-11-29T12:00:00+00:00" in found.err


@contextmanager
def watching(one: Watched, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `fwsign watch` as a program, at the time of the tests."""
    command = [sys.executable, "-c", MAIN, "watch", "--config", str(one.config), *options]
    log = (one.follower.gateway.base / "err").open("w")
    more: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
    process = subprocess.Popen(command, env=environment(), **more)
    alarm = threading.Timer(60, process.kill)  # then nothing is read any more, and the test fails
    alarm.start()
    try:
        yield process
    finally:
        alarm.cancel()
        process.kill()
        process.wait(20)
        log.close()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.external
def test_a_hint_wakes_a_gateway(tmp_path: Path, site: Site, broker: Running) -> None:
    """The whole way: a hint, a poll, an install; then nothing more until SIGTERM."""
    place = site.place
    one = watched(
        tmp_path,
        f'broker = "{broker.broker.url}"\nleast = 1\nwithin = 1',
        f'ca = "{place}/pki/ca.crt"\nallow_hosts = ["updates.acme.example"]\n'
        f'client_cert = "{place}/gateway-7.pem"\n'
        f'client_key = "{place}/pki/private/gateway-7.key"',
    )
    first = one.place.release(1)
    one.place.channel(1, first)
    good("hint", one.place.base / "stable.channel", "--to", broker.broker.url,
         *client(site, "publisher"))  # fmt: skip
    with watching(one, "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["verdict"] == "installed"
        assert one.follower.installed == {"app1.bin": b"release 1"}
        one.place.channel(2, first, one.place.release(2))
        good("hint", one.place.base / "stable.channel", "--to", broker.broker.url,
             *client(site, "publisher"))  # fmt: skip
        assert json.loads(process.stdout.readline())["verdict"] == "installed"
        assert one.follower.installed == {"app2.bin": b"release 2"}
        for _ in range(20):
            broker.publish(TOPIC, b'{"channel":"stable","number":2}')
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143 or process.returncode == -signal.SIGTERM
        assert process.stdout.read() == ""  # what is known wakes nothing
    said = (tmp_path / "err").read_text()
    assert f"fwsign: listens for hints at {TOPIC}\n" in said
    assert "fwsign: a hint says that the channel has number 2\n" in said


def test_units_for_a_gateway_that_watches(tmp_path: Path) -> None:
    one = watched(tmp_path, 'broker = "mqtts://b.example"')
    out = tmp_path / "units"
    out.mkdir()
    found = run("device", "units", "--config", one.config, "--output", out)
    assert found.status == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["fwsign-trial.service", "fwsign-watch.service"]
    text = (out / "fwsign-watch.service").read_text()
    lines = text.splitlines()
    assert any(line.endswith(f"watch --config {one.config}") for line in lines)
    for line in ("Type=exec", "Restart=always", "SuccessExitStatus=143", "NoNewPrivileges=yes"):
        assert line in lines
    assert lines[-1] == "WantedBy=multi-user.target"
    assert "Type=oneshot" not in lines
    said = "systemctl enable --now fwsign-trial.service fwsign-watch.service"
    assert f"next: {said}" in found.err
