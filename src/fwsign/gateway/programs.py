# SPDX-License-Identifier: Apache-2.0
"""Run a program of device.toml."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fwsign.errors import Failed


class Ended(NamedTuple):
    """The end of a program: its status, its output, and its end in words."""

    status: int | None
    output: str
    words: str


def run(
    argv: Sequence[str],
    *,
    seconds: int,
    environment: Mapping[str, str],
    stdin: int | None = None,
    user: str | None = None,
    lock: int | None = None,
) -> Ended:
    """Run a program, without a shell.

    Args:
        argv: the program's absolute path, and its arguments.
        seconds: the time limit.
        environment: variables besides `PATH` and `LANG`.
        stdin: the descriptor of its standard input; None for no input.
        user: the name of the user to run as.
        lock: a locked descriptor, which the program keeps open.

    Raises:
        Failed: `io.hook`: it cannot be started.
    """
    try:
        done = subprocess.run(  # noqa: S603 - fixed words of device.toml, no shell
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **environment},
            timeout=seconds,
            cwd="/",
            check=False,
            user=user,
            pass_fds=() if lock is None else (lock,),
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", f"did not end within {seconds} seconds")
    except OSError as error:
        raise Failed("io.hook", f"{argv[0]} cannot be started: {error}") from error
    status = done.returncode
    words = f"ended with status {status}" if status >= 0 else f"ended with signal {-status}"
    return Ended(status, done.stdout.decode(errors="replace").strip(), words)
