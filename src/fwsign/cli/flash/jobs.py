# SPDX-License-Identifier: Apache-2.0
"""The boards of a run of `fwsign flash`: the named ones, or all that are here."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fwsign.errors import Failed
from fwsign.flash import ports as ports_here
from fwsign.flash.backends import ConnectOptions, attached, kind_for
from fwsign.flash.conveyor import Conveyor
from fwsign.flash.outcome import Judge, Options
from fwsign.flash.simulate import SCHEME
from fwsign.flash.station import Job


def jobs(
    ports: Sequence[str],
    chips: Sequence[str],
    how: ConnectOptions,
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


def conveyor(
    ports: Sequence[str],
    chips: Sequence[str],
    how: ConnectOptions,
    judges: Callable[[Sequence[str]], list[Judge]],
    options: Options,
) -> Conveyor:
    """Return the station that takes one board after another; the arguments are those of `jobs`."""

    def look() -> dict[str, str | None]:
        here = ports_here.find()
        if not ports:
            kinds = [how.kind or kind_for(one.port, chips, one.vendor_id) for one in here]
            return {
                one.port: one.serial
                for one, kind in zip(here, kinds, strict=True)
                if kind in one.kinds
            }
        serials = {os.path.realpath(one.device): one.serial for one in here}
        named = [(port, os.path.realpath(port)) for port in ports]
        return {
            port: serials.get(real)
            for port, real in named
            if real in serials or "://" in port or port.startswith(SCHEME) or Path(real).exists()
        }

    def make(port: str) -> Job:
        (job,) = jobs([port], chips, how, judges)
        return job

    return Conveyor(look, make, options, tuple(ports))
