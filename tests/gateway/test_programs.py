"""Programs of device.toml: what they get, what is kept of them, and that nothing outlives them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.gateway.target import programs
from fwsign.gateway.target.directory import Target
from fwsign.gateway.target.programs import Ended, run
from support import for_child, refused

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sh(script: str, seconds: int = 20, **more: Any) -> Ended:
    """Run a script of the shell."""
    return run(["/bin/sh", "-c", script], seconds=seconds, environment={}, **more)


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(process: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_free(target: Path) -> bool:
    """Tell whether a target directory can be locked."""
    code = None
    try:
        with Target(target):
            pass
    except Failed as error:
        code = error.code
    assert code in (None, "state.busy")
    return code is None


def pids(file: Path, count: int) -> list[int]:
    """Wait for a file with the numbers of processes."""
    wait_until(lambda: file.exists() and len(file.read_text().split()) == count)
    return [int(one) for one in file.read_text().split()]


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start a process that runs a script by `run`, with the lock of a target directory."""
    started = []
    (tmp_path / "target").mkdir()

    def start(script: str, **more: Any) -> "subprocess.Popen[bytes]":
        command = [sys.executable, __file__, str(tmp_path / "target"), script]
        started.append(subprocess.Popen(command, env=for_child(), **more))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("exit 0", 0, "ended with status 0"),
        ("exit 3", 3, "ended with status 3"),
        ("kill -9 $$", -9, "ended with signal 9"),
        ("kill -STOP $$; exit 0", None, "did not end within 1 seconds"),
        ("sleep 1000", None, "did not end within 1 seconds"),
        ("kill -TERM $PPID; sleep 1000", None, "was ended from outside"),
    ],
)
def test_the_end_of_a_program_has_words(script: str, status: int | None, words: str) -> None:
    found = sh(script, seconds=1 if "within" in words else 20)
    assert (found.status, found.words) == (status, words)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/nonexistent", "no such file or directory"), ("/etc/passwd", "permission denied")],
)
def test_a_program_that_cannot_be_started_is_an_error(path: str, why: str) -> None:
    with refused("io.hook", f"{path} cannot be started: {why}"):
        run([path], seconds=5, environment={})


def test_a_program_without_an_interpreter_for_its_guard_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with refused("io.hook", "/bin/true cannot be started: ", "/nonexistent/python"):
        run(["/bin/true"], seconds=5, environment={})


def test_a_guard_that_somebody_stopped_is_woken_and_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_PATIENCE", 5)
    file = tmp_path / "pids"
    found = sh(f"sleep 999 & echo $! $$ >{file}; kill -STOP $PPID; sleep 999", seconds=1)
    assert (found.status, found.words) == (None, "was ended from outside")
    assert not any(map(lives, pids(file, 2)))


