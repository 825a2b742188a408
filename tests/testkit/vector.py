"""A vector: one envelope with what a verifier is given, and what it must say; as JSON."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from fwsign.verify.verifier import DevicePolicy
from fwsign.x509.anchor import Anchor
from support import NOW, PAYLOAD, PRODUCT, VENDOR, Entity, Pki, der, make_pki

FORMAT = "fwsign-testkit-1"


class Case(NamedTuple):
    """What a verifier is given. `payloads` are delivered beside the envelope, by component."""

    envelope: bytes
    anchors: Sequence[Anchor]
    policy: DevicePolicy
    at: datetime = NOW
    payloads: Mapping[str, bytes] = {"build.bin": PAYLOAD}


class Vector(NamedTuple):
    """A case with its name, what it shows, the verdict, and the function that makes it."""

    name: str
    says: str
    expected: Mapping[str, Any]
    make: Callable[[], Case]


def accepted(*notes: str, unchecked: Sequence[str] = ()) -> dict[str, Any]:
    """Expect acceptance, with these notes and unchecked steps."""
    return {"verdict": "accepted", "unchecked": list(unchecked), "notes": list(notes)}


def refused(step: int | None, code: str) -> dict[str, Any]:
    """Expect a refusal at a step, with a code."""
    return {"verdict": "refused", "code": code, "step": step}


@cache
def pki() -> Pki:
    """Return the PKI that most vectors of one run share."""
    return make_pki()


def case(envelope: bytes, *anchors: Entity | Anchor, **policy: Any) -> Case:
    """Make a case for a device of the test product; the root of `pki` is pinned by default."""
    at = policy.pop("at", NOW)
    payloads = policy.pop("payloads", {"build.bin": PAYLOAD})
    pinned = [one.anchor if isinstance(one, Entity) else one for one in anchors or [pki().root]]
    device = {"vendor": VENDOR, "product": PRODUCT, "min_sequence": 1, **policy}
    return Case(envelope, pinned, DevicePolicy(**device), at, payloads)


def to_json(vector: Vector) -> str:
    """Make a vector and write it down; README.md has the members."""
    made = vector.make()
    policy = made.policy._asdict() | {
        "recorded": [
            {
                "manifest_digest": _base64(one.manifest_digest),
                "components": [list(map(_base64, place)) for place in one.components],
            }
            for one in made.policy.recorded
        ],
        "slots": [slot._asdict() for slot in made.policy.slots],
        "crls": list(map(_base64, made.policy.crls)),
        "time_floor": made.policy.time_floor and made.policy.time_floor.isoformat(),
        "tsa_anchors": list(map(_anchor, made.policy.tsa_anchors)),
        "allow_stale": int(made.policy.allow_stale.total_seconds()),
        "pinned_vendors": {key: list(names) for key, names in made.policy.pinned_vendors.items()},
    }
    document = {
        "format": FORMAT,
        "name": vector.name,
        "says": vector.says,
        "expected": dict(vector.expected),
        "at": made.at.isoformat(),
        "policy": policy,
        "anchors": list(map(_anchor, made.anchors)),
        "envelope": _base64(made.envelope),
        "payloads": {name: _base64(payload) for name, payload in made.payloads.items()},
    }
    return json.dumps(document, indent=1) + "\n"


def _anchor(anchor: Anchor) -> dict[str, Any]:
    if anchor.certificate is None:
        return {"public_key": _base64(der(anchor.key)), "vendors": list(anchor.vendors)}
    encoded = der(anchor.certificate.parsed)
    return {"certificate": _base64(encoded), "vendors": list(anchor.vendors)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
