# SPDX-License-Identifier: Apache-2.0
"""The machine's start and the seconds since: they measure a trial, as no clock can be trusted.

On Linux: `boot_id`, new at each start, and CLOCK_BOOTTIME, which goes on during suspend. Elsewhere:
CLOCK_MONOTONIC and no id; a start shows there because the seconds went down.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Uptime(NamedTuple):
    """One start of the machine.

    Args:
        boot: the id of the start; empty if the system gives none.
        seconds: whole seconds since the start.
    """

    boot: str
    seconds: int


ReadUptime: TypeAlias = Callable[[], Uptime]
"""Returns the uptime of now; tests give another one."""


def read_uptime() -> Uptime:
    """Return this machine's start and the seconds since."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Uptime(boot, int(time.clock_gettime(clock)))
