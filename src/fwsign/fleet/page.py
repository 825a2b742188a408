# SPDX-License-Identifier: Apache-2.0
"""A fleet as one web page: a file that loads nothing, or the page of a collector, which asks it.

All text from devices is cut and escaped before it becomes JSON, and the page's script only ever
makes text of it. The content security policy names style and script by their digests, so that even
a failed escape would run nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from fwsign import __version__
from fwsign.fleet.model import rfc3339
from fwsign.fleet.questions import DeviceFilter, curves_of, shown_releases
from fwsign.fleet.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fwsign.fleet.model import FleetCurve, FleetDevice, FleetEvent, FleetRelease
    from fwsign.fleet.questions import Questions

FIRST_LINE: Final = b"<!doctype html><!-- fwsign fleet page -->\n"
"""The beginning of a page, which distinguishes an old page from other files."""
MAX_MESSAGE: Final = 480
"""Bytes of a message in a history."""
MAX_LISTED: Final = 100
"""Devices of each kind in a file, and histories."""
EVENTS: Final = 50
"""Receipts of one answer about a device."""
FEW_EVENTS: Final = 20
"""Receipts of one device in a file."""

_MARKER: Final = re.compile(r"<!--@([a-z]+)-->")


def render(data: Mapping[str, Any]) -> str:
    """Return the page with its data; the same for the same data."""
    folder = resources.files("fwsign.fleet")
    template = folder.joinpath("page.html").read_text("utf-8")
    script = folder.joinpath("page.js").read_text("utf-8").rstrip("\n")
    parts = {
        "policy": policy(live=bool(data["live"])),
        "version": __version__,
        "data": embedded(data),
        "script": script,
    }
    return _MARKER.sub(lambda marker: parts[marker[1]], template)  # once: no part is looked into


def policy(*, live: bool) -> str:
    """Return the content security policy; a live page may ask its own collector."""
    folder = resources.files("fwsign.fleet")
    template = folder.joinpath("page.html").read_text("utf-8")
    style = template.partition("<style>")[2].partition("</style>")[0]
    script = folder.joinpath("page.js").read_text("utf-8").rstrip("\n")
    asks = "connect-src 'self'; " if live else ""
    hashes = f"style-src {_digest(style)}; script-src {_digest(chr(10) + script + chr(10))}; "
    return f"default-src 'none'; {hashes}img-src data:; {asks}base-uri 'none'; form-action 'none'"


def _digest(content: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def embedded(data: Mapping[str, Any]) -> str:
    """Return data as JSON that can stand in a page: nothing in it ends an element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def summary(questions: Questions, source: str, silence: str) -> dict[str, Any]:
    """Return the numbers of a live page.

    Args:
        questions: the fleet at one moment.
        source: where it is stored, without secrets.
        silence: the span after which a device is silent, in words.
    """
    totals, every = questions.totals(), questions.releases()
    listed = shown_releases(every)
    problems = [
        {
            "time": rfc3339(one.noticed),
            "kind": plain(one.kind),
            "device": plain(one.device),
            "detail": plain(one.detail, MAX_MESSAGE),
        }
        for one in questions.problems()
    ]
    counts = {**totals.as_json(), "problems": sum(totals.problems.values())}
    kinds = [{"kind": plain(kind), "times": times} for kind, times in totals.problems.items()]
    return {
        "live": True,
        "at": rfc3339(questions.at),
        "source": plain(source),
        "silent_after": silence,
        "totals": counts,
        "releases": [release_facts(one) for one in listed],
        "left_out": {
            "releases": len(every) - len(listed),
            "devices": sum(one.devices for one in every) - sum(one.devices for one in listed),
        },
        "refusals": [
            {"code": plain(one.code), "devices": one.devices, "last": rfc3339(one.last)}
            for one in questions.refusals()
        ],
        "curves": _curves(curves_of(questions, listed)),
        "problems": {"kinds": kinds, "newest": problems},
    }


def whole(questions: Questions, source: str, silence: str, named: Sequence[str]) -> dict[str, Any]:
    """Return the data of a page in a file, with the first devices of each kind and histories.

    Args:
        questions: the fleet at one moment.
        source: where it is stored, without secrets.
        silence: the span after which a device is silent, in words.
        named: ids of devices that it must have.
    """
    found: dict[tuple[str, str], FleetDevice] = {}

    def take(devices: Iterable[FleetDevice]) -> None:
        found.update({(one.name, one.board): one for one in devices})

    data = summary(questions, source, silence)
    for wanted in (
        *(DeviceFilter(silent=True), DeviceFilter(refused=True), DeviceFilter(signed=False)),
        *(DeviceFilter(release=bytes.fromhex(one["key"])) for one in data["releases"]),
        DeviceFilter(),
    ):
        take(questions.devices(wanted, most=MAX_LISTED))
    for name in named:
        take(questions.device(name))
    told = [*named, *(one.id for one in found.values() if one.id not in named)]
    histories = {
        name: [event_facts(one) for one in questions.events(name, most=FEW_EVENTS)]
        for name in told[: max(MAX_LISTED, len(named))]
    }
    listed = sorted(found.values(), key=lambda one: (one.name, one.board))
    devices = [device_facts(one) for one in listed]
    return {**data, "live": False, "devices": devices, "histories": histories}


def release_facts(one: FleetRelease) -> dict[str, Any]:
    """Return a release as the page has it."""
    return {
        "key": one.manifest.hex(),
        "product": plain(one.of),
        "version": plain(one.version),
        "sequence": one.sequence,
        "class": plain(one.release_class),
        "advisories": [plain(name) for name in one.advisories],
        "devices": one.devices,
        "signed": one.signed,
    }


def device_facts(one: FleetDevice) -> dict[str, Any]:
    """Return a device as the page has it; `id` asks for it again, `name` is to be read."""
    product = "/".join(filter(None, (one.vendor, one.product))) or None
    return {
        "id": one.id,
        "name": plain(one.id),
        "station": plain(one.name) if one.board else None,
        "product": plain(product),
        "version": plain(one.version),
        "sequence": one.sequence,
        "key": one.manifest.hex() if one.manifest else None,
        "state": plain(one.state),
        "since": rfc3339(one.since),
        "heard": rfc3339(one.heard),
        "result": plain(one.result),
        "code": plain(one.code),
        "signed": one.signed,
        "silent": one.silent,
    }


def event_facts(one: FleetEvent) -> dict[str, Any]:
    """Return a receipt as the page has it."""
    return {
        "number": one.number,
        "time": rfc3339(one.clock) or rfc3339(one.received),
        "kind": plain(one.kind),
        "result": plain(one.result),
        "code": plain(one.code),
        "message": plain(one.message, MAX_MESSAGE),
        "product": plain("/".join(filter(None, (one.vendor, one.product)))) or None,
        "version": plain(one.version),
        "sequence": one.sequence,
        "signed": one.signer is not None,
        "signer": plain(one.signer),
        "station": plain(one.station),
    }


def _curves(curves: Iterable[FleetCurve]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in curves:
        release = release_facts(one.release)
        line = {name: release[name] for name in ("key", "version", "sequence")}
        found.setdefault(one.release.of, []).append({**line, "points": one.points})
    return [{"product": plain(of), "series": series} for of, series in found.items()]
