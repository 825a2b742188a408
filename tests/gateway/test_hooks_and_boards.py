"""Commands and boards: they get verified bytes that nobody can change, and only forward."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash.kit import MemoryBoard, board_info, esp_image, stock
from fwsign.flash import backends
from fwsign.format import cbor
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.gateway.run import hooks
from fwsign.gateway.run.session import INTENT
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from support import PRODUCT, VENDOR, component, refused

COMMAND = """
import json, os, stat, sys
facts = {"data": sys.stdin.buffer.read().decode(), "environment": dict(os.environ)}
facts["arguments"], facts["cwd"] = sys.argv[2:], os.getcwd()
linux = os.path.isdir("/proc/self/fd")
opened = [one for one in range(99) if os.path.exists(f"/proc/self/fd/{one}")]
facts["open"] = [one for one in opened if one < 3] if linux else [0, 1, 2]
facts["locks"] = [os.readlink(f"/proc/self/fd/{one}") for one in opened if one > 2]
facts["links"] = os.fstat(0).st_nlink
writable = []
for how in ("write", "truncate", "open"):
    try:
        if how == "write":
            os.write(0, b"evil")
        elif how == "truncate":
            os.ftruncate(0, 1)
        else:
            os.write(os.open("/dev/fd/0", os.O_WRONLY), b"evil")
        writable.append(how)
    except OSError:
        pass
