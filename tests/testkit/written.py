"""Vectors as files: JSON, with the bytes that many of them share beside it (vectors/README.md)."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from blocks_kit import LONG
from fwsign.errors import CODES
from fwsign.trust.lists import TrustAnchor
from fwsign.verify.rule import write_rule
from fwsign.verify.signer_policy import SignerPolicy
from fwsign.x509.anchor import Anchor
from support import PAYLOAD, der
from testkit.channel_vectors import ChannelCase, ChannelVector
from testkit.fixed import scope
from testkit.permit_vectors import PermitCase, PermitVector
from testkit.read import Bytes, run
from testkit.signer_vectors import quantum, second
from testkit.token_vectors import tsa
from testkit.trust_vectors import TrustVector
from testkit.vector import Case, Vector, pki

FORMAT = "fwsign-vector-1"
DEVICE = ("vendor", "product", "min_sequence", "recorded", "time_floor")
"""The fields of a policy that say what the device is and remembers; the rest are demands."""
NOT_WRITTEN = ("held",)
"""What a device's memory brings: another implementation has its own, and no vector has any."""
LONG_RUN = 1024 * 1024
"""Bytes; a run of one byte that is longer is written as a count."""


def shared_files() -> dict[str, bytes]:
    """Return what many vectors have in common, by file name."""
    return {
        "shared/build.bin": PAYLOAD,
        "shared/long.bin": LONG,
        "shared/root.der": pki().root.der,
        "shared/second-root.der": second().root.der,
        "shared/quantum-root.der": quantum().root.der,
        "shared/tsa-root.der": tsa().root.der,
    }


def codes(vectors: Iterable[str]) -> str:
    """Return the meaning of every code that vectors expect, as JSON."""
    found = {json.loads(text)["expected"].get("code") for text in vectors}
    return json.dumps({code: CODES[code] for code in CODES if code in found}, indent=1) + "\n"


class Writer:
    """Makes vectors and writes them down.

    Args:
        files: the content of what many have in common, by file name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._names = {content: name for name, content in files.items()}

    def release(self, vector: Vector) -> str:
        """Write a vector of a release."""
        with scope(f"release {vector.name}"):
            made = vector.make()
        payloads = {name: self._bytes(one) for name, one in made.payloads.items()}
        return self._finish("release", vector, {**self._case(made), "payloads": payloads})

    def channel(self, vector: ChannelVector) -> str:
        """Write a vector of a channel."""
        with scope(f"channel {vector.name}"):
            made = vector.make()
        last = made.seen
        seen = last and {
            "number": last.number,
            "manifest_digest": self._bytes(last.manifest_digest or b""),
        }
        return self._finish(
            "channel", vector, {**self._case(made), "follows": made.name, "seen": seen}
        )

    def permit(self, vector: PermitVector) -> str:
        """Write a vector of a permit."""
        with scope(f"permit {vector.name}"):
            made = vector.make()
        asked = {"id": made.id, "release": self._bytes(made.release)}
        return self._finish("permit", vector, {**self._case(made), **asked})

    def _case(self, made: Case | ChannelCase | PermitCase) -> dict[str, Any]:
        """Write what verifiers of releases, of channels and of permits are given alike."""
        policy = made.policy._asdict()
        permitted = policy.pop("permitted")
        exempt = {"permitted": self._bytes(permitted)} if permitted else {}
        signers = _signers(policy.pop("signers"))
        for name in NOT_WRITTEN:
            if policy.pop(name):
                raise AssertionError(f"a vector has {name}, which no file says")
        policy |= {
            "recorded": [
                {
                    "manifest_digest": self._bytes(one.manifest_digest),
                    "components": [list(map(self._bytes, place)) for place in one.components],
                }
                for one in made.policy.recorded
            ],
            "slots": [slot._asdict() for slot in made.policy.slots],
            "crls": list(map(self._bytes, made.policy.crls)),
            "time_floor": made.policy.time_floor and made.policy.time_floor.isoformat(),
            "tsa_anchors": list(map(self._anchor, made.policy.tsa_anchors)),
            "allow_stale": int(made.policy.allow_stale.total_seconds()),
            "pinned_vendors": {
                key: list(names) for key, names in made.policy.pinned_vendors.items()
            },
        }
        policy |= signers
        return {
            "at": made.at.isoformat(),
            "device": {name: policy.pop(name) for name in DEVICE} | exempt,
            "policy": policy,
            "anchors": list(map(self._anchor, made.anchors)),
            "envelope": self._bytes(made.envelope),
        }

    def trust(self, vector: TrustVector) -> str:
        """Write a vector of trust updates."""
        with scope(f"trust {vector.name}"):
            has, updates = vector.make()
        anchors = list(map(self._trust_anchor, has.anchors))
        return self._finish(
            "trust",
            vector,
            {
                "list": {**has._asdict(), "anchors": anchors},
                "updates": [*map(self._bytes, updates)],
            },
        )

    def _finish(
        self,
        kind: str,
        vector: Vector | TrustVector | ChannelVector | PermitVector,
        given: dict[str, Any],
    ) -> str:
        """Put a vector together, with the words of a refusal, which no one else need have."""
        head = {"format": FORMAT, "kind": kind, "name": vector.name, "says": vector.says}
        found = run({**head, **given}, Bytes(files=self._files))
        expected = dict(vector.expected)
        if {key: found[key] for key in expected} != expected:
            raise AssertionError(f"{kind} {vector.name}: expected {expected}, found {found}")
        return json.dumps({**head, "expected": found, **given}, indent=1) + "\n"

    def _anchor(self, anchor: Anchor) -> dict[str, Any]:
        if anchor.certificate is None:
            key = self._bytes(der(anchor.key))
            return {"public_key": key, "vendors": list(anchor.vendors)}
        encoded = self._bytes(der(anchor.certificate.parsed))
        return {"certificate": encoded, "vendors": list(anchor.vendors)}

    def _trust_anchor(self, one: TrustAnchor) -> dict[str, Any]:
        return {**self._anchor(one.anchor), "roles": list(one.roles)}

    def _bytes(self, data: bytes) -> Any:
        """Write bytes as base64, as the name of a file, or as how often one byte is repeated."""
        if name := self._names.get(data):
            return {"file": name}
        if len(data) > LONG_RUN and data.count(data[:1]) == len(data):
            return {"repeat": base64.b64encode(data[:1]).decode(), "times": len(data)}
        return base64.b64encode(data).decode()


def _signers(policy: SignerPolicy | None) -> dict[str, Any]:
    """Write who must sign, in the words of device.toml."""
    if policy is None:
        return {}
    roles = {}
    for role in policy.roles:
        fields = role._asdict()
        keys = list(fields.pop("keys"))
        said = {name: one for name, one in fields.items() if one is not None and name != "label"}
        roles[role.label] = {**({"key": keys} if keys else {}), **said}
    rule = write_rule(policy.rule) if policy.rule else None
    return {"signers": {"signers": rule, "algorithms": list(policy.algorithms), "roles": roles}}
