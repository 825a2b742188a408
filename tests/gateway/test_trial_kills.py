"""Killed anywhere during a trial: the old release or the new one runs, and the state says which.

FWSIGN_THOROUGH=1 in the environment kills at every call, in some minutes.
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.gateway.run.session import INSTALLED
from fwsign.gateway.target import release_record
from fwsign.gateway.trial.record import read_trial
from fwsign.memory.state import State
from fwsign.receipts.chain import verify_lines
from gateway.trial_kit import Gateway, TrialGateway
from pki_kit import at_file_event, fork, needs_fork, run_myself
from support import for_child, require_program, stride

pytestmark = needs_fork
MOST = 250
"""File events of a trial; one whose health command ends the machine never lives to its end."""
HEALTH = {
    # what it does: the script, whether the release stays, and kill at each of so many calls
    "passes": ("exit 0", True, 29),
    "fails": ("exit 1", False, 31),
    "hangs": ("sleep 1000", False, 61),
    "forks": ("setsid sleep 1000 & setsid setsid sleep 1000 & exit 1", False, 47),
    "reboots": ("kill -9 $(cat {pid}); sleep 1000", False, 53),
}
CALLS = {
    # what: kill at each of so many, unless all are wanted
    "rename,renameat,renameat2": 5,
    "symlink,symlinkat": 2,
    "unlink,unlinkat,rmdir": 11,
    "fsync,fdatasync": 23,
    "write,pwrite64": 53,
}
LOADER = """#!/bin/sh
test "$FWSIGN_VERB" = confirm && exit 0
cat > {loaded}.new && mv {loaded}.new {loaded}
"""


class Killed:
    """A gateway with files and a command, and what must be true of it after any kill."""

    def __init__(self, base: Path, how: str) -> None:
        self.script, self.stays, self.step = HEALTH[how]
        self.gateway = TrialGateway(base, health_seconds=1)
        self.loaded, self.pid = base / "loaded", base / "pid"
        runner = base / "loader"
        runner.write_text(LOADER.format(loaded=self.loaded))
        runner.chmod(0o755)
        verbs = {verb: [str(runner)] for verb in ("activate", "confirm", "revert")}
        self.gateway.configure('[exec."load.bin"]', **verbs)
        self.number = self.good = 1
        self.gateway.install(self.release(1))
        self.gateway.healthy(self.script.format(pid=self.pid))

    def release(self, number: int) -> Path:
        data = b"%d" % number * 1000
        return self.gateway.plain.release(number, {"app.tar": data, "load.bin": data})

    def run(self, envelope: Path | None) -> None:
        """Install, or judge, in a process that may be killed."""
        self.pid.write_text(str(os.getpid()))
        if envelope is None:
            self.gateway.judge()
        else:
            self.gateway.install(envelope, retry=True)

    def check(self) -> None:
        """Old or new is in place, the state says which, and the floor is that of the commit."""
        installed, floor = self.gateway.app, self.gateway.floor
        assert installed in (b"%d" % self.good * 1000, b"%d" % self.number * 1000)
        with State.open(self.gateway.base / "state.db") as state:
            committed, trial = release_record.read(state, INSTALLED), read_trial(state)
            verify_lines(state.receipt_lines())
        assert committed is not None
        assert floor == committed.sequence
        running = trial.release if trial and installed != b"%d" % self.good * 1000 else committed
        assert installed == b"%d" % running.sequence * 1000, (committed, trial)

    def settled(self) -> None:
        """Nothing is on trial any more, and all parts are of one release."""
        data = b"%d" % self.good * 1000
        assert self.gateway.record is None
        assert (self.gateway.app, self.loaded.read_bytes()) == (data, data)
        assert self.gateway.floor == self.good
        self.check()


def kill(base: Path, how: str) -> None:
    """Kill an install and what comes after it at one file event, for each event."""
    killed = Killed(base, how)
    step, lived, count = 0, False, 0
    while not lived and step < MOST:
        step += stride(killed.step)
        count += 1
        killed.number += 1
        envelope = killed.release(killed.number)
        lived = fork(partial(quietly, killed, envelope), partial(at_file_event, step))
        killed.check()
        killed.gateway.machine.reboot()
        fork(partial(quietly, killed, None), partial(at_file_event, 1 + step * 7 % 101))
        killed.check()
        for _ in range(4):
            killed.gateway.machine.reboot()
            fork(partial(quietly, killed, None), lambda: None)
            killed.check()
        if killed.stays:
            killed.gateway.install(envelope, retry=True)
            killed.good = killed.number
        killed.settled()
    print(how, count)  # for the test that started this


def quietly(killed: Killed, envelope: Path | None) -> None:
    """Run; a refusal is no death. Wait while the command of a killed run is still being ended."""
    end = time.monotonic() + 20
    while True:
        try:
            killed.run(envelope)
        except FwsignError as error:
            if error.code == "state.busy" and time.monotonic() < end:
                time.sleep(0.01)
                continue
            if error.code != "unsuitable.trial":
                raise
        return


@pytest.mark.parametrize("how", HEALTH)
def test_killed_at_each_step_of_a_trial_old_or_new_runs(tmp_path: Path, how: str) -> None:
    counts = run_myself(__file__, how, tmp_path)
    assert counts[how] > 2, counts


# --- by strace ------------------------------------------------------------------------------------


def install(base: Path) -> None:
    """Be the program that strace runs."""
    try:
        Gateway(base).install(Path(sys.argv[3]), retry=True)
    except FwsignError as error:
        sys.exit(4 if error.code == "unsuitable.trial" else 5)


@pytest.mark.external
@pytest.mark.parametrize("how", ["passes", "fails"])
@pytest.mark.parametrize("calls", CALLS)
def test_killed_at_each_call_of_a_trial_old_or_new_runs(
    tmp_path: Path, calls: str, how: str
) -> None:
    program, log = require_program("strace"), tmp_path / "log"
    if subprocess.run([program, "-o", log, "true"], check=False, capture_output=True).returncode:
        pytest.skip("processes cannot be traced here")
    killed = Killed(tmp_path, how)
    for count in range(1, 5000, stride(CALLS[calls])):
        killed.number += 1
        envelope = killed.release(killed.number)
        inject = f"inject={calls}:signal=KILL:when={count}"
        command = [program, "-o", str(log), "-e", f"trace={calls}", "-e", inject, sys.executable]
        command += [__file__, "install", str(tmp_path), str(envelope)]
        done = subprocess.run(command, env=for_child(), check=False, capture_output=True)
        lived = done.returncode in (0, 4)
        assert lived or done.returncode == -signal.SIGKILL, done.stderr
        killed.check()
        for _ in range(2):
            quietly(killed, None)
            killed.check()
        if killed.stays:
            killed.gateway.install(envelope, retry=True)
            killed.good = killed.number
        killed.settled()
        if lived:
            assert count > 1  # it was killed before
            return
    pytest.fail("it never lives to its end")


if __name__ == "__main__":
    if sys.argv[1] == "install":
        install(Path(sys.argv[2]))
    else:
        kill(Path(sys.argv[2]), sys.argv[1])