facts["writable"] = writable
open(sys.argv[1], "w").write(json.dumps(facts))
print("this is for people")
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway that gives app.tar to a command."""
    gateway = make_gateway(tmp_path)
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "facts"), "--fixed", "two words"]
    gateway.configure(f'[exec]\n"app.tar" = {json.dumps(words)}\n')
    return gateway


def facts(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((gateway.base / "facts").read_text())
    return found


def hook(gateway: Gateway, *words: str) -> None:
    """Let app.tar go to another command."""
    text = gateway.config.read_text()
    gateway.config.write_text(
        text[: text.index("[exec]")] + f'[exec]\n"app.tar" = {json.dumps(words)}\n'
    )


def intent(gateway: Gateway) -> dict[str, Any] | None:
    with State.open(gateway.base / "state.db") as state:
        text = state.remembered(INTENT)
    return json.loads(text) if text else None


@pytest.mark.parametrize("limit", [hooks.IN_MEMORY, 0])
def test_a_command_gets_the_payload_and_cannot_change_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(hooks, "IN_MEMORY", limit)
    monkeypatch.setenv("SECRET", "x")
    gateway.install(gateway.release(5, {"app.tar": b"for the command", "b.bin": b"b"}))
    found = facts(gateway)
    assert found["data"] == "for the command"
    assert found["arguments"] == ["--fixed", "two words"]
    assert found["environment"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert found["environment"] == {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "FWSIGN_COMPONENT": "app.tar",
        "FWSIGN_SEQUENCE": "5",
        "FWSIGN_VERSION": "",
    }
    assert found["cwd"] == "/"
    assert found["open"] == [0, 1, 2]
    if sys.platform == "linux":
        assert found["locks"] == [str(gateway.target / ".fwsign")]
    assert found["links"] == (0 if limit else 1)  # it is not fetched again if the command fails
    if limit or os.geteuid() != 0:  # a file's owner may open it anew; nobody writes sealed memory
        assert found["writable"] == []
    assert gateway.installed == {"b.bin": b"b"}
    assert gateway.results[1:] == [("accepted", None), ("installed", None)]


def test_a_release_of_commands_alone_leaves_the_files(gateway: Gateway) -> None:
    gateway.install(gateway.release(1, {"b.bin": b"b"}))
    only = gateway.release(2, {"app.tar": b"a"})
    gateway.install(only)
    assert gateway.installed == {"b.bin": b"b"}
    (gateway.base / "facts").unlink()
    assert gateway.install(only).verdict == "already installed"
    assert not (gateway.base / "facts").exists()


def test_a_file_that_a_command_took_before_is_installed_once_it_has_none(gateway: Gateway) -> None:
    envelope = gateway.release(1, {"app.tar": b"one"})
    gateway.install(envelope)
    assert gateway.installed is None
    text = gateway.config.read_text()
    gateway.config.write_text(text[: text.index("[exec]")])
    assert gateway.install(envelope).verdict == "installed"
    assert gateway.installed == {"app.tar": b"one"}


def test_a_version_that_no_environment_can_hold_is_not_given_to_a_command(
    gateway: Gateway,
) -> None:
    part = component(b"one", "app.tar")
    text = encode_text(Text(VENDOR, PRODUCT, "1\x00", None), (part,))
    envelope = gateway.release(1, {"app.tar": b"one"})
    signed = Digest(SHA256, digest(SHA256, cbor.byte_string_head(len(text)), text))
    gateway.sign(envelope, 1, [part], text_digest=signed, text=text)
    gateway.install(envelope)
    assert facts(gateway)["environment"]["FWSIGN_VERSION"] == ""


def test_a_command_that_fails_goes_forward_only(gateway: Gateway) -> None:
    good = list(gateway.device.hooks["app.tar"])
    gateway.install(gateway.release(1, {"app.tar": b"1", "b.bin": b"1"}))
    hook(gateway, "/bin/sh", "-c", "exit 3")
    second = gateway.release(2, {"app.tar": b"2", "b.bin": b"2"})
    with refused("io.hook", "/bin/sh ended with status 3"):
        gateway.install(second)
    assert (gateway.installed, gateway.floor) == ({"b.bin": b"1"}, 2)
    assert gateway.results[-1] == ("incomplete", "io.hook")
    begun = intent(gateway)
    assert begun is not None
    assert begun["forward_only"]
    with refused("io.hook"):
        gateway.install(second)  # the same again leaves no more receipts
    assert gateway.results[-2:] == [("accepted", None), ("incomplete", "io.hook")]
    with refused("unsuitable.rollback"):
        gateway.install(gateway.release(1, {"app.tar": b"1"}))
    with refused("state.unfinished", "release 2 was begun", "forward only"):
        gateway.install(gateway.release(2, {"c.bin": b"2"}))
    assert intent(gateway) == begun
    hook(gateway, *good)
    gateway.install(None)  # --resume
    assert facts(gateway)["data"] == "2"
    assert (gateway.installed, intent(gateway)) == ({"b.bin": b"2"}, None)


def test_a_newer_release_replaces_one_whose_command_failed(gateway: Gateway) -> None:
    good = list(gateway.device.hooks["app.tar"])
    hook(gateway, "/bin/false")
    with refused("io.hook"):
        gateway.install(gateway.release(2, {"app.tar": b"2"}))
    hook(gateway, *good)
    gateway.install(gateway.release(3, {"app.tar": b"3"}))
    assert (facts(gateway)["data"], intent(gateway)) == ("3", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nonexistent/command"], "cannot be started: no such file or directory"),
        (["/bin/sh", "-c", "kill -9 $$"], "ended with signal 9"),
    ],
)
def test_a_command_that_does_not_end_well_is_named(
    gateway: Gateway, words: list[str], said: str
) -> None:
    hook(gateway, *words)
    with refused("io.hook", words[0], said):
        gateway.install(gateway.release(1, {"app.tar": b"1"}))


def test_a_command_that_never_ends_is_killed_with_its_children(gateway: Gateway) -> None:
    hook(gateway, "/bin/sh", "-c", "sleep 1000 & sleep 1000")
    device = gateway.device._replace(hook_seconds=0)
    with refused("io.hook", "did not end within 0 seconds"):
        gateway.install(gateway.release(1, {"app.tar": b"1"}), device=device)


@pytest.mark.parametrize("limit", [hooks.IN_MEMORY, 0])
def test_bytes_that_changed_since_they_were_verified_never_reach_a_command(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(hooks, "IN_MEMORY", limit)
    run = hooks.run_hook

    def swap(*arguments: Any) -> None:
        (gateway.target / ".fwsign/stage/others/0").write_bytes(b"bad")
        run(*arguments)

    with monkeypatch.context() as patch, refused("tampered.payload-digest"):
        patch.setattr(hooks, "run_hook", swap)
        gateway.install(gateway.release(1, {"app.tar": b"new"}))
    assert not (gateway.base / "facts").exists()
    gateway.install(None)
    assert facts(gateway)["data"] == "new"


# --- boards --------------------------------------------------------------------------------------

IMAGE = esp_image()


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryBoard:
    """A gateway with an ESP32-C3 behind it."""
    found = MemoryBoard()

    @contextlib.contextmanager
    def attached(port: str, how: object) -> Iterator[Any]:
        assert port == "sim:esp32c3"
        assert getattr(how, "kind", None) == "esp"
        yield found.connect

    monkeypatch.setattr(backends, "attached", attached)
    make_gateway(tmp_path).configure('[flash]\nesp32c3 = "sim:esp32c3"\n')
    return found


def flash_release(gateway: Gateway, number: int, image: bytes, file: bytes) -> Path:
    facts = Digest(SHA256, digest(SHA256, image))
    part = Component(flash_identifier("esp32c3", 0x10000), facts, len(image), "esp.bin")
    folder = gateway.base / f"flash-{number}"
    folder.mkdir()
    (folder / "esp.bin").write_bytes(image)
    (folder / "app.tar").write_bytes(file)
    return gateway.sign(folder / "update.suit", number, [part, component(file, "app.tar")])


def test_a_board_behind_the_gateway_is_flashed_and_remembered(
    board: MemoryBoard, tmp_path: Path
) -> None:
    gateway = Gateway(tmp_path)
    done = gateway.install(flash_release(gateway, 3, IMAGE, b"file"))
    assert board.flash[0x10000 : 0x10000 + len(IMAGE)] == IMAGE
    assert gateway.installed == {"app.tar": b"file"}
    assert gateway.results[1:] == [("accepted", None), ("verified", None), ("installed", None)]
    assert any(note.endswith("they go elsewhere: app.tar") for note in done.notes)
    with State.open(tmp_path / "state.db") as state:
        own = state.floor(board.info.identity, VENDOR, PRODUCT)
    assert own is not None
    assert own.sequence == 3


def test_a_policy_for_device_data_is_a_file_for_a_gateway_and_fills_nothing(
    board: MemoryBoard, tmp_path: Path
) -> None:
    policy = (
        b'version = 1\nrequired = true\n[[partition]]\nchip = "esp32c3"\noffset = 0xf0000\n'
        b'size = 4096\nformat = "raw"\n[[partition.value]]\ncolumn = "a"\ntype = "blob"\nmax = 1\n'
    )
    gateway = Gateway(tmp_path)
    folder = gateway.base / "data"
    folder.mkdir()
    (folder / "esp.bin").write_bytes(IMAGE)
    (folder / "device-data.toml").write_bytes(policy)
    facts = Digest(SHA256, digest(SHA256, IMAGE))
    part = Component(flash_identifier("esp32c3", 0x10000), facts, len(IMAGE), "esp.bin")
    parts = [part, component(policy, "device-data.toml")]
    assert gateway.install(gateway.sign(folder / "x.suit", 1, parts)).verdict == "installed"
    assert gateway.installed == {"device-data.toml": policy}
    assert board.holds({"esp32c3@0x10000": IMAGE})
    assert bytes(board.flash[0xF0000:0xF1000]) == b"\xff" * 4096


def test_a_board_that_fails_leaves_the_release_unfinished(
    board: MemoryBoard, tmp_path: Path
) -> None:
    from fwsign.errors import Failed  # here alone

    gateway = Gateway(tmp_path)

    def gone(step: int) -> None:
        if step >= 3:
            raise Failed("device.lost", "the cable was pulled")

    board.fault = gone
    with refused("device.lost", "the cable was pulled"):
        gateway.install(flash_release(gateway, 3, IMAGE, b"file"))
    assert (gateway.installed, gateway.floor) == (None, 3)
    begun = intent(gateway)
    assert begun is not None
    assert begun["forward_only"]
    board.fault = lambda _: None
    gateway.install(None)
    assert gateway.installed == {"app.tar": b"file"}
    assert intent(gateway) is None


def test_boards_are_asked_again_even_where_the_release_is_installed(
    board: MemoryBoard, tmp_path: Path
) -> None:
    gateway = Gateway(tmp_path)
    envelope = flash_release(gateway, 3, IMAGE, b"file")
    gateway.install(envelope)
    board.flash[0x10000] ^= 1  # somebody else wrote to it
    assert gateway.install(envelope).verdict == "installed"
    assert board.flash[0x10000 : 0x10000 + len(IMAGE)] == IMAGE


def two_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **chips: str) -> dict[str, Any]:
    """A gateway with a board for each chip of device.toml, and the chip that each has in truth."""
    boards = {
        f"sim:{named}": MemoryBoard(stock(real), board_info(chip=real, identity=f"mac:{named}"))
        for named, real in chips.items()
    }

    @contextlib.contextmanager
    def attached(port: str, how: object) -> Iterator[Any]:
        del how
        yield boards[port].connect

    monkeypatch.setattr(backends, "attached", attached)
    ports = "".join(f'{named} = "sim:{named}"\n' for named in chips)
    make_gateway(tmp_path).configure(f"[flash]\n{ports}")
    return boards


def release_for(gateway: Gateway, images: dict[str, bytes], number: int = 3) -> Path:
    parts = []
    folder = gateway.base / f"two-{number}"
    folder.mkdir()
    for chip, image in images.items():
        facts = Digest(SHA256, digest(SHA256, image))
        identifier = flash_identifier(chip, 0x10000)
        parts.append(Component(identifier, facts, len(image), f"{chip}.bin"))
        (folder / f"{chip}.bin").write_bytes(image)
    return gateway.sign(folder / "update.suit", number, parts)


def test_each_board_gets_what_is_for_its_own_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = two_boards(tmp_path, monkeypatch, esp32c3="esp32c3", esp32s3="esp32s3")
    images = {"esp32c3": esp_image("esp32c3"), "esp32s3": esp_image("esp32s3", seed=1)}
    assert Gateway(tmp_path).install(release_for(Gateway(tmp_path), images)).verdict == "installed"
    for chip, image in images.items():
        assert boards[f"sim:{chip}"].holds({f"{chip}@0x10000": image})


def test_boards_that_were_exchanged_leave_no_component_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = two_boards(tmp_path, monkeypatch, esp32c3="esp32c3", esp32s3="esp32c3")
    images = {"esp32c3": esp_image("esp32c3"), "esp32s3": esp_image("esp32s3")}
    gateway = Gateway(tmp_path)
    with refused("unsuitable.chip", "the release is for esp32s3, the board is esp32c3"):
        gateway.install(release_for(gateway, images))
    assert gateway.installed is None
    assert boards["sim:esp32s3"].did("erase") == []
    assert sorted(gateway.results[2:]) == [
        ("incomplete", "unsuitable.chip"),
        ("refused", "unsuitable.chip"),
        ("verified", None),
    ]


def test_receipts_of_boards_have_what_the_gateway_waives(
    board: MemoryBoard, tmp_path: Path
) -> None:
    del board
    gateway = Gateway(tmp_path)
    text = gateway.config.read_text().replace('"require"', '"allow-stale:30d"')
    gateway.config.write_text(text.replace("[policy]", '[policy]\nprofile = "compat"'))
    gateway.install(flash_release(gateway, 3, IMAGE, b"file"))
    with State.open(tmp_path / "state.db") as state:
        found = [json.loads(line) for line in state.receipt_lines()]
    assert [(one["kind"], one["waived"]) for one in found] == [
        ("device", []),
        ("install", ["stale", "compat"]),
        ("flash", ["stale", "compat"]),
        ("install", ["stale", "compat"]),
    ]