def test_a_guard_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system ends the program with it."""
    monkeypatch.setattr(programs, "_PATIENCE", 1)
    ended = "_end_all(command)}"
    text = programs.text_of_guard()
    assert ended in text
    text = text.replace(ended, "time.sleep(999)}")
    monkeypatch.setattr(programs, "text_of_guard", lambda: text)
    file = tmp_path / "pids"
    found = sh(f"echo $$ >{file}; exec sleep 999", seconds=1)
    assert (found.status, found.words) == (None, "was ended from outside")
    (process,) = pids(file, 1)
    wait_until(lambda: not lives(process))


def test_what_cannot_be_ended_is_counted_and_is_no_success() -> None:
    """As the guard reports it of processes that wait for a broken disk."""
    found = programs.end_of("/bin/x", 5, "status 0 2", "said")
    words = "left 2 processes behind that cannot be ended"
    assert found == Ended(None, "said", words)


# --- output --------------------------------------------------------------------------------------


def test_output_is_kept_at_both_ends_with_a_mark_between() -> None:
    found = sh("echo first; head -c 9000000 /dev/zero; echo; echo last >&2; exit 1")
    first, *_, mark, _, last = found.output.splitlines()
    assert (first, last, found.status) == ("first", "last", 1)
    assert mark == f"[{9_000_012 - programs.HEAD - programs.TAIL} bytes left out]"
    assert len(found.output) < 5 * (programs.HEAD + programs.TAIL)


def test_short_output_is_whole() -> None:
    assert sh(f"head -c {programs.HEAD + 9} /dev/zero | tr '\\0' a").output == "a" * 4105


def test_output_cannot_act_on_a_terminal() -> None:
    found = sh("printf 'a\\033[31mred\\r\\n\\302\\233b\\377\\342\\200\\256c\\n'")
    assert found.output == "a\\x1b[31mred\n\\x9bb\\\\xff\\u202ec".replace("\\\\", "\\")
    assert all(line.isprintable() for line in found.output.split("\n"))


def test_the_last_line_is_said_with_the_end_and_is_short() -> None:
    told: list[str] = []
    found = sh("echo first; head -c 500 /dev/zero | tr '\\0' a; exit 7")
    assert found.said() == "ended with status 7: " + "a" * 200
    found.tell_output("name", told.append)
    assert told == ["name: first", "name: " + "a" * 500]
    assert sh("printf 'a\\tb'").output == "a       b"
    assert sh("true").said() == "ended with status 0"


def test_output_without_end_is_read_until_the_time_limit() -> None:
    begun = time.monotonic()
    assert sh("yes", seconds=1).words == "did not end within 1 seconds"
    assert time.monotonic() - begun < 10


# --- what it gets --------------------------------------------------------------------------------


@linux
def test_a_program_does_not_inherit_ignored_signals_masks_and_umask(tmp_path: Path) -> None:
    script = f"""
import os, signal
from fwsign.gateway.target.programs import run
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
for one in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
    signal.signal(one, signal.SIG_IGN)
os.umask(0o777)
os.chdir({str(tmp_path)!r})
print(run(["/bin/sh", "-c", "cat /proc/self/status; umask; pwd"], seconds=60,
          environment={{}}).output)
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - begun < 30  # it does not wait for the end of the time
    lines = done.stdout.split("\n")
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    known = sum(1 << one - 1 for one in signal.valid_signals())  # others are the C library's own
    assert {int(facts[name], 16) & known for name in ("SigBlk", "SigIgn")} == {0}
    assert lines[-3:-1] == ["0022", "/"]


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)])
def test_closed_standard_streams_hurt_no_program(tmp_path: Path, closed: tuple[int, ...]) -> None:
    script = f"""
import os, sys
for one in {closed}:
    os.close(one)
from fwsign.gateway.target.programs import run
found = run(["/bin/sh", "-c", "cat; echo hello"], seconds=9, environment={{}})
open({str(tmp_path / "said")!r}, "w").write(found.output)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "said").read_text() == "hello"


@as_root
def test_a_user_has_that_users_groups_alone() -> None:
    found = sh("id -u; id -G; head -c1 /etc/shadow", user="nobody")
    import grp
    import pwd

    nobody = pwd.getpwnam("nobody")
    others = {one.gr_gid for one in grp.getgrall() if "nobody" in one.gr_mem}
    uid, groups, said = found.output.splitlines()
    assert int(uid) == nobody.pw_uid
    assert set(map(int, groups.split())) == {nobody.pw_gid, *others}
    assert "ermission denied" in said


@as_root
def test_an_unknown_user_is_refused() -> None:
    with refused("io.hook", '/bin/sh cannot be started: there is no user "no-such"'):
        sh("id", user="no-such")


def test_a_user_without_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = 'root alone can run it as user "nobody", this is user 1000'
    with refused("io.hook", f"/bin/sh cannot be started: {words}"):
        sh("id", user="nobody")


# --- what it leaves ------------------------------------------------------------------------------

DAEMONS = (
    "(setsid sh -c 'sleep 1000 & echo $! $$ >>{0}; wait' &) ; setsid sleep 1000 & echo $! >>{0}"
)


@linux
@pytest.mark.parametrize("end", ["", "; sleep 1000", "; kill -9 $$"])
def test_daemons_of_a_program_end_with_it(tmp_path: Path, end: str) -> None:
    file = tmp_path / "pids"
    waits = f"; while [ $(wc -w <{file}) -lt 3 ]; do sleep 0.02; done"
    sh(DAEMONS.format(file) + waits + end, seconds=5 if "1000" in end else 20)
    assert [one for one in pids(file, 3) if lives(one)] == []


@linux
@as_root
def test_a_fork_bomb_ends_at_the_time_limit(tmp_path: Path) -> None:
    """It forks until the limit of its user's processes, again and again."""
    bomb = "f() { echo $BASHPID >&3; f & f & wait; f; }; f"
    limited = f"ulimit -u 150 || exit; {bomb}"
    with (tmp_path / "pids").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        script = f"exec 3<&0; {limited}"
        words = ["/bin/bash", "-c", script]
        begun = time.monotonic()
        found = run(words, seconds=2, environment={}, user="nobody", stdin=file.fileno())
    assert found.words == "did not end within 2 seconds"
    assert time.monotonic() - begun < 25
    started = set(map(int, (tmp_path / "pids").read_text().split()))
    assert len(started) > 20
    assert not any(map(lives, started))


