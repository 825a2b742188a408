# SPDX-License-Identifier: Apache-2.0
"""Give a component to the command that device.toml has for it.

A command begins only after every payload of the release was verified. It gets the verified bytes
through a descriptor that no other process can write.
"""

import contextlib
import fcntl
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fwsign.errors import Failed
from fwsign.format.payload import receive
from fwsign.gateway.config import Device
from fwsign.gateway.stage import Staged, explained, reading
from fwsign.gateway.target import Target
from fwsign.verify.verified import VerifiedRelease

IN_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of a payload in sealed memory; larger ones stay on the disk."""

_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def run_hook(device: Device, release: VerifiedRelease, staged: Staged, target: Target) -> None:
    """Give a payload to its command, on standard input.

    Args:
        device: the device with the command.
        release: the release of the payload.
        staged: the verified payload.
        target: the directory with the staged payload.

    Raises:
        Failed: `io.hook`: it could not be started, ended with an error, or took too long; `io.*`.
        Tampered: the staged bytes changed after they were verified.
    """
    component = staged.component
    command = device.hooks[component.name]
    version = (release.text.version if release.text else None) or ""
    facts = {
        "FWSIGN_COMPONENT": component.name,
        "FWSIGN_SEQUENCE": str(release.manifest.sequence_number),
        "FWSIGN_VERSION": version if version.isprintable() else "",  # the format takes any text
    }
    with explained(target.path), unwritable(staged, target.take_out) as handle:
        _run(command, handle, {**_ENVIRONMENT, **facts}, device.hook_seconds)


def _run(command: Sequence[str], handle: int, environment: dict[str, str], seconds: int) -> None:
    try:
        process = subprocess.Popen(  # noqa: S603 - fixed words of device.toml, no shell
            command,
            stdin=handle,
            stdout=2,  # for people; standard output is for the result
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _failed(
            command, f"cannot be started: {(error.strerror or str(error)).lower()}"
        ) from error
    try:
        status = process.wait(seconds)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise _failed(command, f"did not end within {seconds} seconds") from None
        raise
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise _failed(command, f"ended with {how}")


def _failed(command: Sequence[str], what: str) -> Failed:
    return Failed("io.hook", f"{command[0]} {what}", expected="status 0", found=what)


@contextlib.contextmanager
def unwritable(staged: Staged, take_out: Callable[[Staged], int]) -> Iterator[int]:
    """Yield a descriptor of the verified bytes: sealed memory, else a file.

    Args:
        staged: the verified payload.
        take_out: opens its file for reading only, if it is too large for memory.
    """
    if staged.component.size <= IN_MEMORY and hasattr(os, "memfd_create"):
        handle = os.memfd_create("payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fill: Callable[[int], None] = functools.partial(_copy_sealed, staged)
    else:
        handle = take_out(staged)
        fill = functools.partial(_verify_again, staged)
    try:
        fill(handle)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _copy_sealed(staged: Staged, handle: int) -> None:
    with reading(staged.handle) as source, os.fdopen(os.dup(handle), "wb") as memory:
        receive(staged.component, source, memory)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)


def _verify_again(staged: Staged, handle: int) -> None:
    with os.fdopen(os.dup(handle), "rb", buffering=0) as source:
        receive(staged.component, source)
