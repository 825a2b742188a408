# SPDX-License-Identifier: Apache-2.0
"""Run a program that device.toml names, so that nothing of it outlives the run.

It runs below a guard, which ends all its processes; see `fwsign.gateway.target.family`. What it
prints is kept in part, as text that no terminal acts on.
"""

import contextlib
import errno
import fcntl
import os
import pkgutil
import pwd
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.format.payload import CHUNK_SIZE
from fwsign.gateway.config.device import Tell
from fwsign.gateway.target.family import GRACE

HEAD: Final = 4096
"""Bytes of the output's beginning that are kept."""
TAIL: Final = 4096
"""Bytes of its end."""
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_SAID: Final = 200
"""Letters of the last line in messages."""
_PATIENCE: Final = GRACE + 10
"""Seconds to wait for the guard itself."""


class Ended(NamedTuple):
    """The end of a program.

    Args:
        status: its exit status, or the negative number of the signal that ended it; None if it had
            to be ended, or left processes that cannot be ended.
        output: the beginning and the end of what it printed, as lines of printable text.
        words: its end in words, such as "ended with status 3".
    """

    status: int | None
    output: str
    words: str

    def said(self) -> str:
        """Return its end in words, with the last line that it printed."""
        last = self.output.rpartition("\n")[2][:_SAID]
        return f"{self.words}: {last}" if last else self.words

    def tell_output(self, name: str, tell: Tell) -> None:
        """Tell what it printed, line by line, with a name before each."""
        for line in self.output.splitlines():
            tell(f"{name}: {line}")


def run(
    argv: Sequence[str],
    *,
    seconds: int,
    environment: Mapping[str, str],
    stdin: int | None = None,
    user: str | None = None,
    lock: int | None = None,
) -> Ended:
    """Run a program, without a shell, and end all its processes with it.

    They end with the program, at the time limit, and with fwsign itself, even if that is killed.

    Args:
        argv: the program's absolute path, and its arguments.
        seconds: the time limit.
        environment: variables besides `PATH` and `LANG`.
        stdin: the descriptor of its standard input; None for no input.
        user: the name of the user to run as, with that user's groups alone; needs root.
        lock: a locked descriptor, which the program keeps open: the lock lasts as long as the
            program does.

    Raises:
        Failed: `io.hook`: it cannot be started.
    """
    identity = _identity(argv[0], user)
    with contextlib.ExitStack() as stack:
        report, report_end = _pipe(stack)
        output, output_end = _pipe(stack)
        control_end, control = _pipe(stack)
        shared = [control_end.fileno(), report_end.fileno()]
        words = [*map(str, (*shared, seconds)), identity, *argv]
        if lock is not None:
            shared.append(_above_standard(lock))
            stack.callback(os.close, shared[-1])
        try:
            guard = subprocess.Popen(  # noqa: S603 - fixed words of device.toml, no shell
                [sys.executable, "-I", "-S", "-c", text_of_guard(), *words],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=output_end,
                stderr=output_end,
                env={**_ENVIRONMENT, **environment},
                cwd="/",
                pass_fds=shared,
                start_new_session=True,  # Ctrl-C is for fwsign, which ends the guard
            )
        except (OSError, ValueError) as error:
            raise _not_started(argv[0], str(error)) from error
        try:
            for end in (report_end, output_end, control_end):
                end.close()
            printed = _Printed()
            told = _listen(report, output, printed, seconds + _PATIENCE)
        finally:
            control.close()  # ends all, if it has not ended
            _await(guard)
    return end_of(argv[0], seconds, told, printed.text())


def refuse_unstartable(program: str, user: str | None) -> None:
    """Refuse a program that could not be started now.

    Args:
        program: its absolute path.
        user: as for `run`.

    Raises:
        Failed: `io.hook`: it is not there, may not be executed, or its user cannot be taken.
    """
    _identity(program, user)
    if not os.access(program, os.X_OK):
        there = os.path.exists(program)  # noqa: PTH110 - as `os.access`
        raise _not_started(program, os.strerror(errno.EACCES if there else errno.ENOENT).lower())


