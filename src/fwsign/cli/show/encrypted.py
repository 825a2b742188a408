# SPDX-License-Identifier: Apache-2.0
"""What `fwsign show` says of an encrypted payload: its ciphertext, and the groups that open it."""

import contextlib
from typing import Any

from fwsign.cli.config import load
from fwsign.errors import FwsignError
from fwsign.format.component import Component, keys_uri
from fwsign.format.encryption import decode_recipients
from fwsign.format.envelope import Envelope
from fwsign.format.suit import Manifest


def card(envelope: Envelope, manifest: Manifest, component: Component) -> dict[str, Any]:
    """Return the facts about an encrypted component, which no signature covers in part: `to`."""
    encrypted = component.encrypted
    if encrypted is None:
        return {}
    wrapped = envelope.integrated.get(keys_uri(manifest.components.index(component)), b"")
    try:
        recipients = decode_recipients(component, encrypted, wrapped)
        to: Any = [_group(one.key_id.hex()) for one in recipients]
    except FwsignError as error:
        to = str(error)
    return {"size": encrypted.size, "digest": encrypted.digest.value.hex(), "to": to}


def _group(key_id: str) -> dict[str, str]:
    """Return a group's key, and its name if the PKI of fwsign.toml has it."""
    found = {"key sha256": key_id}
    with contextlib.suppress(FwsignError):
        directory = load().pki
        if directory is not None:
            from fwsign.pki.directory import Pki
            from fwsign.x509.certificate import key_digest

            pki = Pki(directory)
            for name in pki.names():
                if key_digest(pki.certificate(name).public_key()) == key_id:
                    return {"name": name, **found}
    return found
