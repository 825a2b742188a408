"""Killed anywhere, by anything, the memory is the old one or the new one."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines, verify_lines
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from pki_kit import needs_fork
from support import (
    NOW,
    PRODUCT,
    VENDOR,
    Pki,
    for_child,
    make_manifest,
    make_pki,
    require_program,
    sign_with,
    stride,
)

BASE = DevicePolicy(vendor=VENDOR, product=PRODUCT)
BOARD = "mac:a0b765c1d2e3"
CALLS = ("pwrite64", "fsync,fdatasync", "unlink,unlinkat", "link,linkat,rename", "mkdir", "chmod")
"""What changes the memory: nothing else of an interpreter's start does these in its directory."""
FIRST = {"ENOSPC": 1, "EIO": 2, "EROFS": 3}
"""Errors of writing, and the first call that fails with each: together they are at every call."""
pytestmark = needs_fork


@cache
def signer() -> tuple[Pki, tuple[bytes, ...]]:
    made = make_pki()
    return made, made.crls


def accept(path: Path, number: int) -> None:
    """Accept a release and write the receipt of it, in one step."""
    with State.open(path, create=True) as state:
        pki, crls = signer()
        policy, floor = state.policy(BASE, BOARD)
        envelope = sign_with(pki, make_manifest(sequence_number=number), crls=crls)
        release = Verifier([pki.root.anchor], policy).verify(envelope, at=NOW)
        with state.transaction():
            state.accept(BOARD, release, floor)
            state.append_receipt({"number": number})


def what_is_there(path: Path) -> tuple[int | None, int]:
    """Return floor and receipts; whatever it is, it must be whole."""
    if not path.exists():
        return None, 0
    with State.open(path) as state:
        floor = state.floor(BOARD, VENDOR, PRODUCT)
        count = verify_lines(state.receipt_lines()).receipts
        assert bool(floor) == bool(count)
        assert floor is None or len(floor.recorded) == 1
        return floor.sequence if floor else None, count


def strace(log: Path, path: Path, number: int, *more: str) -> int:
    program = require_program("strace")
    if subprocess.run([program, "-o", log, "true"], check=False, capture_output=True).returncode:
        pytest.skip("processes cannot be traced here")
    command = [program, "-f", "-o", str(log), *more]
    command += [sys.executable, __file__, str(path), str(number)]
    return subprocess.run(command, env=for_child(), check=False, capture_output=True).returncode


@pytest.mark.external
@pytest.mark.parametrize("calls", CALLS)
def test_killed_at_each_call_the_memory_is_old_or_new(tmp_path: Path, calls: str) -> None:
    where = tmp_path / "place/boards.db"
    number = 1
    for count in range(1, 80, stride(5)):
        before = what_is_there(where)
        kill = f"inject={calls}:signal=KILL:when={count}"
        status = strace(tmp_path / "log", where, number, "-e", f"trace={calls}", "-e", kill)
        assert status in (0, -signal.SIGKILL)
        after = what_is_there(where)
        assert after in (before, (number, before[1] + 1)), (calls, count)
        if status == 0:
            assert after != before
            if calls in ("pwrite64", "fsync,fdatasync"):
                assert count > 4
            return
        number += after != before
    pytest.fail("it never lives to its end")


@pytest.mark.external
def test_all_is_synced_before_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    accept(path, 1)
    calls = "trace=openat,pwrite64,fsync,fdatasync,unlink,unlinkat,close"
    assert strace(tmp_path / "log", path, 2, "-y", "-e", calls) == 0
    marks = {
        "j": rf"pwrite64\(\d+<{path}-journal>",
        "J": rf"f(data)?sync\(\d+<{path}-journal>",
        "w": rf"pwrite64\(\d+<{path}>",
        "W": rf"f(data)?sync\(\d+<{path}>",
        "u": rf"unlink(at)?\(.*{path}-journal",
        "D": rf"f(data)?sync\(\d+<{tmp_path}>",
    }
    found = "".join(
        mark
        for line in (tmp_path / "log").read_text().splitlines()
        for mark, pattern in marks.items()
        if re.search(pattern, line)
    )
    # The journal, and its name, before the memory; the memory before the journal goes; then that.
    assert re.fullmatch(r"j+JD?(j+JD?)?Dw+WuD|j+J?D?j*JD?w+WuD", found), found


@pytest.mark.external
@pytest.mark.parametrize("error", FIRST)
def test_a_write_that_fails_at_any_point_loses_nothing(tmp_path: Path, error: str) -> None:
    path = tmp_path / "boards.db"
    accept(path, 1)
    before = what_is_there(path)
    failed = 0
    for count in range(FIRST[error], 80, stride(7)):
        inject = f"inject=pwrite64:error={error}:when={count}"
        how = ("--seccomp-bpf", "-e", "trace=pwrite64", "-e", inject)  # stops at these calls alone
        if strace(tmp_path / "log", path, 2, *how) == 0:
            break
        failed += 1
        assert what_is_there(path) == before
    assert failed > 3
    assert what_is_there(path) == (2, before[1] + 1)


def test_killed_at_any_time_the_memory_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    accept(path, 1)
    dice = random.Random(1)  # no secret
    floor, count = what_is_there(path)
    assert floor is not None
    for tries in range(400):
        if tries >= 40 and floor > 10:  # on a busy machine a step takes longer than a life
            break
        child = os.fork()
        if child == 0:
            try:
                for number in range(floor + 1, floor + 1000):
                    accept(path, number)
            finally:
                os._exit(1)
        time.sleep(dice.random() / 20 * (1 + tries // 40))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        now, then = what_is_there(path)
        assert now is not None
        assert now - floor == then - count >= 0
        floor, count = now, then
    assert floor > 10  # on a busy machine too


RACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from memory.test_state_kills import race
race(Path(sys.argv[1]))
"""


def race(path: Path) -> None:
    """Raise a floor twenty times against others; each time again where they were faster."""
    from fwsign.errors import FwsignError  # of a process of its own

    done = 0
    while done < 20:
        with State.open(path, create=True) as state:
            floor = state.floor(BOARD, VENDOR, PRODUCT) or Floor(0)
        try:
            accept(path, floor.sequence + 1)
        except FwsignError as error:
            assert error.code in {  # noqa: PT017 - no other is right
                "state.conflict",
                "unsuitable.rollback",
                "unsuitable.conflict",
            }
        else:
            done += 1


def test_processes_that_raise_one_floor_at_once_never_lose_a_step(tmp_path: Path) -> None:
    path = tmp_path / "a/boards.db"
    command = [sys.executable, "-c", RACE, str(path), str(Path(__file__).parents[1])]
    racers = [subprocess.Popen(command) for _ in range(4)]
    assert [racer.wait(120) for racer in racers] == [0] * 4
    floor, count = what_is_there(path)
    with State.open(path) as state:
        numbers = [one.content["number"] for one in judge_lines(state.receipt_lines())]
    assert count == 80
    assert numbers == sorted(numbers)  # never down; the same release twice is no step
    assert floor == numbers[-1] >= 20


if __name__ == "__main__":
    accept(Path(sys.argv[1]), int(sys.argv[2]))
