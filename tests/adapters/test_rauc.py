"""A RAUC bundle is a payload: fwsign decides, the real RAUC writes, and the machine starts anew."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.rauc_kit import RaucSystem, rauc_system
from fwsign.adapters import rauc
from fwsign.adapters.rauc import Activated, Rauc
from gateway.trial_kit import TrialGateway
from support import refused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RAUC is for Linux")
NAME = "system.raucb"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RaucSystem, dict[str, bytes]]]:
    """Run one bus for all tests, with three bundles."""
    with rauc_system(tmp_path_factory.mktemp("rauc")) as system:
        contents = {number: (f"system {number} " * 100).encode() for number in ("1", "2", "3")}
        yield system, {number: system.bundle(number, data) for number, data in contents.items()}


@pytest.fixture
def system(
    made: tuple[RaucSystem, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[RaucSystem]:
    """Begin with system A, and nothing in either slot."""
    found, _ = made
    for name, text in {"primary": "A", "state-A": "good", "state-B": "good"}.items():
        (found.loader / name).write_text(f"{text}\n")
    for slot in found.slots:
        slot.write_bytes(bytes(64 * 1024))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", found.environment["DBUS_SYSTEM_BUS_ADDRESS"])
    monkeypatch.setattr(rauc, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("one\n")
    found.boot()
    yield found
    found.stop()


class Called:
    """The adapter, with a file as its standard input."""

    def __init__(self, base: Path) -> None:
        self.base, self.said = base, list[str]()
        self.record = base / "rauc.json"
        self.one = Rauc(self.record, self.said.append)

    def activate(self, bundle: bytes) -> None:
        place = self.base / "bundle"
        place.write_bytes(bundle)
        with place.open("rb") as file:
            self.one.activate(file.fileno())

    def starts(self, system: RaucSystem, name: str | None = None) -> str:
        """Start the machine."""
        boot = self.base / "boot_id"
        boot.write_text(f"{boot.read_text().strip()}+\n")
        return system.boot(name)


@pytest.fixture
def called(tmp_path: Path) -> Called:
    return Called(tmp_path)


@pytest.fixture
def bundles(made: tuple[RaucSystem, dict[str, bytes]]) -> dict[str, bytes]:
    return made[1]


def test_a_bundle_goes_into_the_other_slot_and_stays(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    assert system.starts(1, b"system 1")
    assert not system.starts(0, b"system 1")
    assert system.primary == "B"
    assert not called.one.started()  # the machine was not started
    with refused("state.trial", "does not run yet: start the machine") as caught:
        called.one.confirm()
    assert "fwsign adapter rauc started" in str(caught.value.hint)
    assert called.starts(system) == "B"
    assert called.one.started()
    (system.loader / "state-B").write_text("bad\n")  # as boot loaders do before the first start
    called.one.confirm()
    assert system.state("B") == "good"
    called.one.confirm()  # a second call does no harm


def test_a_second_activation_after_a_start_writes_nothing(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    """A power cut after the start, before fwsign knew that it was activated."""
    system.slots[0].write_bytes(b"the old system" + bytes(1000))
    called.activate(bundles["1"])
    called.starts(system)
    called.activate(bundles["1"])
    assert called.said[-1] == "rootfs.1 runs this bundle already"
    assert system.starts(0, b"the old system")  # RAUC would have written this one


def test_a_second_activation_before_a_start_writes_the_same_slot(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    system.slots[1].write_bytes(bytes(64 * 1024))  # a power cut, and half of it is gone
    called.activate(bundles["1"])
    assert system.starts(1, b"system 1")


def test_revert_before_a_start(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    for _ in range(2):
        called.one.revert()
        assert (system.primary, system.state("B")) == ("A", "bad")


def test_revert_after_a_start_and_after_confirm(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    called.starts(system)
    called.one.confirm()
    for _ in range(2):
        called.one.revert()
        assert (system.primary, system.state("B")) == ("A", "bad")
    assert called.said[-1] == "rootfs.0 runs after the next start of the machine"


def test_the_good_slot_is_not_written_while_the_bad_one_still_runs(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    system.slots[0].write_bytes(b"the old system" + bytes(1000))
    called.activate(bundles["1"])
    called.starts(system)
    called.one.revert()
    with refused("state.trial", "rootfs.0 is to run again", "start the machine first"):
        called.activate(bundles["2"])
    assert system.starts(0, b"the old system")
    assert called.starts(system) == "A"
    called.activate(bundles["2"])
    assert system.starts(1, b"system 2")


def test_the_same_bundle_again_after_it_was_given_up(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    called.starts(system)
    called.one.revert()
    called.activate(bundles["1"])  # fwsign install --retry
    assert system.primary == "B"
    known = Activated.read(called.record)
    assert known is not None
    assert (known.before, known.back) == ("rootfs.0", False)


def test_a_boot_loader_that_goes_back_is_noticed(
    system: RaucSystem, called: Called, bundles: dict[str, bytes]
) -> None:
    called.activate(bundles["1"])
    called.starts(system, "A")
    for call in (called.one.started, called.one.confirm):
        with refused("unsuitable.trial", "the boot loader started rootfs.0 again"):
            call()


def test_a_bundle_that_rauc_refuses(system: RaucSystem, called: Called) -> None:
    with refused("io.hook", "rauc install /proc/", "ended with status 1"):
        called.activate(b"no bundle" * 1000)
    assert system.primary == "A"


def test_without_the_service_of_rauc_the_hint_says_so(tmp_path: Path) -> None:
    program = tmp_path / "rauc"
    program.write_text("#!/bin/sh\necho 'could not connect' >&2\nexit 1\n")
    program.chmod(0o755)
    one = Rauc(tmp_path / "record", print, str(program))
    Activated("0" * 64, "rootfs.0", "boot", back=False).write(one.record)
    with refused("io.hook", "status --output-format=json ended with status 1: could not") as caught:
        one.started()
    assert caught.value.hint == "does RAUC's service run? rauc status has to work"


def test_a_release_goes_through_rauc_and_a_trial(
    system: RaucSystem, bundles: dict[str, bytes], tmp_path: Path
) -> None:
    """The whole way: device.toml, verbs as programs, a start of the machine, the trial's end."""
    (tmp_path / "gateway").mkdir()
    gateway = TrialGateway(tmp_path / "gateway")
    record = tmp_path / "gateway" / "rauc.json"
    bus = f"DBUS_SYSTEM_BUS_ADDRESS={os.environ['DBUS_SYSTEM_BUS_ADDRESS']}"
    paths = f"PYTHONPATH={os.pathsep.join(sys.path)}"
    path = f"PATH={os.environ['PATH']}"
    program = ["/usr/bin/env", bus, paths, path, sys.executable, "-m", "fwsign", "adapter", "rauc"]
    if library := os.environ.get("LD_LIBRARY_PATH"):
        program.insert(1, f"LD_LIBRARY_PATH={library}")
    given = ["--record", str(record)]
    verbs = {verb: [*program, verb, *given] for verb in ("activate", "confirm", "revert")}
    gateway.configure(f"[exec.{json.dumps(NAME)}]", **verbs)
    line = " ".join(f"'{word}'" for word in [*program, "started", *given])
    gateway.healthy(f"{line} || exit $?")

    # Without a release before there is a trial all the same: it ends after the start.
    first = gateway.plain.release(1, {NAME: bundles["1"]})
    assert gateway.install(first).verdict == "on trial"
    assert system.boot() == "B"
    gateway.machine.reboot()
    assert gateway.judge().verdict == "committed"
    assert gateway.floor == 1

    # The boot loader goes back: the trial fails, and rootfs.1 runs and stays.
    second = gateway.plain.release(2, {NAME: bundles["2"]})
    assert gateway.install(second).verdict == "on trial"
    assert system.starts(0, b"system 2")
    system.boot("B")
    gateway.machine.reboot()
    data: dict[str, Any] = json.loads(record.read_text())
    record.write_text(json.dumps({**data, "boot": "another start"}))
    assert gateway.judge().verdict == "fell back"
    assert gateway.floor == 1
    assert (system.primary, system.state("A")) == ("B", "bad")
    with refused("unsuitable.failed-before", "failed its trial here before"):
        gateway.install(second)

    # A better one.
    assert gateway.install(gateway.plain.release(3, {NAME: bundles["3"]})).verdict == "on trial"
    assert system.boot() == "A"
    gateway.machine.reboot()
    assert gateway.judge().verdict == "committed"
    assert system.starts(0, b"system 3")


