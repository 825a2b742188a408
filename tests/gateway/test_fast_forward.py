"""A stolen key drives a gateway to the highest number: the owner's new epoch undoes all of it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash.kit import MemoryBoard, esp_image
from fwsign.errors import Failed
from fwsign.flash import backends
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.format.suit import MAX_SEQUENCE_NUMBER
from fwsign.gateway.rehearse import rehearse
from fwsign.gateway.run.session import INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.trust import apply
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines
from fwsign.trust.lists import Floors
from fwsign.verify.policy import DevicePolicy
from gateway.kit import Gateway, make_gateway, pki
from support import NOW, PRODUCT, VENDOR, component, refused
from trust.test_update import root, sign, update

OLD = pki().root
WAY_BACK = sign(update(1, root(OLD), epoch=1, floors=Floors(sequence=150)), OLD.key)
NO_EPOCH = sign(update(1, root(OLD)), OLD.key)
NO_FLOOR = sign(update(1, root(OLD), epoch=1), OLD.key)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway with release 100, whose command for app.tar fails where the file says so."""
    gateway = make_gateway(tmp_path)
    command = ["/bin/sh", "-c", f"test ! -e {tmp_path}/broken"]
    gateway.configure(f'[exec]\n"app.tar" = {json.dumps(command)}\n')
    (tmp_path / "device.toml").symlink_to("etc/device.toml")
    gateway.install(release(gateway, 100))
    return gateway


def release(gateway: Gateway, number: int, *names: str) -> Path:
    data = str(number).encode()
    return gateway.release(number, dict.fromkeys(names or ("app.tar", "b.bin"), data))


def begin(gateway: Gateway, number: int) -> None:
    """Install a release whose command fails."""
    (gateway.base / "broken").touch()
    with refused("io.hook"):
        gateway.install(release(gateway, number))
    (gateway.base / "broken").unlink()
    assert gateway.floor == number


def unfinished(gateway: Gateway) -> int | None:
    with State.open(gateway.base / "state.db") as state:
        found = release_record.read(state, INTENT)
    return found.sequence if found else None


def rehearsed(gateway: Gateway, *candidates: bytes | Path) -> str:
    given = [one if isinstance(one, bytes) else one.read_bytes() for one in candidates]
    (found,) = rehearse(gateway.base, given, DevicePolicy(), NOW)
    return found.refusal.code if found.refusal else found.verdict


def ended(gateway: Gateway) -> list[str]:
    with State.open(gateway.base / "state.db") as state:
        last = list(judge_lines(state.receipt_lines()))[-1].content
    assert (last["result"], last["trust_list"]["epoch"]) == ("trust updated", 1)
    return list(last["ended"])


def test_a_new_epoch_undoes_a_fast_forward_whose_command_failed(gateway: Gateway) -> None:
    """The whole story: theft, fast-forward, failed command, way back, genuine releases."""
    begin(gateway, MAX_SEQUENCE_NUMBER)
    with refused("unsuitable.rollback"):
        gateway.install(release(gateway, 200))
    assert rehearsed(gateway, release(gateway, 200)) == "unsuitable.rollback"
    assert rehearsed(gateway, WAY_BACK, release(gateway, 200)) == "accepts"
    assert rehearsed(gateway, WAY_BACK, release(gateway, 149)) == "unsuitable.rollback"
    assert unfinished(gateway) == MAX_SEQUENCE_NUMBER  # a rehearsal changes nothing
    apply(gateway.device, WAY_BACK, NOW, None)
    assert (gateway.floor, unfinished(gateway)) == (150, None)
    assert len(ended(gateway)) == 1
    assert gateway.installed == {"b.bin": b"100"}
    with refused("unsuitable.rollback"):
        gateway.install(release(gateway, 149))
    assert gateway.install(release(gateway, 200)).verdict == "installed"
    assert (gateway.floor, gateway.installed) == (200, {"b.bin": b"200"})
    assert gateway.install(release(gateway, 201)).verdict == "installed"


def test_there_is_no_number_above_the_highest(gateway: Gateway) -> None:
    with refused("malformed.profile", f"is not a number from 0 to {MAX_SEQUENCE_NUMBER}"):
        gateway.install(release(gateway, MAX_SEQUENCE_NUMBER + 1))
    assert gateway.results[-1] == ("refused", "malformed.profile")
    assert gateway.floor == 100


