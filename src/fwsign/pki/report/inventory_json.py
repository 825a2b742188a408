# SPDX-License-Identifier: Apache-2.0
"""An inventory as one object for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fwsign.pki.view.entry import old_fingerprints

if TYPE_CHECKING:
    from datetime import datetime

    from fwsign.pki.report.inventory import Entry, Inventory
    from fwsign.pki.report.material import KeyFile


def as_json(inventory: Inventory, at: datetime) -> dict[str, Any]:
    """Return the whole model as one object for JSON; entries name each other by SHA-256."""
    names = [entry.facts.sha256 for entry in inventory.entries]
    return {
        "source": inventory.source,
        "at": at.isoformat(),
        "certificates": [_entry_json(one, names, at) for one in inventory.entries],
        "crls": [
            {
                "name": one.name,
                "files": list(one.files),
                "standing": one.standing(at).value,
                "issuer": one.issuer,
                "issuers": [names[number] for number in one.issuers],
                "number": one.number,
                "this_update": one.begin.isoformat(),
                "next_update": one.end.isoformat() if one.end else None,
                "revoked": one.revoked,
                "problems": list(one.problems),
            }
            for one in inventory.crls
        ],
        "problems": [problem._asdict() for problem in inventory.problems],
    }


def _entry_json(entry: Entry, names: list[str], at: datetime) -> dict[str, Any]:
    said, revocation, key, above = entry.facts, entry.revocation, entry.key_file, entry.above
    return {
        "name": entry.name,
        "kind": entry.kind,
        "standing": entry.standing(at).value,
        "files": list(entry.files),
        "subject": said.subject,
        "issuer": said.issuer,
        "issuers": [names[number] for number in entry.issuers],
        "serial": said.serial,
        "sha256": said.sha256,
        **old_fingerprints(said.der),
        "subject_key_identifier": said.subject_key.hex() if said.subject_key else None,
        "authority_key_identifier": said.authority_key.hex() if said.authority_key else None,
        "valid_from": said.begin.isoformat(),
        "valid_until": said.end.isoformat(),
        "ca": said.ca,
        "path_length": said.path_length,
        "key_usage": list(said.key_usage),
        "extended_key_usage": list(said.extended_key_usage),
        "names": list(said.names),
        "permitted": list(said.permitted),
        "excluded": list(said.excluded),
        "key": said.key,
        "key_sha256": said.key_sha256 or None,
        "signature": said.signature,
        "private_key": _key(key) if key else None,
        "revoked": {
            "date": revocation.date.isoformat(),
            "reason": revocation.reason,
            "crl": revocation.crl,
        }
        if revocation
        else None,
        "ended_by": names[above.number] if above else None,
        "problems": list(entry.problems),
    }


def _key(key: KeyFile) -> dict[str, Any]:
    return {
        "file": key.file,
        "protection": key.protection,
        "derivation": key.derivation,
        "uri": key.uri,
    }
