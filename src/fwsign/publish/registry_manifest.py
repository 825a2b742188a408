# SPDX-License-Identifier: Apache-2.0
"""Manifests of OCI artifacts, as fwsign writes them into a registry and reads them there."""

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
ENVELOPE: Final = "application/suit-envelope+cose"
RELEASE_TYPE: Final = "application/vnd.fwsign.release.v1"
PAYLOADS_TYPE: Final = "application/vnd.fwsign.payloads.v1"
CHANNEL_TYPE: Final = "application/vnd.fwsign.channel.v1"
CREATED: Final = "org.opencontainers.image.created"
TITLE: Final = "org.opencontainers.image.title"
EMPTY: Final = b"{}"


class Held(NamedTuple):
    """A manifest that a registry holds: its bytes, and what they say."""

    data: bytes
    content: Any

    @property
    def digest(self) -> str:
        """Its digest, as registries write it."""
        return digest_of(self.data)

    @property
    def layer(self) -> Any:
        """The descriptor of its first layer."""
        return self.content["layers"][0]


def digest_of(data: bytes) -> str:
    """Return a digest as registries write it."""
    return f"sha256:{sha256(data).hexdigest()}"


def check_layer(layer: Any) -> None:
    """Refuse a descriptor without size and digest: ValueError, LookupError, TypeError."""
    size, digest = layer["size"], layer["digest"]
    if not isinstance(size, int) or size < 0 or not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise ValueError


def check_listed(manifests: Any) -> None:
    """Refuse what an index cannot list: TypeError."""
    if not isinstance(manifests, list) or not all(isinstance(one, dict) for one in manifests):
        raise TypeError


def descriptor(kind: str, data: bytes, title: str | None = None) -> dict[str, Any]:
    """Return the descriptor of some bytes."""
    found: dict[str, Any] = {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
    return found if title is None else {**found, "annotations": {TITLE: title}}


def artifact(
    kind: str,
    layers: Sequence[dict[str, Any]],
    subject: dict[str, Any] | None,
    annotations: dict[str, str],
) -> bytes:
    """Return the manifest of an artifact."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": descriptor("application/vnd.oci.empty.v1+json", EMPTY),
        "layers": list(layers),
        **({"subject": subject} if subject else {}),
        "annotations": annotations,
    }
    return encode_json(content)


def encode_json(content: object) -> bytes:
    """Return JSON, the same bytes for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
