# SPDX-License-Identifier: Apache-2.0
"""The guard: a process between fwsign and a command, which ends all that the command started.

`fwsign.gateway.target.programs` gives this text to an interpreter of its own, so it imports nothing
of fwsign. The guard holds the lock until the last process of the command is gone, and ends them
when the command has ended, at the time limit, and when fwsign is gone, however that ended.

On Linux it adopts orphans (PR_SET_CHILD_SUBREAPER), so that `setsid` and a double fork do not
leave its family. On other systems only the command's process group ends with the command.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from io import FileIO

GRACE = 30
"""Seconds until killed processes count as left over: the kernel may be busy for them."""
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # prctl(2)
_Prctl = Callable[[int, int], object]


def main() -> None:
    """Run a command; report its end as "HOW NUMBER LEFT".

    The words of the command line: the descriptors of control and report, the time limit, the user
    as "UID:GID,GID..." or nothing, and the command. The end of file at control ends the family.
    HOW is "status" or "signal" with its number, "errno" if it cannot be started, "late", or
    "stopped"; LEFT counts processes that cannot be ended.
    """
    control, report, seconds = map(int, sys.argv[1:4])
    for handle in (control, report):
        os.set_inheritable(handle, False)
    prctl = _prctl()
    prctl(_SET_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda one, _: stops.append(one))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # or the end of the command would not wake it
    prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)  # if another process has the other end of control
    poll = select.poll()
    poll.register(control)
    if poll.poll(0):
        return  # fwsign is gone already
    command, error = _start(prctl, sys.argv[4], sys.argv[5:])
    how = f"errno {error}" if error else _wait(command, seconds, control, woken, stops)
    os.write(report, f"{how} {_end_all(command)}".encode())


def _wait(command: int, seconds: int, control: int, woken: int, stops: list[int]) -> str:
    """Wait for the end of the command, of the time, or of fwsign; return which it was."""
    poll = select.poll()
    poll.register(control)
    poll.register(woken, select.POLLIN)
    end = time.monotonic() + seconds
    while not stops:
        if facts := os.waitid(os.P_PID, command, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            how = "status" if facts.si_code == os.CLD_EXITED else "signal"
            return f"{how} {facts.si_status}"
        left = end - time.monotonic()
        if left <= 0:
            return "late 0"
        ready = {handle for handle, _ in poll.poll(1000 * left + 1)}
        if control in ready:
            break
        if woken in ready:
            os.read(woken, 4096)
    return "stopped 0"


def _prctl() -> _Prctl:
    """Return prctl(2), or a function that does nothing on systems without it."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # few systems are without it

            call = ctypes.CDLL(None).prctl
            return lambda what, value: call(what, value, 0, 0, 0)
    return lambda _what, _value: None


def _start(prctl: _Prctl, user: str, words: list[str]) -> tuple[int, int]:
    """Start the command; return its process and the error number of the start."""
    guard = os.getpid()
    reader, writer = os.pipe()  # closed by a successful start
    command = os.fork()
    if command == 0:
        try:
            os.setsid()
            if user:
                uid, _, groups = user.partition(":")
                found = [int(one) for one in groups.split(",")]
                os.setgroups(found)
                os.setgid(found[0])
                os.setuid(int(uid))
            prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)  # after setuid, which would undo it
            if os.getppid() == guard:
                _reset()
                os.execv(words[0], words)  # noqa: S606 - its purpose
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(writer)
    with os.fdopen(reader) as file:
        return command, int(file.read() or 0)


def _reset() -> None:
    """Give the command what each program expects, whatever fwsign was started with."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):  # some are the system's own
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    os.chdir("/")


def _end_all(command: int) -> int:
    """Kill the command and its descendants; return how many are left."""
    with contextlib.suppress(OSError):
        os.killpg(command, signal.SIGKILL)
    with contextlib.suppress(OSError, AttributeError):  # ahead of what forks without end
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    end = time.monotonic() + GRACE
    while True:
        found = _kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return 0
        if time.monotonic() > end:
            return max(1, found)
        time.sleep(0.005)


def _kill_descendants() -> int:
    """Kill the processes below this one, by /proc, and return their number.

    A child has nearly always a higher number than its parent, so that one pass finds nearly all.
    """
    mine, found = {os.getpid()}, 0
    with contextlib.suppress(OSError):
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib is slow
        for process in sorted(map(int, filter(str.isdigit, names))):
            with contextlib.suppress(OSError, ValueError), FileIO(f"/proc/{process}/stat") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if int(parent) in mine:
                    mine.add(process)
                    if state != b"Z":
                        found += 1
                        os.kill(process, signal.SIGKILL)
    return found


if __name__ == "__main__":
    main()
