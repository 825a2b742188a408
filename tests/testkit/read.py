"""Vectors read back and run, by nothing but their files."""

import base64
import io
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fwsign.errors import FwsignError
from fwsign.trust.lists import TrustAnchor, TrustState
from fwsign.trust.update import apply_chain
from fwsign.verify import (
    Anchor,
    DevicePolicy,
    Recorded,
    Role,
    SignerPolicy,
    Slot,
    Verifier,
    parse_rule,
)
from fwsign.verify.channel import SeenChannel


class Bytes:
    """Reads the byte strings of a vector.

    Args:
        folder: where the vectors are.
        files: the content of shared files by name, if they are not on disk.
    """

    def __init__(
        self, folder: Path | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        self._folder = folder or Path()
        self._files = files or {}

    def __call__(self, given: Any) -> bytes:
        """Return the bytes that a vector gives."""
        if isinstance(given, str):
            return base64.b64decode(given, validate=True)
        if "file" in given:
            known = self._files.get(given["file"])
            return (self._folder / given["file"]).read_bytes() if known is None else known
        return base64.b64decode(given["repeat"], validate=True) * int(given["times"])


def run(document: dict[str, Any], read: Bytes) -> dict[str, Any]:
    """Run a vector, and say what came of it, in the words of its `expected`."""
    kinds = {
        "release": run_release,
        "channel": run_channel,
        "permit": run_permit,
        "trust": run_trust,
    }
    try:
        return kinds[document["kind"]](document, read)
    except FwsignError as error:
        found = {"verdict": "refused", "code": error.code}
        step = {"step": error.step} if document["kind"] != "trust" else {}
        return {**found, **step, "message": error.message}


def run_release(document: dict[str, Any], read: Bytes) -> dict[str, Any]:
    """Verify an envelope, then receive the payloads."""
    anchors = [anchor(one, read) for one in document["anchors"]]
    verifier = Verifier(anchors, policy({**document["device"], **document["policy"]}, read))
    at = datetime.fromisoformat(document["at"])
    release = verifier.verify(read(document["envelope"]), at=at)
    payloads = dict(document["payloads"])
    for component in release.components:
        given = payloads.pop(component.name, None)
        release.receive(component, None if given is None else io.BytesIO(read(given)))
    for name in payloads:
        release.receive(name)
    return {
        "verdict": "accepted",
        "unchecked": list(release.unchecked),
        "notes": list(release.notes),
    }


def run_channel(document: dict[str, Any], read: Bytes) -> dict[str, Any]:
    """Verify a channel, for a device that follows one of a name and has seen others."""
    anchors = [anchor(one, read) for one in document["anchors"]]
    verifier = Verifier(anchors, policy({**document["device"], **document["policy"]}, read))
    at = datetime.fromisoformat(document["at"])
    last = document["seen"]
    seen = SeenChannel(last["number"], read(last["manifest_digest"])) if last else None
    found = verifier.verify_channel(
        read(document["envelope"]), at=at, name=document["follows"], seen=seen
    )
    return {
        "verdict": "accepted",
        "number": found.channel.number,
        "unchecked": list(found.unchecked),
        "notes": list(found.notes),
    }


def run_permit(document: dict[str, Any], read: Bytes) -> dict[str, Any]:
    """Verify a permit, for a device with an id and the release that it shall let in."""
    anchors = [anchor(one, read) for one in document["anchors"]]
    verifier = Verifier(anchors, policy({**document["device"], **document["policy"]}, read))
    found = verifier.verify_permit(
        read(document["envelope"]),
        at=datetime.fromisoformat(document["at"]),
        device=document["id"],
        release=read(document["release"]),
    )
    return {
        "verdict": "accepted",
        "unchecked": list(found.unchecked),
        "notes": list(found.notes),
    }


def run_trust(document: dict[str, Any], read: Bytes) -> dict[str, Any]:
    """Apply updates to the list that a device has."""
    has = document["list"]
    anchors = (TrustAnchor(anchor(one, read), tuple(one["roles"])) for one in has["anchors"])
    trust = TrustState(**{**has, "anchors": tuple(anchors)})
    found = apply_chain(trust, list(map(read, document["updates"])))
    return {"verdict": "accepted", "number": found.trust.number}


def anchor(given: dict[str, Any], read: Bytes) -> Anchor:
    """Read an anchor: a certificate or a bare key."""
    if "certificate" in given:
        return Anchor.from_certificate(read(given["certificate"]), given["vendors"])
    return Anchor.from_public_key(read(given["public_key"]), given["vendors"])


def policy(given: dict[str, Any], read: Bytes) -> DevicePolicy:
    """Read the device's facts and its demands."""
    floor = given["time_floor"]
    changes = {
        "recorded": tuple(
            Recorded(
                read(one["manifest_digest"]),
                tuple(tuple(map(read, place)) for place in one["components"]),
            )
            for one in given["recorded"]
        ),
        "slots": tuple(Slot(**slot) for slot in given["slots"]),
        "crls": tuple(map(read, given["crls"])),
        "tsa_anchors": tuple(anchor(one, read) for one in given["tsa_anchors"]),
        "allow_stale": timedelta(seconds=given["allow_stale"]),
        "time_floor": datetime.fromisoformat(floor) if floor else None,
        "permitted": read(given["permitted"]) if "permitted" in given else None,
        "signers": signers(given["signers"]) if "signers" in given else None,
    }
    return DevicePolicy(**{**given, **changes})


def signers(given: dict[str, Any]) -> SignerPolicy:
    """Read who must sign."""
    roles = (
        Role(label, tuple(one.get("key", ())), **{name: one[name] for name in one.keys() - {"key"}})
        for label, one in given["roles"].items()
    )
    rule = given["signers"]
    return SignerPolicy(
        tuple(roles), parse_rule(rule) if rule else None, tuple(given["algorithms"])
    )
