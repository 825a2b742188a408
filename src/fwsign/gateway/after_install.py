# SPDX-License-Identifier: Apache-2.0
"""The command after an install, or after going back: it restarts what uses the files.

It is owed from the moment at which `current` moved until it ran: a kill in between leaves it to the
next run. It may run twice for one install, and never less than once.
"""

import json
from typing import Any, Final, Literal, TypeAlias

from fwsign.errors import Failed
from fwsign.gateway import programs
from fwsign.gateway.config import Device, Tell
from fwsign.gateway.release_record import ReleaseRecord
from fwsign.memory.state import State

OWED: Final = "after install"
"""The memory's name for the command that has still to run."""
Result: TypeAlias = Literal["installed", "fell-back"]
"""What happened: `FWSIGN_RESULT`."""
_SAID: Final = 200


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


def run_owed(state: State, device: Device, lock: int, tell: Tell) -> str | None:
    """Run the command if it is owed; return why it failed, in words, or None.

    A command that failed is not owed any more: it ran.

    Args:
        state: the memory.
        device: the device.
        lock: the target's lock, which the command keeps.
        tell: told of the command's output.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    text, rules = state.remembered(OWED), device.after_install
    if text is None:
        return None
    if rules is None:  # the owner took it out of device.toml
        state.remember(OWED, None)
        return None
    try:
        ended = programs.run(
            rules.command,
            seconds=rules.seconds,
            environment=_facts(text, device),
            user=rules.user,
            lock=lock,
        )
        failed = None if ended.status == 0 else f"{rules.command[0]} {ended.words}"
        lines = ended.output.splitlines()
    except Failed as error:
        if error.code != "io.hook":
            raise
        failed, lines = error.message, []
    for line in lines:
        tell(f"{rules.command[0]}: {line}")
    state.remember(OWED, None)
    return f"after the install {failed}" if failed else None


def _facts(text: str, device: Device) -> dict[str, str]:
    try:
        found: Any = json.loads(text)
        return {str(name): str(value) for name, value in found.items()} | {
            "FWSIGN_CURRENT": str(device.target_dir / "current")
        }
    except (ValueError, AttributeError) as error:
        what = f'what the memory calls "{OWED}" is no command that is owed'
        raise Failed("state.damaged", what, expected="facts", found=text[:80]) from error


def _version(record: ReleaseRecord | None) -> str:
    version = (record.version if record else None) or ""
    return version if version.isprintable() else ""
