# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGHUP end a command as Ctrl-C does, so that nothing is left half written."""

import signal
from typing import Any

from fwsign.cli import answer

_heard: list[int] = []


def heed() -> None:
    """Raise KeyboardInterrupt at SIGTERM and SIGHUP; leave ignored ones ignored, for nohup(1)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


def status() -> int:
    """Return the exit status of a command that was stopped: 128 and the signal's number."""
    return 128 + _heard[0] if _heard else answer.INTERRUPTED
