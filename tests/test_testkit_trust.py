"""The vectors of trust updates, made afresh and read back as any implementation would read them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import FwsignError
from fwsign.trust.lists import TrustAnchor, TrustState
from fwsign.trust.update import apply_chain
from fwsign.x509.anchor import Anchor
from testkit.trust_vectors import FORMAT, VECTORS, TrustVector, make, to_json


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector.name))
def test_vector(vector: TrustVector) -> None:
    document = json.loads(to_json(vector))
    assert run(document) == document["expected"], document["says"]


def test_all_are_written_and_found(tmp_path: Path) -> None:
    made = make(tmp_path / "kit")
    found = sorted((tmp_path / "kit").glob("*.json"))
    assert found == sorted(made)
    assert len(found) == len(VECTORS) >= 20
    for path in found:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["format"] == FORMAT
        assert f"trust-{document['name']}" == path.stem


def run(document: dict[str, Any]) -> dict[str, Any]:
    """Apply a vector's updates by nothing but its JSON, and say what came of it."""
    has = document["list"]
    trust = TrustState(**{**has, "anchors": tuple(map(anchor, has["anchors"]))})
    try:
        found = apply_chain(trust, list(map(base64.b64decode, document["updates"])))
    except FwsignError as error:
        return {"verdict": "refused", "code": error.code}
    return {"verdict": "accepted", "number": found.trust.number}


def anchor(document: dict[str, Any]) -> TrustAnchor:
    vendors, roles = document["vendors"], tuple(document["roles"])
    if "certificate" in document:
        encoded = base64.b64decode(document["certificate"])
        return TrustAnchor(Anchor.from_certificate(encoded, vendors), roles)
    return TrustAnchor(
        Anchor.from_public_key(base64.b64decode(document["public_key"]), vendors), roles
    )
