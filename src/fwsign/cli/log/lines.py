# SPDX-License-Identifier: Apache-2.0
"""Lines of the approval log: which concern a name, and how they look."""

from collections.abc import Mapping
from typing import Any

_SHORT = 16
"""Digits of a digest that are shown."""


def concerns(content: Mapping[str, Any], wanted: str) -> bool:
    """Tell whether a line is about something.

    Args:
        content: the line's.
        wanted: the name of an entry, a file or a product; a serial number; the beginning of a
            digest or of a key's hash, eight digits or more.
    """
    from fwsign.pki.index import serial_of

    if wanted in (content.get("name"), content.get("product")):
        return True
    serial = serial_of(wanted)
    if serial is not None and serial_of(str(content.get("serial", ""))) == serial:
        return True
    digits = wanted.lower()
    ours = (str(content.get(one) or "") for one in ("sha256", "key", "request"))
    return len(digits) >= 8 and any(one.startswith(digits) for one in ours)


def line(content: Mapping[str, Any]) -> str:
    """Return a line for people: when, what, which key, by whom, from which run."""
    run = content.get("run")
    facts = [
        ("product", content.get("product")),
        ("version", content.get("version")),
        ("sequence", content.get("sequence_number")),
        ("serial", content.get("serial")),
        ("until", str(content.get("ends") or "")[:10]),
        ("reason", content.get("reason")),
        ("number", content.get("number")),
        ("revoked", content.get("revoked")),
        ("request", str(content.get("request") or "")[:_SHORT]),
        ("sha256", "" if "serial" in content else str(content.get("sha256") or "")[:_SHORT]),
        ("key", str(content.get("key") or "")[:_SHORT]),
        ("at", content.get("place")),
        ("run", run.get("url") if isinstance(run, dict) else None),
    ]
    more = ", ".join(f"{word} {value}" for word, value in facts if value not in (None, ""))
    when, kind, name, who = (content.get(key, "-") for key in ("clock", "kind", "name", "who"))
    return f"{when}  {kind:<7}  {name}  {more}  by {who}"
