# SPDX-License-Identifier: Apache-2.0
"""Give a component to the command that device.toml has for it.

A command begins only after every payload of the release was verified. It gets the verified bytes
through a descriptor that no other process can write.
"""

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from typing import Final

from fwsign.errors import Failed
from fwsign.format.payload import receive
from fwsign.gateway.config.device import Device, Tell
from fwsign.gateway.target import programs
from fwsign.gateway.target.directory import Target
from fwsign.gateway.target.stage import Staged, explained, reading
from fwsign.verify.verified import VerifiedRelease

IN_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of a payload in sealed memory; larger ones stay on the disk."""


def run_hook(
    device: Device, release: VerifiedRelease, staged: Staged, target: Target, tell: Tell
) -> None:
    """Give a payload to its command, on standard input.

    Args:
        device: the device with the command.
        release: the release of the payload.
        staged: the verified payload.
        target: the directory with the staged payload.
        tell: told of what the command printed.

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
        ended = programs.run(
            command,
            seconds=device.hook_seconds,
            environment=facts,
            stdin=handle,
            lock=target.lock,
        )
    ended.tell_output(component.name, tell)
    if ended.status != 0:
        what = f"{command[0]} {ended.said()}"
        raise Failed("io.hook", what, expected="status 0", found=ended.words)


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
        receive(staged.component.plain, source, memory)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)


def _verify_again(staged: Staged, handle: int) -> None:
    with os.fdopen(os.dup(handle), "rb", buffering=0) as source:
        receive(staged.component.plain, source)
