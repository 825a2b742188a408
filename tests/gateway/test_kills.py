"""Killed anywhere, by anything: the old release or the new one, and the next run succeeds.

FWSIGN_THOROUGH=1 in the environment kills at every call and 300 times at random, in some minutes.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.memory.state import State
from fwsign.receipts.chain import verify_lines
from gateway.kit import Gateway, make_gateway
from pki_kit import at_file_event, fork, needs_fork, run_myself
from support import THOROUGH, for_child, require_program, stride

pytestmark = needs_fork
SIZE = 300_000
CODES = ("io.full", "io.permission", "io.write")
CALLS = {
    # what: kill at each of so many, unless all are wanted
    "rename,renameat,renameat2": 2,
    "symlink,symlinkat": 1,
    "mkdir,mkdirat": 2,
    "fchmod,chmod,fchmodat": 3,
    "ftruncate": 1,
    "unlink,unlinkat,rmdir": 11,
    "fsync,fdatasync": 17,
    "write,pwrite64": 31,
    "openat": 240,
}
"""What touches files; starting the interpreter does some of these too, mostly `openat`."""


def content(number: int) -> dict[str, bytes]:
    seed = number.to_bytes(8, "big")
    return {"app.tar": seed * (SIZE // 8), "b.bin": seed}


def check(gateway: Gateway, number: int, floor: int | None) -> bool:
    """What is installed is the release before `number` or that itself; tell whether the latter."""
    installed, now = gateway.installed, gateway.floor
    assert installed in (content(number), content(number - 1))
    assert (now or 0) >= (floor or 0)
    assert now in (number - 1, number)
    if installed == content(number):
        assert now == number  # never before the floor
    with State.open(gateway.base / "state.db") as state:
        verify_lines(state.receipt_lines())
    return installed == content(number)


def prepare(base: Path) -> tuple[Gateway, int]:
    gateway = make_gateway(base)
    gateway.install(gateway.release(1, content(1)))
    return gateway, 1


def kill(base: Path) -> None:
    """Kill an install at its first file event, its second, and so on, until it lives."""
    gateway, number = prepare(base)
    step, lived = 0, False
    while not lived:
        step += stride(5)
        envelope = gateway.release(number + 1, content(number + 1))
        lived = fork(partial(gateway.install, envelope), partial(at_file_event, step))
        check(gateway, number + 1, number)
        number += 1
        gateway.install(envelope)
        assert check(gateway, number, number)
    print("install", step)  # for the test that started this


def kill_in_time(base: Path) -> None:
    """Kill installs at any time, one after the other; what is cut short is gone on with."""
    gateway, number = prepare(base)
    dice = random.Random(3)  # no secret
    begun = time.monotonic()
    gateway.install(gateway.release(2, content(2)))
    longest, number, done = 1.5 * (time.monotonic() - begun), 2, 0
    for _ in range(300 if THOROUGH else 24):
        envelope = gateway.release(number + 1, content(number + 1))
        floor = gateway.floor
        child = os.fork()
        if child == 0:
            gateway.install(envelope)
            os._exit(0)
        time.sleep(dice.random() * longest)
        os.kill(child, signal.SIGKILL)
        done += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if check(gateway, number + 1, floor) or gateway.floor == number + 1:
            gateway.install(envelope)
            number += 1
    gateway.install(gateway.release(number + 1, content(number + 1)))
    print("kills", done)  # for the test that started this


def test_killed_at_each_step_the_release_is_old_or_new(tmp_path: Path) -> None:
    steps = run_myself(__file__, "kill", tmp_path)
    assert steps["install"] > 50, steps


def test_killed_at_any_time_the_release_is_old_or_new(tmp_path: Path) -> None:
    assert run_myself(__file__, "kill_in_time", tmp_path)["kills"] > 0


# --- by strace -----------------------------------------------------------------------------------


def install(base: Path) -> None:
    """Be the program that strace runs."""
    try:
        Gateway(base).install(Path(sys.argv[3]))
    except FwsignError as error:
        sys.exit(10 + CODES.index(error.code))  # nothing is written: writing fails here


def strace(gateway: Gateway, envelope: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    program = require_program("strace")
    log = gateway.base / "log"
    if subprocess.run([program, "-o", log, "true"], check=False, capture_output=True).returncode:
        pytest.skip("processes cannot be traced here")
    command = [program, "-f", "-o", str(log), *more]
    command += [sys.executable, __file__, "install", str(gateway.base), str(envelope)]
    return subprocess.run(command, env=for_child(), check=False, capture_output=True, text=True)


@pytest.mark.external
@pytest.mark.parametrize("calls", CALLS)
def test_killed_at_each_call_the_release_is_old_or_new(tmp_path: Path, calls: str) -> None:
    gateway, number = prepare(tmp_path)
    step = stride(CALLS[calls])
    for count in range(1, 5000, step):
        envelope = gateway.release(number + 1, content(number + 1))
        inject = f"inject={calls}:signal=KILL:when={count}"
        done = strace(gateway, envelope, "-e", f"trace={calls}", "-e", inject)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        new = check(gateway, number + 1, number)
        number += 1
        if done.returncode == 0:
            assert new
            assert count > 1  # it was killed before
            return
        gateway.install(envelope)
        assert check(gateway, number, number)
    pytest.fail("it never lives to its end")


@pytest.mark.external
@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_a_write_that_fails_is_a_clear_error_and_nothing_is_lost(
    tmp_path: Path, error: str
) -> None:
    gateway, number = prepare(tmp_path)
    calls = "write,pwrite64,ftruncate,mkdirat,renameat,symlinkat,fsync,fdatasync"
    codes = set()
    for count in range(1, 500, stride(23)):
        envelope = gateway.release(number + 1, content(number + 1))
        floor = gateway.floor
        inject = f"inject={calls}:error={error}:when={count}"
        how = ("--seccomp-bpf", "-e", f"trace={calls}", "-e", inject)  # stops at these calls alone
        done = strace(gateway, envelope, *how)
        new = check(gateway, number + 1, floor)
        if done.returncode == 0 and "INJECTED" not in (tmp_path / "log").read_text():
            assert new
            break
        assert done.returncode in (0, 10, 11, 12), done.stderr
        assert new or done.returncode  # where it says 0, only tidying up failed
        codes.add(done.returncode)
        if gateway.floor == number + 1:
            gateway.install(envelope)
            number += 1
    else:
        pytest.fail("it never lives to its end")
    assert codes & {10, 11}


@pytest.mark.external
def test_all_is_synced_before_it_counts(tmp_path: Path) -> None:
    gateway, _ = prepare(tmp_path)
    calls = "trace=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,symlinkat,mkdirat"
    envelope = gateway.release(2, content(2))
    assert strace(gateway, envelope, "-y", "-e", calls).returncode == 0
    synced: set[str] = set()
    renames, made = [], set()
    for line in (tmp_path / "log").read_text().splitlines():
        if " = -1 " in line:
            continue
        if found := re.search(r"p?write(?:64)?\(\d+<(/[^>]*)>", line):
            synced.discard(found[1])
            made.add(found[1])
        elif found := re.search(r"f(?:data)?sync\(\d+<([^>]*)>", line):
            synced.add(found[1])
        elif found := re.search(r"(?:symlinkat|mkdirat)\(.*\d+<([^>]*)>, \"", line):
            synced.discard(found[1])
        elif found := re.search(r"renameat2?\(\d+<(.*?)>, \"(.*?)\", \d+<(.*?)>, \"(.*?)\"", line):
            old, new = f"{found[1]}/{found[2]}", f"{found[3]}/{found[4]}"
            inside = {path for path in made if path == old or path.startswith(f"{old}/")}
            assert inside <= synced, line
            assert found[1] in synced or old in synced, line  # the name that is moved
            synced -= {found[1], found[3]}
            renames.append(new.removeprefix(str(gateway.target)))
    assert [one.split("/")[1] for one in renames] == [".fwsign", "versions", "current"]
    assert renames[0] == "/.fwsign/stage/envelope"
    directories = {str(gateway.target), f"{gateway.target}/versions", str(tmp_path)}
    assert directories <= synced
    assert any(path.endswith("stage/files/app.tar") for path in made)
    assert not {
        path
        for path in made
        if path.startswith(str(tmp_path)) and path not in synced and not path.endswith("-journal")
    }


@pytest.mark.external
def test_an_install_from_a_file_makes_no_network_call(tmp_path: Path) -> None:
    gateway, _ = prepare(tmp_path)
    envelope = gateway.release(2, content(2))
    assert strace(gateway, envelope, "-e", "trace=network").returncode == 0
    log = (tmp_path / "log").read_text()
    assert not re.search(r"\b(socket|connect|sendto|bind)\(", log), log


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
