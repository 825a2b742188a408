# SPDX-License-Identifier: Apache-2.0
"""Describe files, sign them, put newer CRLs into an envelope, ask a time-stamping authority.

Sign a file with the signer `release` of a PKI:

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.pki import Pki
from fwsign.signing import (
    Identity,
    ReleaseFile,
    Text,
    describe,
    file_identifier,
    sign,
    signer_from_uri,
    staple,
)
from fwsign.verify import Anchor

now = datetime.now(UTC)
pki = Pki("pki")
signer = signer_from_uri(pki.key_uri("release"), lambda: None)  # no passphrase
release = describe(
    [ReleaseFile(Path("build.bin"), file_identifier("build.bin"))],
    Text("acme.example", "gateway-x1", "2.4.1"),
    sequence_number=int(now.timestamp()),
)
envelope, verified = sign(
    release,
    [Identity(signer, pki.path("release"), pki.crls("release"))],
    [Anchor.from_pem(Path("pki/ca.crt").read_bytes())],
    at=now,
)
Path("build.bin.suit").write_bytes(envelope)

fresh = staple(envelope, pki.crls("release"))  # weeks later, with newer CRLs and no key
```

`sign` verifies the envelope as a device would before it returns it. A component for a board's flash
has `flash_identifier("esp32c3", 0x10000)`. Any object with the three members of `Signer` can sign.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.format.attachments import Attachment
    from fwsign.format.kinds import file_identifier, flash_identifier
    from fwsign.format.notice import Notice
    from fwsign.format.text import Text
    from fwsign.keys import Signer, signer_from_uri
    from fwsign.signing.attachments import AttachedFile, read_attachment
    from fwsign.signing.envelope import Identity, TimeStamping, sign
    from fwsign.signing.release import Release, ReleaseFile, describe
    from fwsign.signing.stapling import staple
    from fwsign.signing.tsa_client import request_token

__all__ = [
    "AttachedFile",
    "Attachment",
    "Identity",
    "Notice",
    "Release",
    "ReleaseFile",
    "Signer",
    "Text",
    "TimeStamping",
    "describe",
    "file_identifier",
    "flash_identifier",
    "read_attachment",
    "request_token",
    "sign",
    "signer_from_uri",
    "staple",
]

_PLACES = {
    "AttachedFile": "signing.attachments",
    "Attachment": "format.attachments",
    "Identity": "signing.envelope",
    "Notice": "format.notice",
    "Release": "signing.release",
    "ReleaseFile": "signing.release",
    "Signer": "keys",
    "Text": "format.text",
    "TimeStamping": "signing.envelope",
    "describe": "signing.release",
    "file_identifier": "format.kinds",
    "flash_identifier": "format.kinds",
    "read_attachment": "signing.attachments",
    "request_token": "signing.tsa_client",
    "sign": "signing.envelope",
    "signer_from_uri": "keys",
    "staple": "signing.stapling",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