def _identity(program: str, user: str | None) -> str:
    """Return a user as "UID:GID,GID...", the main group first; nothing for none."""
    if user is None:
        return ""
    if os.geteuid() != 0:
        what = f'root alone can run it as user "{user}", this is user {os.geteuid()}'
        raise _not_started(program, what)
    try:
        found = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise _not_started(program, f'there is no user "{user}"') from None
    groups = dict.fromkeys((found.pw_gid, *os.getgrouplist(user, found.pw_gid)))
    return f"{found.pw_uid}:{','.join(map(str, groups))}"


def _not_started(program: str, why: str) -> Failed:
    what = f"cannot be started: {why}"
    return Failed("io.hook", f"{program} {what}", expected="status 0", found=what)


def _pipe(stack: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """Return the two ends of a pipe."""
    ends = []
    for handle, mode in zip(os.pipe(), "rw", strict=True):
        ends.append(stack.enter_context(FileIO(_above_standard(handle), mode)))
        os.close(handle)
    return ends[0], ends[1]


def _above_standard(handle: int) -> int:
    """Return a copy of a descriptor that none of the standard streams can replace."""
    return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 3)


def text_of_guard() -> str:
    """Return the guard's program, which may be in an archive."""
    text = pkgutil.get_data("fwsign.gateway.target", "family.py")
    return (text or b"").decode()


def _listen(report: FileIO, output: FileIO, printed: "_Printed", seconds: float) -> str:
    """Take the output until the guard reports the end; return the report."""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    poll.register(output, select.POLLIN)
    told, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready = {handle for handle, _ in poll.poll(1000 * left)}
        if output.fileno() in ready and not printed.take(output.read(CHUNK_SIZE)):
            poll.unregister(output)
        if report.fileno() in ready:
            if not (data := report.read(CHUNK_SIZE)):
                break
            told += data
    os.set_blocking(output.fileno(), False)  # whoever is left may keep its other end open
    printed.take(output.read(CHUNK_SIZE))  # and may write for ever
    return told.decode()


def _await(guard: "subprocess.Popen[bytes]") -> None:
    """Wait for the guard, which ends what is left; wake one that somebody stopped."""
    guard.send_signal(signal.SIGCONT)
    try:
        guard.wait(_PATIENCE)
    except subprocess.TimeoutExpired:  # the system ends the program with it
        guard.kill()
        guard.wait()


def end_of(program: str, seconds: int, told: str, output: str) -> Ended:
    """Turn the guard's report into the end of a program.

    Args:
        program: its path.
        seconds: its time limit.
        told: the report; empty if the guard was killed.
        output: what the program printed.

    Raises:
        Failed: `io.hook`: it could not be started.
    """
    how, number, left = told.split() if told else ("lost", "0", "0")
    if how == "errno":
        raise _not_started(program, os.strerror(int(number)).lower())
    if left != "0":
        return Ended(None, output, f"left {left} processes behind that cannot be ended")
    if how == "status":
        return Ended(int(number), output, f"ended with status {number}")
    if how == "signal":
        return Ended(-int(number), output, f"ended with signal {number}")
    if how == "late":
        return Ended(None, output, f"did not end within {seconds} seconds")
    return Ended(None, output, "was ended from outside")


class _Printed:
    """The beginning and the end of what a program prints."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = b"", b"", 0

    def take(self, data: bytes | None) -> bool:
        """Take what was read; tell whether that was anything."""
        if not data:
            return False
        self._size += len(data)
        room = HEAD - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-TAIL:]
        return True

    def text(self) -> str:
        """Return it as lines of printable text, with a mark for what was left out."""
        kept = len(self._head) + len(self._tail)
        mark = f"\n[{self._size - kept} bytes left out]\n" if kept < self._size else ""
        data = self._head + mark.encode() + self._tail
        lines = data.decode(errors="backslashreplace").split("\n")
        return "\n".join(map(_printable, lines)).strip("\n")


def _printable(line: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line.rstrip("\r").expandtabs()
    )
