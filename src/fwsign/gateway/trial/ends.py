# SPDX-License-Identifier: Apache-2.0
"""The release on trial, from outside: judge it now, or confirm it as its application.

The memory's floor rises when the release is committed, and not before. See ADR 32.
"""

from typing import Final

from fwsign.errors import Failed
from fwsign.gateway.run.open_gateway import at_work
from fwsign.gateway.run.session import (
    InstallRequest,
    opened,
    refuse_platform,
)
from fwsign.gateway.target.directory import Target
from fwsign.gateway.trial.record import (
    TrialRecord,
    read_trial,
    write_trial,
)
from fwsign.gateway.trial.status import TrialStatus, nothing_on_trial
from fwsign.gateway.trial.steps import settle

__all__ = ["TrialStatus", "confirm", "trial"]


def trial(request: InstallRequest) -> TrialStatus:
    """End what is due on a trial: count the start of the machine, run health, commit or go back.

    For the boot, for timers, and for people. Without a trial nothing is done.

    Args:
        request: the device and the time.

    Raises:
        Failed: `state.*`, `io.*`, `device.*`.
    """
    refuse_platform()
    with opened(request.device) as state:
        if read_trial(state) is None:
            return TrialStatus("no trial")
        with Target(request.device.target_dir) as target:
            return settle(at_work(request, state, target))


def confirm(request: InstallRequest, sequence: int | None = None) -> TrialStatus:
    """Confirm the release on trial, as its application; commit it if its health is known.

    Args:
        request: the device and the time.
        sequence: the sequence number of the release that confirms; None for any.

    Raises:
        Failed: `state.nothing`: none is on trial, or another one; `state.trial`: it goes back.
    """
    refuse_platform()
    with opened(request.device) as state:
        with state.transaction():
            write_trial(state, _confirmed(read_trial(state), sequence))
        try:
            target = Target(request.device.target_dir)
        except Failed as error:
            if error.code != "state.busy":
                raise
            # The run that is at work reads the confirmation when the health command ends.
            return TrialStatus("on trial", read_trial(state), "its health is being judged")
        with target:
            return settle(at_work(request, state, target))


def _confirmed(record: TrialRecord | None, sequence: int | None) -> TrialRecord:
    if record is None:
        raise nothing_on_trial("no release is on trial", "one", "none")
    number = record.release.sequence
    if sequence not in (None, number):
        what = f"release {number} is on trial, not release {sequence}"
        raise nothing_on_trial(what, sequence, number)
    if record.phase != "running":
        what = f"release {number} cannot be confirmed: it is {_PHASES[record.phase]}"
        raise Failed("state.trial", what, expected="running", found=record.phase)
    return record._replace(confirmed=True)


_PHASES: Final = {
    "activating": "not in place yet",
    "going back": "going back",
    "stays": "failed, and in place only because the release before must not come back",
}
