"""A vector: one envelope with what a verifier is given, and what it must say."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor
from support import NOW, PAYLOAD, PRODUCT, VENDOR, Entity, Pki, make_pki
from testkit.fixed import shared


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


@shared
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