def test_an_update_without_a_new_epoch_ends_nothing(gateway: Gateway) -> None:
    begin(gateway, 300)
    apply(gateway.device, NO_EPOCH, NOW, None)
    assert (gateway.floor, unfinished(gateway)) == (300, 300)


def test_a_new_epoch_without_floors_ends_the_intent_alone(gateway: Gateway) -> None:
    begin(gateway, 300)
    apply(gateway.device, NO_FLOOR, NOW, None)
    assert (gateway.floor, unfinished(gateway)) == (300, None)
    assert gateway.install(release(gateway, 300, "c.bin")).verdict == "installed"


def test_a_new_epoch_with_nothing_begun_ends_nothing(gateway: Gateway) -> None:
    apply(gateway.device, WAY_BACK, NOW, None)
    assert ended(gateway) == []


def test_a_rehearsal_knows_an_unfinished_release(gateway: Gateway) -> None:
    begin(gateway, 300)
    beside = release(gateway, 300, "c.bin")
    with refused("state.unfinished"):
        gateway.install(beside)
    assert rehearsed(gateway, beside) == "state.unfinished"
    assert rehearsed(gateway, NO_EPOCH, beside) == "state.unfinished"
    assert rehearsed(gateway, NO_FLOOR, beside) == "accepts"
    newer = release(gateway, 301)
    assert rehearsed(gateway, newer, beside) == "unsuitable.rollback"
    assert rehearsed(gateway, beside, newer) == "state.unfinished"
    assert rehearsed(gateway, newer, release(gateway, 302)) == "accepts"


def test_a_rehearsal_knows_what_has_no_place_on_the_device(gateway: Gateway) -> None:
    path = gateway.base / "board.suit"
    gateway.sign(path, 300, [part(b"image")])
    with refused("unsuitable.target"):
        gateway.install(path)
    assert rehearsed(gateway, path) == "unsuitable.target"


def part(image: bytes) -> Component:
    facts = Digest(SHA256, digest(SHA256, image))
    return Component(flash_identifier("esp32c3", 0x10000), facts, len(image), "esp.bin")


def test_a_killed_update_leaves_intent_and_floor_together(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(gateway, MAX_SEQUENCE_NUMBER)

    def full(*_: Any, **__: Any) -> None:
        raise Failed("io.full", "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(State, "append_receipt", full)
        with refused("io.full"):
            apply(gateway.device, WAY_BACK, NOW, None)
    assert (gateway.floor, unfinished(gateway)) == (MAX_SEQUENCE_NUMBER, MAX_SEQUENCE_NUMBER)
    apply(gateway.device, WAY_BACK, NOW, None)
    assert (gateway.floor, unfinished(gateway)) == (150, None)


def test_a_new_epoch_undoes_a_fast_forward_of_boards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, image = MemoryBoard(), esp_image()

    @contextlib.contextmanager
    def attached(*_: object) -> Iterator[Any]:
        yield board.connect

    monkeypatch.setattr(backends, "attached", attached)
    gateway = make_gateway(tmp_path)
    gateway.configure('[flash]\nesp32c3 = "sim:esp32c3"\n')

    def signed(number: int, data: bytes) -> Path:
        folder = tmp_path / f"release-{number}"
        folder.mkdir()
        (folder / "esp.bin").write_bytes(image)
        (folder / "a.bin").write_bytes(data)
        return gateway.sign(folder / "x.suit", number, [part(image), component(data, "a.bin")])

    def gone(_: int) -> None:
        if board.did("erase"):
            raise Failed("device.lost", "the cable was pulled")

    board.fault = gone
    with refused("device.lost"):
        gateway.install(signed(MAX_SEQUENCE_NUMBER, b"evil"))
    with State.open(tmp_path / "state.db") as state:
        floor = state.floor(board.info.identity, VENDOR, PRODUCT)
    assert floor is not None
    assert (floor.sequence, unfinished(gateway)) == (MAX_SEQUENCE_NUMBER, MAX_SEQUENCE_NUMBER)
    board.fault = lambda _: None
    apply(gateway.device, WAY_BACK, NOW, None)
    assert gateway.install(signed(200, b"good")).verdict == "installed"
    assert gateway.installed == {"a.bin": b"good"}
    assert board.flash[0x10000 : 0x10000 + len(image)] == image
