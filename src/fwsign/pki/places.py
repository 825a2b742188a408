# SPDX-License-Identifier: Apache-2.0
"""Where the files of a PKI directory lie.

The layout is that of easy-rsa: `ca.crt`, `private/ca.key`, `issued/NAME.crt`,
`private/NAME.key`, and `crl/NAME.pem` for each CA. `ca` is the root, `issuing` the CA below it,
every other name a leaf. A certificate makes an entry; a key alone does not.

Where `private/NAME.uri` is, the key of that entry lives elsewhere, at the URI in it: in a token, in
a service, or in a file outside of the PKI. That counts before `private/NAME.key`.

A directory with `index.txt` is flat: easy-rsa also works on it. There `ca` issues leaves itself,
its CRL is `crl.pem`, and certificates that index.txt calls revoked are revoked.

`issuing` is for signers and time stampers, `issuing-tls` for TLS servers and clients. Without the
latter, `issuing` is for all.

In time there may be more: the roots `standby` and `ca-2` beside `ca.crt`, the issuing CAs
`issuing-2` and `issuing-tls-2`, and `issued/ca-2-by-ca.crt`, the root `ca-2` certified by `ca`. A
renewed certificate stays as `certs_by_serial/SERIAL.pem`. Nothing is ever renamed, so that each
step of a change adds or replaces one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fwsign.pki.entry_names import ROOT, is_root
from fwsign.pki.index import serial_text

if TYPE_CHECKING:
    import os

INDEX: Final = "index.txt"
BUNDLE: Final = "crl/bundle.pem"
"""The CRLs of all CAs in one file, to ship."""


class Places:
    """The paths of a PKI's files.

    Args:
        directory: the directory with `ca.crt`.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    @property
    def flat(self) -> bool:
        """Whether it has easy-rsa's layout: one CA, and index.txt with all its certificates."""
        return (self.directory / INDEX).is_file()

    def certificate_path(self, name: str) -> Path:
        """Return the path of an entry's certificate."""
        return self.directory / (f"{name}.crt" if is_root(name) else f"issued/{name}.crt")

    def old_path(self, serial: int) -> Path:
        """Return the path of an old, renewed certificate."""
        return self.directory / f"certs_by_serial/{serial_text(serial)}.pem"

    def key_file(self, name: str) -> Path:
        """Return the usual path of an entry's private key."""
        return self.directory / f"private/{name}.key"

    def uri_file(self, name: str) -> Path:
        """Return the path of the file that says where an entry's key lives, if it is elsewhere."""
        return self.directory / f"private/{name}.uri"

    def renewed_key_path(self, name: str, serial: int) -> Path:
        """Return the path of a renewed certificate's key before it replaces the old one."""
        return self.directory / f"private/{name}.key.{serial:X}"

    def renewed_uri_path(self, name: str, serial: int) -> Path:
        """Return the path of a renewed certificate's URI before it replaces the old key."""
        return self.directory / f"private/{name}.uri.{serial:X}"

    def crl_path(self, name: str) -> Path:
        """Return the path of a CA's CRL."""
        if name == ROOT and self.flat:
            return self.directory / "crl.pem"
        return self.directory / f"crl/{name}.pem"
