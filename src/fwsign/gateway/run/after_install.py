# SPDX-License-Identifier: Apache-2.0
"""The command after an install, or after going back: it restarts what uses the files.

It is owed from the moment at which `current` moved until it ran: a kill in between leaves it to the
next run. It may run twice for one install, and never less than once.
"""

import json
from typing import Any, Final, Literal, TypeAlias

from fwsign.errors import Failed
from fwsign.gateway.config.device import Device
from fwsign.gateway.config.follow_rules import AfterInstall
from fwsign.gateway.run.open_gateway import OpenGateway, at_work
from fwsign.gateway.run.session import OWED, InstallRequest, opened
from fwsign.gateway.target import programs
from fwsign.gateway.target.directory import Target
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.memory.state import State

Result: TypeAlias = Literal["installed", "fell-back"]
"""What happened: `FWSIGN_RESULT`."""


_NAMES: Final = {
    *("FWSIGN_RESULT", "FWSIGN_SEQUENCE", "FWSIGN_VERSION"),
    *("FWSIGN_SEQUENCE_BEFORE", "FWSIGN_VERSION_BEFORE"),
}
"""The variables that say what happened."""


def owe(
    state: State,
    device: Device,
    result: Result,
    now: ReleaseRecord | None,
    before: ReleaseRecord | None,
) -> None:
    """Remember that the command has to run; inside the transaction that says what happened.

    Args:
        state: the memory.
        device: the device; without such a command nothing is remembered.
        result: what happened.
        now: the release in place; None if there is none.
        before: the release that was in place.
    """
    if device.after_install is None:
        return
    facts = {
        "FWSIGN_RESULT": result,
        "FWSIGN_SEQUENCE": str(now.sequence) if now else "",
        "FWSIGN_VERSION": _version(now),
        "FWSIGN_SEQUENCE_BEFORE": str(before.sequence) if before else "",
        "FWSIGN_VERSION_BEFORE": _version(before),
    }
    state.remember(OWED, json.dumps(facts))


def run_owed(gateway: OpenGateway) -> str | None:
    """Run the command if it is owed; return why it failed, in words, or None.

    A command that failed is not owed any more: it ran. A receipt says so.

    Args:
        gateway: the gateway at work.

    Raises:
        Failed: `state.*`, `io.*`, `key.*`.
    """
    state, rules = gateway.state, gateway.device.after_install
    text = state.remembered(OWED)
    if text is None:
        return None
    failure = _run(gateway, rules, _facts(text, gateway.device)) if rules is not None else None
    with state.transaction():
        state.remember(OWED, None)
        if failure is not None:
            error = Failed("io.hook", failure, expected="status 0", found=failure)
            gateway.log.add("failed", kind="after install", error=error)
    return failure


def notes(gateway: OpenGateway) -> list[str]:
    """Run the command if it is owed, as `run_owed`; return notes."""
    failure = run_owed(gateway)
    return [failure] if failure is not None else []


def catch_up(request: InstallRequest) -> str | None:
    """Run the command that a kill left owed, as `run_owed`; without one the target is not opened.

    Raises:
        Failed: `state.*`, `io.*`, `key.*`.
    """
    with opened(request.device) as state:
        if state.remembered(OWED) is None:
            return None
        with Target(request.device.target_dir) as target:
            return run_owed(at_work(request, state, target))


def _run(gateway: OpenGateway, rules: AfterInstall, facts: dict[str, str]) -> str | None:
    name = rules.command[0]
    try:
        ended = programs.run(
            rules.command,
            seconds=rules.seconds,
            environment=facts,
            user=rules.user,
            lock=gateway.target.lock,
        )
    except Failed as error:
        if error.code != "io.hook":
            raise
        return f"after the install, {error.message}"
    ended.tell_output(name, gateway.request.tell)
    return None if ended.status == 0 else f"after the install, {name} {ended.said()}"


def _facts(text: str, device: Device) -> dict[str, str]:
    try:
        found: Any = json.loads(text)
        if found.keys() != _NAMES or not all(str(one).isprintable() for one in found.values()):
            raise ValueError
    except (ValueError, AttributeError, RecursionError) as error:
        what = f'what the memory calls "{OWED}" is no command that is owed'
        raise Failed("state.damaged", what, expected="facts", found=text[:80]) from error
    facts = {name: str(value) for name, value in found.items()}
    return {**facts, "FWSIGN_CURRENT": str(device.target_dir / "current")}


def _version(record: ReleaseRecord | None) -> str:
    version = (record.version if record else None) or ""
    return version if version.isprintable() else ""
