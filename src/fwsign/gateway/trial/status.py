# SPDX-License-Identifier: Apache-2.0
"""How a release on trial is, for people and programs."""

from typing import Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed, Unsuitable
from fwsign.gateway.trial.record import TrialRecord

TrialVerdict: TypeAlias = Literal["no trial", "on trial", "committed", "fell back", "stays"]


class TrialStatus(NamedTuple):
    """What is known of a release on trial.

    Args:
        verdict: "on trial" waits; "stays" failed, and is not committed.
        record: the release and its trial; None without one.
        reason: what it waits for, or why it ended.
        notes: notes for people.
    """

    verdict: TrialVerdict
    record: TrialRecord | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        number = self.record.release.sequence if self.record else 0
        return "; ".join((f"release {number}, {self.verdict}: {self.reason}", *self.notes))

    @property
    def ended_now(self) -> bool:
        """Whether it ended in this run, well or badly."""
        return self.verdict in ("committed", "fell back")

    @property
    def ended_badly(self) -> bool:
        """Whether it failed in this run."""
        return self.verdict in ("fell back", "stays")

    def refusal(self) -> Unsuitable:
        """Return the error for a trial that ended badly."""
        record = self.record
        number = record.release.sequence if record else 0
        if self.verdict == "stays":
            outcome, found = "it is in place and not committed", f"release {number}"
        elif record is None or record.before is None:
            outcome, found = "nothing is installed, as before", "nothing"
        else:
            found = f"release {record.before.sequence}"
            outcome = f"{found} is in place again"
        words = "; ".join((f"release {number} failed its trial: {self.reason}", *self.notes))
        return Unsuitable(
            "unsuitable.trial",
            f"{words}; {outcome}",
            expected="a release that passes its trial",
            found=found,
        )


def nothing_on_trial(message: str, expected: object, found: object) -> Failed:
    """Return the error for a release that is not on trial."""
    hint = "fwsign device status shows what is installed and on trial"
    return Failed("state.nothing", message, expected=expected, found=found, hint=hint)
