# SPDX-License-Identifier: Apache-2.0
"""Run the three commands of a component: activate, confirm, revert."""

import os

from fwsign.errors import Failed
from fwsign.gateway.config.verbs import Verb
from fwsign.gateway.run import hooks
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.target import programs
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.target.stage import Staged, facts
from fwsign.verify.verified import VerifiedRelease


def activate(gateway: OpenGateway, record: ReleaseRecord, staged: Staged) -> None:
    """Give a component's payload to the command that starts to use it.

    Args:
        gateway: the gateway at work.
        record: the release.
        staged: the verified payload.

    Raises:
        Failed: `io.hook`, `io.*`; Tampered: the staged bytes changed after they were verified.
    """
    name = staged.component.name
    others = gateway.target.others
    with hooks.unwritable(staged, lambda one: _read_only(others, one.name)) as handle:
        _run(gateway, "activate", name, record, handle)


def confirm(gateway: OpenGateway, record: ReleaseRecord, name: str) -> None:
    """Run the command that makes a component stay.

    Raises:
        Failed: `io.hook`.
    """
    _run(gateway, "confirm", name, record, None)


def revert(
    gateway: OpenGateway, name: str, before: ReleaseRecord | None, release: VerifiedRelease | None
) -> None:
    """Give the payload of the release before to the command that uses it again.

    Args:
        gateway: the gateway at work.
        name: the component's name.
        before: the release before; None if there was none.
        release: the same release, verified again.

    Raises:
        Failed: `io.hook`, `io.*`; Tampered: the kept bytes changed since they were verified.
    """
    number = number_of(release, name) if release else None
    if before is None or release is None or number is None or name in before.files:
        _run(gateway, "revert", name, before, None)
        return
    with KeptReleases(gateway.target).opened(before.manifest, number) as own:
        staged = Staged(release.component(name), "exec", number, own, facts(own))
        with hooks.unwritable(staged, lambda one: os.dup(one.handle)) as handle:
            _run(gateway, "revert", name, before, handle)


def number_of(release: VerifiedRelease, name: str) -> str | None:
    """Return the name under which a component's payload is kept; None if it has no such part."""
    found = (str(number) for number, one in enumerate(release.components) if one.name == name)
    return next(found, None)


def _read_only(parent: int, name: str) -> int:
    """Open a payload for reading only; its name stays, since it may be needed again."""
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _run(
    gateway: OpenGateway, verb: Verb, name: str, record: ReleaseRecord | None, stdin: int | None
) -> None:
    commands = gateway.device.verbs.get(name)
    if commands is None:
        what = f'device.toml has no commands for "{name}" any more'
        raise Failed("io.hook", what, expected="activate, confirm and revert", found="none")
    version = (record.version if record else None) or ""
    argv: tuple[str, ...] = getattr(commands, verb)
    gateway.request.tell(f"{name}: {verb}: {argv[0]}")
    ended = programs.run(
        argv,
        seconds=gateway.device.hook_seconds,
        environment={
            "FWSIGN_VERB": verb,
            "FWSIGN_COMPONENT": name,
            "FWSIGN_SEQUENCE": str(record.sequence) if record else "",
            "FWSIGN_VERSION": version if version.isprintable() else "",
        },
        stdin=stdin,
        lock=gateway.target.lock,
    )
    ended.tell_output(name, gateway.request.tell)
    if ended.status != 0:
        what = f"{argv[0]} {ended.said()}"
        raise Failed("io.hook", what, expected="status 0", found=ended.words)
