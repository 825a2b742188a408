"""Commands with three verbs and boards go back with the files, and what cannot is named."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash.kit import MemoryBoard, board_info, esp_image, stock
from fwsign.errors import Failed, FwsignError
from fwsign.flash import backends
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.gateway.enrol import status
from fwsign.gateway.run import hooks, verb_commands
from fwsign.memory.state import State
from gateway.kit import crls
from gateway.trial_kit import TrialGateway
from support import DAY, NOW, PRODUCT, VENDOR, component, refused, require_package

SAMPLES = Path(__file__).parents[2] / "firmware-samples"
SCRIPT = """#!/bin/sh
echo "$FWSIGN_VERB $FWSIGN_COMPONENT $FWSIGN_SEQUENCE $(cat)" >> {log}
exec /bin/sh {base}/$FWSIGN_VERB
"""
VERBS = ("activate", "confirm", "revert")


class Loader:
    """Three commands for load.bin, and what they were called with."""

    def __init__(self, gateway: TrialGateway, *names: str) -> None:
        self.log, self.base = gateway.base / "calls", gateway.base / "verbs"
        self.base.mkdir()
        for verb in VERBS:
            self.does(verb, "exit 0")
        runner = self.base / "run"
        runner.write_text(SCRIPT.format(log=self.log, base=self.base))
        runner.chmod(0o755)
        for name in names or ("load.bin",):
            verbs = {verb: [str(runner)] for verb in VERBS}
            gateway.configure(f"[exec.{json.dumps(name)}]", **verbs)

    def does(self, verb: str, script: str) -> None:
        """Let a verb do something else."""
        (self.base / verb).write_text(f"{script}\n")

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


@pytest.fixture
def loader(gateway: TrialGateway) -> Loader:
    return Loader(gateway)


def both(gateway: TrialGateway, number: int, data: bytes) -> Path:
    return gateway.plain.release(number, {"app.tar": data, "load.bin": b"load " + data})


@pytest.mark.parametrize("limit", [hooks.IN_MEMORY, 0])
def test_three_verbs_go_forward_and_back(
    gateway: TrialGateway, loader: Loader, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(hooks, "IN_MEMORY", limit)
    gateway.install(both(gateway, 1, b"old"))
    assert loader.calls == ["activate load.bin 1 load old", "confirm load.bin 1 "]
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(both(gateway, 2, b"new"))
    assert loader.calls[2:] == ["activate load.bin 2 load new", "revert load.bin 1 load old"]
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)
    gateway.healthy("exit 0")
    assert gateway.install(both(gateway, 3, b"3")).verdict == "installed"
    assert loader.calls[4:] == ["activate load.bin 3 load 3", "confirm load.bin 3 "]
    with refused("unsuitable.rollback"):
        gateway.install(both(gateway, 1, b"old"))


def test_the_first_release_of_all_is_reverted_to_nothing(
    gateway: TrialGateway, loader: Loader
) -> None:
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "nothing is installed"):
        gateway.install(both(gateway, 1, b"one"))
    assert loader.calls == ["activate load.bin 1 load one", "revert load.bin  "]
    assert (gateway.plain.installed, gateway.floor) == (None, None)


@pytest.mark.parametrize("verb", ["activate", "confirm"])
def test_a_verb_that_fails_takes_the_release_back(
    gateway: TrialGateway, loader: Loader, verb: str
) -> None:
    gateway.install(both(gateway, 1, b"old"))
    loader.does(verb, "echo no room; exit 9")
    with refused("unsuitable.trial", "run ended with status 9", "release 1 is in place again"):
        gateway.install(both(gateway, 2, b"new"))
    assert loader.calls[-1] == "revert load.bin 1 load old"
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)
    with refused("unsuitable.failed-before", "status 9"):
        gateway.install(both(gateway, 2, b"new"))


def test_a_command_that_cannot_be_reverted_is_tried_again_then_named(
    gateway: TrialGateway, loader: Loader
) -> None:
    gateway.install(both(gateway, 1, b"old"))
    loader.does("revert", "exit 4")
    gateway.healthy("exit 1")
    with refused("io.hook", "run ended with status 4"):
        gateway.install(both(gateway, 2, b"new"))
    assert (gateway.app, gateway.floor) == (b"old", 1)
    gateway.healthy("exit 0")
    with refused("io.hook", "run ended with status 4"):  # before anything else
        gateway.install(both(gateway, 3, b"3"))
    done = gateway.judge()
    assert done.verdict == "fell back"
    assert "load.bin is not back: " in done.notes[0]
    assert "status 4" in done.notes[0]
    assert gateway.results[-1] == "fell back"
    assert [one for one in loader.calls if one.startswith("revert")] == [
        "revert load.bin 1 load old"
    ] * 3
    assert gateway.install(both(gateway, 3, b"3")).verdict == "installed"


def test_a_release_of_commands_alone_is_tried_too(gateway: TrialGateway, loader: Loader) -> None:
    gateway.install(gateway.plain.release(1, {"load.bin": b"1"}))
    gateway.healthy("exit 1")
    with refused("unsuitable.trial"):
        gateway.install(gateway.plain.release(2, {"load.bin": b"2"}))
    assert loader.calls[-1] == "revert load.bin 1 1"
    assert (gateway.floor, gateway.record, gateway.plain.installed) == (1, None, None)


def test_after_a_release_without_files_the_next_one_is_tried_too(
    gateway: TrialGateway, loader: Loader
) -> None:
    """It left the files of an older release in use, and these are in use again."""
    gateway.install(gateway.release(1, b"one"))
    gateway.install(gateway.plain.release(2, {"load.bin": b"2"}))
    assert gateway.app == b"one"
    gateway.healthy("exit 1")
    for number in (3, 4):
        with refused("unsuitable.trial", "release 2 is in place again"):
            gateway.install(both(gateway, number, b"new"))
        assert (gateway.app, gateway.floor, gateway.record) == (b"one", 2, None)
        assert loader.calls[-1] == "revert load.bin 2 2"
    gateway.healthy("exit 0")
    assert gateway.install(both(gateway, 5, b"5")).notes == ()
    assert (gateway.app, gateway.floor) == (b"5", 5)


def test_a_command_that_goes_forward_only_is_not_tried_and_that_is_told(
    gateway: TrialGateway,
) -> None:
    gateway.configure("[exec]", **{'"load.bin"': ["/bin/true"]})
    gateway.healthy("exit 1")
    done = gateway.install(both(gateway, 1, b"one"))
    assert (done.verdict, done.notes) == ("installed", ("no trial: load.bin goes forward only",))
    assert (gateway.floor, gateway.asked) == (1, [])
    with State.open(gateway.base / "state.db") as state:
        receipt = json.loads(str(state.last_receipt()))
    assert receipt["no_trial"] == "load.bin goes forward only"
    assert status(gateway.plain.device)["installed"]["no_trial"] == receipt["no_trial"]


def test_an_activation_that_ends_the_machine_does_not_begin_for_ever(
    gateway: TrialGateway, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reboot(BaseException):
        """The machine starts anew."""

    def end(*_: Any) -> None:
        raise Reboot

    gateway.install(both(gateway, 1, b"old"))
    second = both(gateway, 2, b"new")
    for number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(verb_commands, "activate", end)
            with pytest.raises(Reboot):
                gateway.install(second)
        gateway.machine.reboot()
        found = gateway.judge()
        assert (found.verdict, found.reason) == (
            "fell back",
            "it was interrupted while it was put in place",
        )
        assert loader.calls[-1] == "revert load.bin 1 load old"
        assert [(one.interrupted, one.reason is None) for one in gateway.failed] == [
            (number + 1, True) if number < 2 else (2, False)
        ]
    with refused("unsuitable.failed-before", "interrupted"):
        gateway.install(second)
    assert (gateway.app, gateway.floor) == (b"old", 1)


def test_without_a_trial_three_verbs_go_forward_and_are_confirmed(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path)
    config = gateway.plain.config
    config.write_text(config.read_text().partition("[trial]")[0])
    loader = Loader(gateway)
    loader.does("confirm", "exit 5")
    first = both(gateway, 1, b"one")
    with refused("io.hook", "run ended with status 5"):
        gateway.install(first)
    loader.does("confirm", "exit 0")
    assert gateway.install(first).verdict == "installed"
    assert loader.calls == ["activate load.bin 1 load one", "confirm load.bin 1 "] * 2
    assert (gateway.app, gateway.floor) == (b"one", 1)
    assert {one.name for one in (gateway.plain.target / ".fwsign").iterdir()} == {"lock"}


def test_a_component_that_was_a_file_before_is_reverted_to_nothing(gateway: TrialGateway) -> None:
    gateway.install(both(gateway, 1, b"old"))
    loader = Loader(gateway)
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(both(gateway, 2, b"new"))
    assert loader.calls == ["activate load.bin 2 load new", "revert load.bin 1 "]
    assert gateway.plain.installed == {"app.tar": b"old", "load.bin": b"load old"}


# --- boards ---------------------------------------------------------------------------------------

PORTS = {"esp32c3": "sim:esp32c3", "esp32s3": "sim:esp32s3"}
Boards = dict[str, MemoryBoard]


@pytest.fixture
def boards(gateway: TrialGateway, monkeypatch: pytest.MonkeyPatch) -> Boards:
    """Two boards behind the gateway."""
    found = {
        port: MemoryBoard(stock(chip), board_info(chip=chip, identity=f"mac:{chip}"))
        for chip, port in PORTS.items()
    }

    @contextlib.contextmanager
    def attached(port: str, how: object) -> Iterator[Any]:
        del how
        yield found[port].connect

    monkeypatch.setattr(backends, "attached", attached)
    gateway.configure("[flash]", **PORTS)
    return found


def images(number: int, chips: tuple[str, ...] = tuple(PORTS)) -> dict[str, bytes]:
    return {chip: esp_image(chip, seed=number) for chip in chips}


def with_boards(
    gateway: TrialGateway, number: int, chips: tuple[str, ...] = tuple(PORTS), **more: Any
) -> Path:
    folder = gateway.base / f"boards-{number}-{len(chips)}"
    folder.mkdir(exist_ok=True)
    file = b"file %d" % number
    parts = [component(file, "app.tar")]
    (folder / "app.tar").write_bytes(file)
    for chip, image in images(number, chips).items():
        facts = Digest(SHA256, digest(SHA256, image))
        name = f"{chip}.bin"
        parts.append(Component(flash_identifier(chip, 0x10000), facts, len(image), name))
        (folder / name).write_bytes(image)
    return gateway.plain.sign(folder / "update.suit", number, parts, **more)


def holds(boards: Boards, number: int) -> bool:
    return all(
        boards[PORTS[chip]].holds({f"{chip}@0x10000": image})
        for chip, image in images(number).items()
    )


def floors(gateway: TrialGateway) -> list[int | None]:
    with State.open(gateway.base / "state.db") as state:
        found = [state.floor(f"mac:{chip}", VENDOR, PRODUCT) for chip in PORTS]
    return [one.sequence if one else None for one in found]


def test_gateway_and_boards_return_together_with_their_floors(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1))
    assert (holds(boards, 1), floors(gateway), gateway.floor) == (True, [1, 1], 1)
    gateway.healthy("exit 75")
    gateway.install(with_boards(gateway, 2))
    assert (holds(boards, 2), floors(gateway), gateway.floor) == (True, [1, 1], 1)
    gateway.machine.seconds += 600
    assert gateway.judge().verdict == "fell back"
    assert (holds(boards, 1), floors(gateway), gateway.floor) == (True, [1, 1], 1)
    assert (gateway.app, gateway.record) == (b"file 1", None)


def test_floors_of_boards_rise_with_the_commit(gateway: TrialGateway, boards: Boards) -> None:
    gateway.install(with_boards(gateway, 1))
    gateway.install(with_boards(gateway, 2))
    assert (holds(boards, 2), floors(gateway), gateway.floor) == (True, [2, 2], 2)
    assert gateway.results[-3:] == ["verified", "verified", "committed"]


def test_a_board_that_fails_during_a_trial_takes_all_back_and_nothing_is_blamed(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1))
    broken = boards["sim:esp32s3"]

    def gone(step: int) -> None:
        if step >= 3:
            broken.fault = lambda _: None
            raise Failed("device.changed", "the cable was pulled")

    broken.fault = gone
    with refused("device.changed", "the cable was pulled", "the release before is in place again"):
        gateway.install(with_boards(gateway, 2))
    assert (holds(boards, 1), floors(gateway), gateway.app) == (True, [1, 1], b"file 1")
    assert [(one.interrupted, one.reason) for one in gateway.failed] == [(1, None)]
    assert gateway.install(with_boards(gateway, 2)).verdict == "installed"
    assert (holds(boards, 2), floors(gateway)) == (True, [2, 2])


def test_a_board_that_cannot_be_brought_back_is_named(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1))
    gateway.healthy("exit 75")
    gateway.install(with_boards(gateway, 2))

    def dead(_: int) -> None:
        raise Failed("device.changed", "no board answers")

    boards["sim:esp32s3"].fault = dead
    gateway.machine.seconds += 600
    for _ in range(2):
        with refused("device.changed", "no board answers"):
            gateway.judge()
        assert gateway.app == b"file 1"
    found = gateway.judge()
    assert (found.verdict, found.notes) == (
        "fell back",
        ("sim:esp32s3 is not back: no board answers",),
    )
    assert "sim:esp32s3 is not back" in str(found.refusal())
    with State.open(gateway.base / "state.db") as state:
        receipt = json.loads(str(state.last_receipt()))
    assert receipt["trial_notes"] == list(found.notes)
    assert boards["sim:esp32c3"].holds({"esp32c3@0x10000": images(1)["esp32c3"]})


def test_another_board_at_the_port_is_not_flashed_back(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1))
    gateway.healthy("exit 75")
    gateway.install(with_boards(gateway, 2))
    other = MemoryBoard(stock("esp32c3"), board_info(chip="esp32c3", identity="mac:other"))
    boards["sim:esp32c3"] = other
    gateway.machine.seconds += 600
    found = None
    for _ in range(3):
        with contextlib.suppress(FwsignError):
            found = gateway.judge()
    assert found is not None
    (note,) = found.notes
    assert note.startswith("sim:esp32c3 is not back: at sim:esp32c3 is another board than the one")
    assert other.did("erase") == []


def test_a_board_that_the_release_before_had_nothing_for_is_named(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1, ("esp32c3",)))
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "sim:esp32s3: the release before had nothing for this board"):
        gateway.install(with_boards(gateway, 2))
    assert boards["sim:esp32c3"].holds({"esp32c3@0x10000": images(1)["esp32c3"]})


def test_a_board_whose_port_is_gone_from_device_toml_is_named(
    gateway: TrialGateway, boards: Boards
) -> None:
    gateway.install(with_boards(gateway, 1))
    gateway.healthy("exit 75")
    gateway.install(with_boards(gateway, 2))
    config = gateway.plain.config
    config.write_text(config.read_text().replace('esp32s3 = "sim:esp32s3"', ""))
    gateway.healthy("exit 1")
    found = gateway.judge()
    words = "sim:esp32s3: it is not back: device.toml has no port for esp32s3 any more"
    assert (found.verdict, found.notes) == ("fell back", (words,))
    assert boards["sim:esp32c3"].holds({"esp32c3@0x10000": images(1)["esp32c3"]})
    assert (floors(gateway), gateway.app) == ([1, 1], b"file 1")


def test_boards_return_although_time_has_passed(gateway: TrialGateway, boards: Boards) -> None:
    gateway.install(with_boards(gateway, 1, crls=crls(1, days=(-1, 2))))
    gateway.healthy("exit 75")
    second = with_boards(gateway, 2, crls=crls(9, days=(20, 40)))
    gateway.install(second, at=NOW + 21 * DAY)
    gateway.machine.seconds += 600
    assert gateway.judge().verdict == "fell back"
    assert holds(boards, 1)


def test_a_simulated_esp32_and_a_pico_return_with_their_gateway(gateway: TrialGateway) -> None:
    """Each speaks its own boot loader's protocol, through esptool and a line."""
    require_package("serial")
    require_package("esptool")
    base = gateway.base
    ports = {
        "esp32c3": f"sim:esp32c3?flash={base}/esp.flash&id=a0b765c1d2e3",
        "rp2040": f"sim:pico-uart?flash={base}/pico.flash&id=0011223344556677",
    }
    gateway.configure("[flash]", **ports)
    pico = (SAMPLES / "blink-rp2040-uart.bin").read_bytes()
    places = {"esp32c3": ("esp.flash", 0x10000), "rp2040": ("pico.flash", 0x4000)}

    def made(number: int) -> dict[str, bytes]:
        return {"esp32c3": esp_image("esp32c3", seed=number), "rp2040": pico + bytes([number]) * 8}

    def release(number: int) -> Path:
        folder = base / f"sim-{number}"
        folder.mkdir()
        parts = [component(b"file %d" % number, "app.tar")]
        (folder / "app.tar").write_bytes(b"file %d" % number)
        for chip, image in made(number).items():
            facts, name = Digest(SHA256, digest(SHA256, image)), f"{chip}.bin"
            place = flash_identifier(chip, places[chip][1])
            parts.append(Component(place, facts, len(image), name))
            (folder / name).write_bytes(image)
        return gateway.plain.sign(folder / "update.suit", number, parts)

    def hold(number: int) -> bool:
        return all(
            (base / places[chip][0]).read_bytes()[places[chip][1] :].startswith(image)
            for chip, image in made(number).items()
        )

    def board_floors() -> list[int]:
        with State.open(base / "state.db") as state:
            rows = state._file.run("SELECT sequence FROM floors WHERE identity <> ''").fetchall()
        return [number for (number,) in rows]

    gateway.install(release(1))
    assert (hold(1), gateway.app, board_floors()) == (True, b"file 1", [1, 1])
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "status 1; release 1 is in place again"):
        gateway.install(release(2))
    assert (hold(1), gateway.app, board_floors(), gateway.floor) == (True, b"file 1", [1, 1], 1)
    gateway.healthy("exit 0")
    gateway.install(release(3))
    assert (hold(3), gateway.app, board_floors(), gateway.floor) == (True, b"file 3", [3, 3], 3)
