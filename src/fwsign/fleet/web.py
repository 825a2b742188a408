# SPDX-License-Identifier: Apache-2.0
"""The page of a collector, and the answers that its script asks for; without a network.

A server hands in path and query of each GET of a client that may look. The numbers are counted at
most once in `FRESH` seconds, however many clients ask.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign import spans
from fwsign.errors import Failed
from fwsign.fleet import page
from fwsign.fleet.questions import DeviceFilter, Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from fwsign.collect.store import FleetStore

FRESH: Final = 10
"""Seconds for which counted numbers are shown again."""
ROWS: Final = 25
"""Devices of one answer."""
MAX_QUERY: Final = 512
"""Characters of one value of a query."""
PATHS: Final = ("/", "/fleet/status", "/fleet/devices", "/fleet/device")
"""The paths that are answered."""

_KINDS: Final = {
    "all": DeviceFilter(),
    "silent": DeviceFilter(silent=True),
    "refused": DeviceFilter(refused=True),
    "signed": DeviceFilter(signed=True),
    "said": DeviceFilter(signed=False),
}
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class WebAnswer(NamedTuple):
    """The answer to a request: its status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class FleetPages:
    """Answers requests from a store.

    Args:
        store: the collector's.
        silence: the span after which a device is silent.
        clock: returns the time.
    """

    def __init__(
        self, store: FleetStore, silence: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._store, self._silence, self._clock = store, silence, clock
        self._lock = threading.Lock()
        self._counted: tuple[float, dict[str, Any]] | None = None

    def answer(self, path: str, query: Mapping[str, str]) -> WebAnswer:
        """Answer a GET of a client that may look."""
        if path not in PATHS:
            return _json(404, {"code": "io.missing", "message": f"there is no {path:.80}"})
        try:
            if any(len(value) > MAX_QUERY or "\0" in value for value in query.values()):
                raise ValueError("a value of the query is too long, or has a NUL in it")
            if path == "/":
                return self._page()
            if path == "/fleet/status":
                return _json(200, self._summary())
            asked = self._devices if path == "/fleet/devices" else self._device
            return _json(200, asked(query))
        except ValueError as error:
            return _json(400, {"code": "usage", "message": str(error)})
        except Failed as error:  # its words may name what only the server's owner shall see
            return _json(503, {"code": error.code, "message": "the store does not answer"})

    def _page(self) -> WebAnswer:
        shown = page.render(self._summary())
        policy = f"{page.policy(live=True)}; frame-ancestors 'none'"
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        return WebAnswer(200, {**_ALWAYS, **headers}, shown.encode())

    def _summary(self) -> dict[str, Any]:
        with self._lock:  # who comes meanwhile waits for the same numbers
            now = self._clock()
            if self._counted is None or abs(now.timestamp() - self._counted[0]) >= FRESH:
                with Questions.asked(self._store, now, self._silence) as questions:
                    words = spans.plain_span(self._silence)
                    counted = page.summary(questions, self._store.place, words)
                self._counted = (now.timestamp(), counted)
            return self._counted[1]

    def _devices(self, query: Mapping[str, str]) -> dict[str, Any]:
        wanted = parse_kind(query.get("kind", "all"))._replace(like=query.get("like", ""))
        after = _after(query.get("after", ""))
        with Questions.asked(self._store, self._clock(), self._silence) as questions:
            found = questions.devices(wanted, after, ROWS + 1)
        last = found[ROWS - 1] if len(found) > ROWS else None
        rows = [page.device_facts(one) for one in found[:ROWS]]
        return {"rows": rows, "next": json.dumps([last.name, last.board]) if last else None}

    def _device(self, query: Mapping[str, str]) -> dict[str, Any]:
        name, before = query.get("id", ""), query.get("before", "")
        if before and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise ValueError("before is the number of a receipt")
        with Questions.asked(self._store, self._clock(), self._silence) as questions:
            devices = questions.device(name)
            events = questions.events(name, int(before) if before else None, page.EVENTS + 1)
        following = str(events[page.EVENTS - 1].number) if len(events) > page.EVENTS else None
        own = next((one for one in devices if one.id == name), None)
        return {
            "device": page.device_facts(own) if own else None,
            "events": [page.event_facts(one) for one in events[: page.EVENTS]],
            "next": following,
        }


def parse_kind(text: str) -> DeviceFilter:
    """Read which devices are asked for, such as "silent" or "release:DIGEST".

    Raises:
        ValueError: it names no kind.
    """
    if (known := _KINDS.get(text)) is not None:
        return known
    kind, _, word = text.partition(":")
    if kind == "refused" and word:
        return DeviceFilter(code=word)
    if kind == "release" and word:
        try:
            return DeviceFilter(release=bytes.fromhex(word))
        except ValueError:
            raise ValueError("a release is named by its manifest digest in hex") from None
    raise ValueError(f"kind is {', '.join(_KINDS)}, release:DIGEST or refused:CODE")


def _after(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    try:
        name, board = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        name = board = None
    if not isinstance(name, str) or not isinstance(board, str):
        raise ValueError("after is what the answer before names as next")
    return name, board


def _json(status: int, value: object) -> WebAnswer:
    body = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
    return WebAnswer(status, {**_ALWAYS, "Content-Type": "application/json"}, body)
