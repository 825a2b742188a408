"""gooseBit names a deployment, fwsign decides, and gooseBit hears what came of it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.goosebit_kit import GooseBit, goosebit, swu
from fwsign.gateway import hold
from gateway.follow_kit import Follower
from gateway.server import Server, certificates, serving
from support import NOW, refused

PRODUCT = "gateway-x1"
VERSIONS = itertools.count(1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GooseBit, Server]]:
    """Run gooseBit, and the server with the files that it names."""
    base = tmp_path_factory.mktemp("goosebit")
    made = certificates(base)
    with serving(base, made) as files, goosebit(base, made[1], made[0]) as server:
        yield server, files


class Device(Follower):
    """A gateway that asks gooseBit; its releases are files of SWUpdate beside their envelopes."""

    def __init__(self, base: Path, servers: tuple[GooseBit, Server], name: str) -> None:
        self.server, self.files = servers
        rules = f'[fetch]\nca = "{self.files.ca}"\nallow_hosts = ["localhost"]'
        super().__init__(base, more=rules)
        self.name, self.version = name, ""
        self.address = f"hawkbit+{self.server.address}/{name}"

    def offer_swu(self, number: int, content: bytes, *, low: bool = False) -> str:
        """Sign a file for SWUpdate, put both on the server, and add it to gooseBit."""
        self.version = f"{next(VERSIONS)}.0.0"  # gooseBit takes each once for a product
        data = swu(self.version, PRODUCT, content + self.name.encode())
        name = f"{self.name}-{number}.swu"
        folder = self.offers / str(number)
        folder.mkdir()
        envelope = self.gateway.release(0 if low else number, {name: data})
        self.files.files[f"/{name}"] = data
        self.files.files[f"/{name}.suit"] = envelope.read_bytes()
        return self.server.add(self.files.url(f"/{name}"))

    @property
    def state(self) -> str:
        """The state of this device, as the server sees it."""
        return str(self.server.device(self.name)["last_state"])


@pytest.fixture
def device(
    tmp_path: Path, servers: tuple[GooseBit, Server], request: pytest.FixtureRequest
) -> Device:
    return Device(tmp_path, servers, f"dev-{abs(hash(request.node.name)) % 10**8}")


def test_a_deployment_is_installed_and_reported(device: Device) -> None:
    assert device.poll().verdict == "nothing new"
    assert device.state == "Registered"  # it was asked for its data
    assert device.server.device(device.name)["hardware"]["model"] == PRODUCT
    software = device.offer_swu(3, b"three ")
    device.server.assign(device.name, software)
    assert device.poll().verdict == "installed"
    name = f"{device.name}-3.swu"
    assert device.installed == {name: device.files.files[f"/{name}"]}
    assert device.state == "Finished"
    known = device.server.device(device.name)
    assert known["sw_version"] == device.version
    assert device.poll().verdict == "nothing new"
    assert device.said == []


def test_a_deployment_that_is_refused_is_reported_with_its_code(device: Device) -> None:
    device.poll()
    device.server.assign(device.name, device.offer_swu(3, b"three "))
    device.poll()
    device.server.assign(device.name, device.offer_swu(4, b"four ", low=True))
    with refused("unsuitable.rollback"):
        device.poll()
    assert device.state == "Error"
    assert "unsuitable.rollback: sequence number 0 is below 3" in device.server.log(device.name)


def test_a_swapped_file_is_refused(device: Device) -> None:
    """The server's own hash is of the file as it is now: it proves nothing."""
    device.poll()
    software = device.offer_swu(3, b"three ")
    name = f"/{device.name}-3.swu"
    device.files.files[name] = device.files.files[name][:-8] + b"evil" + bytes(4)
    device.server.assign(device.name, software)
    with refused("tampered.payload-digest"):
        device.poll()
    assert device.installed is None
    assert device.state == "Error"
    assert "tampered.payload-digest" in device.server.log(device.name)


def test_a_hold_is_reported_and_closes_nothing(device: Device) -> None:
    device.poll()
    device.server.assign(device.name, device.offer_swu(3, b"three "))
    hold.begin(device.request().device, hold.Hold(NOW, None, "harvest time"), None)
    assert device.poll().verdict == "waiting"
    assert device.installed is None
    assert "harvest time" in device.server.log(device.name)
    hold.end(device.request().device, NOW, None)
    assert device.poll().verdict == "installed"
    assert device.state == "Finished"
