"""The vectors of tests/testkit, made afresh and read back as any implementation would read them."""

import base64
import io
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import CODES, FwsignError
from fwsign.verify.verifier import DevicePolicy, Recorded, Slot, Verifier
from fwsign.x509.anchor import Anchor
from testkit.make import VECTORS, make
from testkit.vector import FORMAT, Vector, to_json

NOT_FROM_A_VERIFIER = {
    "malformed.image",
    "malformed.receipt",
    "tampered.receipt-chain",
    "tampered.receipt-head",
    "tampered.staged",
    "untrusted.receipt",
    "malformed.trust",
    "malformed.device-data",
    "unsuitable.bootable",
    "unsuitable.chip",
    "unsuitable.device-data",
    "unsuitable.epoch",
    "unsuitable.release",
    "unsuitable.trust-gap",
    "unsuitable.flash-mode",
    "unsuitable.flash-size",
    "unsuitable.locked",
    "unsuitable.partition",
    "unsuitable.payload",
    "unsuitable.region",
    "unsuitable.revision",
    "unsuitable.target",
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector.name))
def test_vector(vector: Vector) -> None:
    document = json.loads(to_json(vector))
    assert run(document) == document["expected"], document["says"]


def test_all_are_written_and_found(tmp_path: Path) -> None:
    made = make(tmp_path / "kit")
    found = sorted((tmp_path / "kit").glob("*.json"))
    assert found == sorted(made)
    assert len(found) == len(VECTORS) >= 60
    for path in found:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["format"] == FORMAT
        assert document["name"] == path.stem


def test_every_step_and_code_of_the_verifier_has_a_vector() -> None:
    refusals = [vector.expected for vector in VECTORS if vector.expected["verdict"] == "refused"]
    assert {one["step"] for one in refusals} - {None} == set(range(1, 11))
    reachable = {
        code
        for code in CODES
        if code.split(".", maxsplit=1)[0]
        in ("malformed", "tampered", "untrusted", "stale", "unsuitable")
    }
    codes = Counter(one["code"] for one in refusals)
    assert reachable - codes.keys() == NOT_FROM_A_VERIFIER


def run(document: dict[str, Any]) -> dict[str, Any]:
    """Verify a vector by nothing but its JSON, and say what came of it."""
    try:
        verifier = Verifier(map(anchor, document["anchors"]), policy(document["policy"]))
        at = datetime.fromisoformat(document["at"])
        release = verifier.verify(base64.b64decode(document["envelope"]), at=at)
        payloads = dict(document["payloads"])
        for component in release.components:
            given = payloads.pop(component.name, None)
            source = None if given is None else io.BytesIO(base64.b64decode(given))
            release.receive(component, source)
        for name in payloads:
            release.receive(name)
    except FwsignError as error:
        return {"verdict": "refused", "code": error.code, "step": error.step}
    return {
        "verdict": "accepted",
        "unchecked": list(release.unchecked),
        "notes": list(release.notes),
    }


def anchor(document: dict[str, Any]) -> Anchor:
    if "certificate" in document:
        encoded = base64.b64decode(document["certificate"])
        return Anchor.from_certificate(encoded, document["vendors"])
    return Anchor.from_public_key(base64.b64decode(document["public_key"]), document["vendors"])


def policy(document: dict[str, Any]) -> DevicePolicy:
    floor = document["time_floor"]
    changes = {
        "recorded": tuple(
            Recorded(
                base64.b64decode(one["manifest_digest"]),
                tuple(tuple(map(base64.b64decode, place)) for place in one["components"]),
            )
            for one in document["recorded"]
        ),
        "slots": tuple(Slot(**slot) for slot in document["slots"]),
        "crls": tuple(map(base64.b64decode, document["crls"])),
        "tsa_anchors": tuple(map(anchor, document["tsa_anchors"])),
        "allow_stale": timedelta(seconds=document["allow_stale"]),
        "time_floor": datetime.fromisoformat(floor) if floor else None,
    }
    return DevicePolicy(**{**document, **changes})
