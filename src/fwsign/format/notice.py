# SPDX-License-Identifier: Apache-2.0
"""A release's notice, a part of its text: its class, its advisories, the end of its support.

A gateway decides by the class whether it installs a release by itself. The text is signed, so a
class that is there is the signer's. Who cuts the text off only takes the class away; a release
without one is never treated better than a feature release (ADR 35).
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, NamedTuple

from fwsign.format.suit import outside
from fwsign.format.suit_labels import NoticeKey

CLASSES: Final = ("security", "feature")
"""What a release is for: to close a hole, or to bring something new."""
MAX_ADVISORIES: Final = 32
"""Advisories of one release."""
MAX_ADVISORY: Final = 64
"""Characters of an advisory's identifier."""
_ADVISORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Notice(NamedTuple):
    """What a release says of itself for whoever decides when to install it.

    Args:
        release_class: "security" or "feature"; None if it does not say.
        advisories: the advisories that it closes, such as "CVE-2026-1234".
        support_until: the last day of support, such as "2031-12-31".
    """

    release_class: str | None = None
    advisories: tuple[str, ...] = ()
    support_until: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the notice as it stands in JSON and in receipts."""
        return {
            "class": self.release_class,
            "advisories": list(self.advisories),
            "support_until": self.support_until,
        }


def fault(notice: Notice) -> str | None:
    """Return what is wrong with a notice; None if it is well-formed."""
    known, advisories, until = notice
    if known is not None and known not in CLASSES:
        return f"class {known!r:.40}, expected {' or '.join(CLASSES)}"
    if len(advisories) > MAX_ADVISORIES:
        return f"{len(advisories)} advisories, at most {MAX_ADVISORIES}"
    for one in advisories:
        if len(one) > MAX_ADVISORY or not _ADVISORY.fullmatch(one):
            return f"advisory {one!r:.80}, expected at most {MAX_ADVISORY} of A-Z a-z 0-9 . _ : -"
    if len(set(advisories)) < len(advisories):
        return "an advisory that is named twice"
    if advisories and known != "security":
        return f"advisories in a release of class {known or 'none'}, expected security"
    if until is not None and not _is_date(until):
        return f"end of support {until!r:.40}, expected a date as 2031-12-31"
    return None


def encode_notice(notice: Notice) -> dict[int, str]:
    """Return the entries of the text map; absent parts have none."""
    entries = {
        NoticeKey.CLASS: notice.release_class,
        NoticeKey.ADVISORIES: " ".join(notice.advisories) or None,
        NoticeKey.SUPPORT_UNTIL: notice.support_until,
    }
    return {label: value for label, value in entries.items() if value is not None}


def decode_notice(english: Mapping[Any, Any]) -> Notice:
    """Read the notice of a text map; the caller encodes it again and compares.

    Raises:
        Malformed: `malformed.profile`.
    """
    labels = (NoticeKey.CLASS, NoticeKey.ADVISORIES, NoticeKey.SUPPORT_UNTIL)
    values = [english.get(label) for label in labels]
    if not all(isinstance(one, str | None) for one in values):
        raise outside("a class, advisory or end of support that is not text")
    known, advisories, until = values
    notice = Notice(known, tuple(advisories.split(" ")) if advisories is not None else (), until)
    if (wrong := fault(notice)) is not None:
        raise outside(f"the text has {wrong}")
    return notice


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and date.fromisoformat(text) is not None
    except ValueError:
        return False
