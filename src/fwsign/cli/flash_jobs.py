# SPDX-License-Identifier: Apache-2.0
"""The boards of a run of `fwsign flash`: the named ones, or all that are here."""

import functools
from collections.abc import Callable, Sequence

from fwsign.errors import Failed
from fwsign.flash import ports as ports_here
from fwsign.flash.backends import How, attached, kind_for
from fwsign.flash.engine import Judge
from fwsign.flash.station import Job


def jobs(
    ports: Sequence[str],
    chips: Sequence[str],
    how: How,
    judges: Callable[[Sequence[str]], list[Judge]],
) -> list[Job]:
    """Return a job for each board: the named ones, or all fitting ones that are here.

    Args:
        ports: the named ports; none for all that are here.
        chips: the chips of the release.
        how: the way to reach boards.
        judges: returns the judge of each port.

    Raises:
        Failed: `device.absent`, `device.support`; Unsuitable: `unsuitable.chip`.
    """
    here = [] if ports and how.kind else ports_here.find()
    if ports:
        kinds = [
            how.kind or kind_for(port, chips, ports_here.vendor_of(port, here)) for port in ports
        ]
    else:
        found = [(one, how.kind or kind_for(one.port, chips, one.vendor_id)) for one in here]
        fitting = [(one.port, kind) for one, kind in found if kind in one.kinds]
        if not fitting:
            words = ", ".join(chips)
            seen = ", ".join(f"{one.port} ({one.words})" for one, _ in found) or "no port at all"
            raise Failed(
                "device.absent",
                f"no board here may be for {words}: {seen}",
                expected=words,
                found=seen,
            )
        ports, kinds = [port for port, _ in fitting], [kind for _, kind in fitting]
    return [
        Job(port, functools.partial(attached, port, how._replace(kind=kind)), judge)
        for port, kind, judge in zip(ports, kinds, judges(ports), strict=True)
    ]
