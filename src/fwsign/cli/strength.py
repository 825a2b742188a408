# SPDX-License-Identifier: Apache-2.0
"""Advice for people who choose a passphrase; it never contains the passphrase."""

import importlib
from typing import Any, Final

from fwsign.cli import ui

ADVICE: Final = (
    "length counts more than symbols: five random words are hard to guess, P@ss1! is not"
)
_LONGEST: Final = 72  # characters; zxcvbn takes no more


def advise() -> None:
    """Print what makes a passphrase good, before the user chooses one."""
    ui.note(ADVICE)


def judge(passphrase: str) -> None:
    """Print how long guessing would take, if the package zxcvbn is installed."""
    try:
        zxcvbn: Any = importlib.import_module("zxcvbn")
    except ImportError:
        return
    found = zxcvbn.zxcvbn(passphrase[:_LONGEST])
    # Our derivation allows some ten guesses a second on one core.
    time = found["crack_times_display"]["offline_slow_hashing_1e4_per_second"]
    words = f"strength of the passphrase: {found['score']} of 4, guessed within {time}"
    warning = found["feedback"]["warning"]  # one of a fixed list of sentences
    ui.note(f"{words}: {warning[:1].lower()}{warning[1:].rstrip('.')}" if warning else words)