class TestWithoutRauc:
    """What is refused before RAUC is asked, or when it answers strangely."""

    def rauc(self, tmp_path: Path, script: str) -> Rauc:
        program = tmp_path / "rauc"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return Rauc(tmp_path / "rauc.json", lambda _: None, str(program))

    @pytest.mark.parametrize(
        "answer",
        [
            "no json",
            "[]",
            "{}",
            '{"slots": [{"a": 1}]}',
            '{"slots": []}',
            '{"slots": [{"a": {"state": "inactive", "bootname": "A"}}]}',
        ],
    )
    def test_a_strange_status(self, tmp_path: Path, answer: str) -> None:
        with refused("io.hook", "names 0 booted slots: none"):
            self.rauc(tmp_path, f"echo '{answer}'")._booted()

    def test_an_absent_program(self, tmp_path: Path) -> None:
        one = Rauc(tmp_path / "rauc.json", lambda _: None, str(tmp_path / "none"))
        with refused("io.hook", "none status --output-format=json: no such file"):
            one._booted()

    def test_a_pipe_on_standard_input(self, tmp_path: Path) -> None:
        ends = os.pipe()
        try:
            with refused("io.format", "standard input is no file"):
                self.rauc(tmp_path, "exit 0").activate(ends[0])
        finally:
            for end in ends:
                os.close(end)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"bundle": 1}', "[" * 2000])
    def test_a_damaged_record(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "rauc.json").write_text(text)
        with refused("state.damaged", "is not what fwsign adapter rauc wrote"):
            Activated.read(tmp_path / "rauc.json")

    def test_a_record_that_another_user_could_write(self, tmp_path: Path) -> None:
        Activated("0" * 64, "a", "b").write(tmp_path / "rauc.json")
        (tmp_path / "rauc.json").chmod(0o666)
        with refused("io.config", "could have been written by another user"):
            Activated.read(tmp_path / "rauc.json")

    def test_nothing_was_activated(self, tmp_path: Path) -> None:
        answer = {"slots": [{"rootfs.0": {"state": "booted", "bootname": "A"}}]}
        one = self.rauc(tmp_path, f"echo '{json.dumps(answer)}'")
        with refused("state.nothing", "nothing was activated"):
            one.started()
        one.revert()  # and there is nothing to undo