@linux
def test_a_program_ends_when_fwsign_is_killed(
    tmp_path: Path, starter: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    file = tmp_path / "pids"
    process = starter(f"echo $$ >>{file}; {DAEMONS.format(file)}; sleep 1000")
    found = pids(file, 4)
    assert all(map(lives, found))
    process.kill()
    wait_until(lambda: not any(map(lives, found)))
    wait_until(lambda: is_free(tmp_path / "target"))  # the guard ends last


@linux
def test_a_command_that_outlives_fwsign_and_guard_keeps_the_lock(
    tmp_path: Path, starter: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    """Somebody kills fwsign and the guard alike: what then still runs cannot be overtaken."""
    file = tmp_path / "pids"
    process = starter(f"setsid sleep 1000 & echo $! $PPID >>{file}; wait")
    daemon, guard = pids(file, 2)
    process.send_signal(signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.wait()
    assert lives(daemon)
    words = "a command of an earlier run is still at work in", f"process {daemon}"
    with refused("state.busy", *words):
        Target(tmp_path / "target")
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: not lives(daemon))
    assert is_free(tmp_path / "target")


def test_without_linux_the_group_ends_and_the_rest_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard of a system that adopts no orphans and has no /proc."""
    text = programs.text_of_guard()
    for ours, theirs in (('== "linux"', '== "other"'), ('"/proc"', '"/nonexistent"')):
        assert ours in text
        text = text.replace(ours, theirs)
    monkeypatch.setattr(programs, "text_of_guard", lambda: text)
    file, target = tmp_path / "pids", tmp_path / "target"
    target.mkdir()
    with Target(target) as locked:
        found = sh(
            f"sleep 999 & echo $! >{file}; setsid sleep 999 & echo $! >>{file}; sleep 1",
            lock=locked.lock,
        )
    assert found.words == "ended with status 0"
    of_group, escaped = pids(file, 2)
    wait_until(lambda: not lives(of_group))
    assert lives(escaped)
    assert not is_free(target)
    os.kill(escaped, signal.SIGKILL)
    wait_until(lambda: is_free(target))


def test_ctrl_c_ends_the_program_too(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def interrupt() -> None:
        pids(file, 1)
        os.kill(os.getpid(), signal.SIGALRM)

    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sh(f"echo $$ >{file}; sleep 1000")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not any(map(lives, pids(file, 1)))


def main() -> None:
    """Be the process that is killed."""
    with Target(Path(sys.argv[1])) as target:
        try:
            print(json.dumps(sh(sys.argv[2], seconds=1000, lock=target.lock)))
        except Failed as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
