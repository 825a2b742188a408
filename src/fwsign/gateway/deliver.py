# SPDX-License-Identifier: Apache-2.0
"""Deliver components that are not files: to a command, or to a board at the gateway.

Both begin only after every payload of the release was verified. They get the verified bytes through
a descriptor that no other process can write.
"""

import contextlib
import fcntl
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed, Unsuitable
from fwsign.format.component import Component
from fwsign.format.payload import PayloadSource, receive
from fwsign.gateway.config import Device
from fwsign.gateway.stage import Staged, explained
from fwsign.gateway.target import Target
from fwsign.verify.verified import VerifiedRelease

if TYPE_CHECKING:
    from fwsign.flash.outcome import Outcome
    from fwsign.verify.policy import DevicePolicy
    from fwsign.verify.verifier import Anchor

IN_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of a payload in sealed memory; larger ones stay on the disk."""

_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def kind(device: Device, component: Component) -> str:
    """Return the destination of a component: "file", "exec" or "flash".

    Raises:
        Unsuitable: `unsuitable.target`: device.toml has no place for it.
    """
    chip = _chip(component)
    if chip is None:
        return "exec" if component.name in device.hooks else "file"
    if chip in device.ports:
        return "flash"
    known = ", ".join(device.ports) or "none"
    raise Unsuitable(
        "unsuitable.target",
        f'"{component.name}" is for a board with {chip}, this gateway has {known}',
        expected=f"a port for {chip} in device.toml",
        found=known,
    )


def _chip(component: Component) -> str | None:
    """Return the chip of a component for flash, None for a file."""
    return component.identifier[1].decode() if component.identifier[0] == b"flash" else None


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
    with explained(target.path), _unwritable(staged, target) as handle:
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
def _unwritable(staged: Staged, target: Target) -> Iterator[int]:
    """Yield a descriptor of the verified bytes: sealed memory, else a file without a name."""
    if staged.component.size <= IN_MEMORY and hasattr(os, "memfd_create"):
        handle = os.memfd_create("payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fill: Callable[[int], None] = functools.partial(_copy_sealed, staged)
    else:
        handle = target.take_out(staged)
        fill = functools.partial(_verify_again, staged)
    try:
        fill(handle)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _copy_sealed(staged: Staged, handle: int) -> None:
    with opened(staged) as source, os.fdopen(os.dup(handle), "wb") as memory:
        receive(staged.component, source, memory)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)


def _verify_again(staged: Staged, handle: int) -> None:
    with os.fdopen(os.dup(handle), "rb", buffering=0) as source:
        receive(staged.component, source)


@contextlib.contextmanager
def opened(staged: Staged) -> Iterator[PayloadSource]:
    """Open a staged payload at its beginning."""
    with os.fdopen(os.dup(staged.handle), "rb", buffering=0) as file:
        file.seek(0)
        yield file


def flash(
    device: Device,
    envelope: bytes,
    trust: "tuple[Sequence[Anchor], DevicePolicy]",
    at: datetime,
    staged: Sequence[Staged],
) -> "list[tuple[str, Outcome]]":
    """Write the components for flash to the boards at this gateway, and verify them there.

    Each board has its own floor in the memory, and judges the release anew.

    Args:
        device: the device with the ports.
        envelope: the release's envelope.
        trust: anchors and policy, from device.toml and trust updates.
        at: the clock's time.
        staged: the verified payloads.

    Returns:
        The outcome at each port; a failure at one port does not stop the others.

    Raises:
        FwsignError: the release is refused.
    """
    from fwsign.flash.backends import How, attached, kind_for  # few gateways have boards
    from fwsign.flash.outcome import Options, Outcome
    from fwsign.flash.per_board import Given, Judging
    from fwsign.flash.ports import find, vendor_of
    from fwsign.flash.simulate import SCHEME
    from fwsign.flash.station import Job, Station

    anchors, policy = trust
    waived = ("revocation",) if policy.revocation == "off" else ()
    given = Given(envelope, anchors, policy, at, waived, device.state, remember=True)
    judging = Judging(given)
    components = judging.release.components
    with contextlib.ExitStack() as files:
        by_name = {one.component.name: one for one in staged}
        others = {one.name for one in components if _chip(one) is None}
        chips = judging.hold(lambda one: files.enter_context(opened(by_name[one.name])), others)
    jobs = []
    ports = dict.fromkeys(device.ports[chip] for chip in chips)
    here = [] if all(port.startswith(SCHEME) for port in ports) else find()
    for port in ports:
        own = [chip for chip in chips if device.ports[chip] == port]
        how = How(kind_for(port, own, vendor_of(port, here)))
        # The other components are for files, commands or another port, not for this board.
        elsewhere = {one.name for one in components if _chip(one) not in own}
        judge = functools.partial(judging.judge, elsewhere=elsewhere)
        jobs.append(Job(port, functools.partial(attached, port, how), judge))
    found = Station(jobs, Options())
    return [(job.port, what) for job, what in found if isinstance(what, Outcome)]
