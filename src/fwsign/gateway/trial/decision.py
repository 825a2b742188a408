# SPDX-License-Identifier: Apache-2.0
"""What to do with a release on trial, decided by facts alone; `trial.steps` does it."""

from typing import Literal, NamedTuple, TypeAlias

Phase: TypeAlias = Literal["activating", "running", "going back", "stays"]
"""The phase of a trial.

    activating  commands, boards or the link were begun: an interruption goes back
    running     all of the release is in place; health and confirmation are awaited
    going back  it failed; the release before comes back before anything else
    stays       it failed, and the release before must not come back: it stays, uncommitted
"""
Action: TypeAlias = Literal["nothing", "go back", "check health", "wait", "commit"]


class TrialFacts(NamedTuple):
    """The facts about a trial at this moment.

    Args:
        phase: its phase.
        in_place: whether `current` is this release, and its envelope is still kept.
        ruled: whether device.toml still has `[trial]`.
        counted: whether the memory has this start of the machine.
        boots: starts of the machine since the trial began.
        most_boots: the most of them.
        elapsed: seconds of uptime since it began.
        deadline: the most of them.
        healthy: whether the health command has passed.
        confirmed: whether the application has confirmed, or need not.
        reason: the reason why it goes back already.
    """

    phase: Phase
    in_place: bool = True
    ruled: bool = True
    counted: bool = True
    boots: int = 0
    most_boots: int = 0
    elapsed: int = 0
    deadline: int = 1
    healthy: bool = False
    confirmed: bool = False
    reason: str | None = None


class Decision(NamedTuple):
    """The decision.

    Args:
        action: the action.
        reason: the reason for it, for people.
        blamed: whether the release is at fault, if it goes back from "running".
    """

    action: Action
    reason: str
    blamed: bool = True


def decide(facts: TrialFacts) -> Decision:
    """Decide on a release on trial. Nothing but a passed check and a confirmation makes it stay."""
    if facts.phase == "stays":
        return Decision("nothing", facts.reason or "the release before must not come back")
    if facts.phase == "going back":
        return Decision("go back", facts.reason or "it failed")
    if facts.phase == "activating":
        return Decision("go back", "it was interrupted while it was put in place")
    if not facts.in_place:
        return Decision("go back", "it was going back already, or its files were removed")
    if not facts.ruled:
        why = "device.toml has no [trial] any more, so nothing can judge it"
        return Decision("go back", why, blamed=False)
    if facts.healthy and facts.confirmed:
        return Decision("commit", "it passed its trial")
    if not facts.counted:
        return Decision("go back", "the memory cannot count this start of the machine")
    if facts.boots > facts.most_boots:
        starts = f"{facts.boots} times, at most {facts.most_boots} are allowed"
        return Decision("go back", f"the machine started {starts}, and it was not confirmed")
    if facts.elapsed >= facts.deadline:
        return Decision(
            "go back", f"it was not confirmed within {facts.deadline} seconds of uptime"
        )
    if not facts.healthy:
        return Decision("check health", "its health is not known yet")
    return Decision("wait", "the application has not confirmed it yet")


def is_blamed(interrupted: int, most_boots: int) -> bool:
    """Tell whether a release failed whose activation was interrupted so many times.

    An activation that ends the machine would otherwise begin again at each start.
    """
    return interrupted > most_boots
