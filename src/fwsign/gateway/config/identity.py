# SPDX-License-Identifier: Apache-2.0
"""The device's own name in its receipts, and the certificates of the key that signs them."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import read_owned
from fwsign.format.cose import MAX_CHAIN
from fwsign.names import serial_number
from fwsign.toml import TomlTable
from fwsign.x509.certificate import parse_certificate

_MAX_SIZE: Final = 256 * 1024
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class DeviceName(NamedTuple):
    """The device's name, and a PEM file: the certificate of its key, then each issuer's."""

    id: str | None = None
    certificate: Path | None = None

    def chain(self) -> tuple[bytes, ...]:
        """Return the certificates, in DER, leaf first; none if there is no file.

        Raises:
            Failed: `io.*`; `io.config` for a file without certificates, or with too many.
        """
        if self.certificate is None:
            return ()
        from ssl import PEM_cert_to_DER_cert  # few devices have a certificate

        found = _PEM.findall(read_owned(self.certificate, _MAX_SIZE))
        if not 1 <= len(found) <= MAX_CHAIN:
            raise Failed(
                "io.config",
                f"{self.certificate} has {len(found)} certificates",
                expected=f"1 to {MAX_CHAIN}, the device's own first",
                found=len(found),
            )
        try:
            return tuple(PEM_cert_to_DER_cert(one.decode("ascii")) for one in found)
        except ValueError as error:
            raise Failed("io.config", f"{self.certificate}: {error}") from None

    def name(self) -> str | None:
        """Return the device's name: the one given, else that of its certificate.

        Raises:
            FwsignError: as `chain`, and for the certificate.
        """
        chain = () if self.id is not None else self.chain()
        return parse_certificate(chain[0]).name if chain else self.id


def parse_identity(top: TomlTable) -> DeviceName:
    """Read `id` and `device_certificate` of a device.toml.

    Raises:
        Failed: `io.config`, `state.policy`.
    """
    name = top.maybe("id")
    return DeviceName(
        serial_number(name) if name is not None else None, top.maybe_place("device_certificate")
    )
