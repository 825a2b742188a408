# SPDX-License-Identifier: Apache-2.0
"""A small PKI in a directory: make it, issue and renew certificates, revoke them, make CRLs.

A new PKI with another signer, which is revoked again:

```python
from datetime import UTC, datetime

from fwsign.pki import NewKey, Pki, create, issue, renew, renew_crls, revoke

now = datetime.now(UTC)
create(
    "pki",
    org="Acme",
    vendor="acme.example",
    alg="p256",
    root_passphrase=b"for the root",
    passphrase=None,  # of the other keys, which are written in clear
    now=now,
)
issue("pki", "signer", "nightly", key=NewKey("p256", None), ca_passphrase=lambda: None, now=now)
renew("pki", "release", ca_passphrase=lambda: None, now=now)
revoke("pki", "nightly", reason="superseded", ca_passphrase=lambda: None, now=now)
renew_crls("pki", lambda name: b"for the root" if name == "ca" else None, now=now)

pki = Pki("pki")
assert pki.names() == ("issuing", "issuing-tls", "nightly", "release")
assert pki.revocation("nightly") is not None
```

A function writes the directory whole or not at all, and raises `fwsign.errors.Failed`. Times are
arguments, and have a zone. `fwsign.pki.lint` looks for faults.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.pki.authority import create
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_keys import NewKey
    from fwsign.pki.issuance import issue
    from fwsign.pki.renewal import renew
    from fwsign.pki.revocation import REASONS, renew_crls, revoke
    from fwsign.pki.rotation import replace_issuing, rotate, standby

__all__ = [
    "REASONS",
    "NewKey",
    "Pki",
    "create",
    "issue",
    "renew",
    "renew_crls",
    "replace_issuing",
    "revoke",
    "rotate",
    "standby",
]

_PLACES = {
    "NewKey": "pki.entry_keys",
    "Pki": "pki.directory",
    "REASONS": "pki.revocation",
    "create": "pki.authority",
    "issue": "pki.issuance",
    "renew": "pki.renewal",
    "renew_crls": "pki.revocation",
    "replace_issuing": "pki.rotation",
    "revoke": "pki.revocation",
    "rotate": "pki.rotation",
    "standby": "pki.rotation",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
