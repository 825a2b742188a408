# SPDX-License-Identifier: Apache-2.0
"""What `fwsign pki issue` certifies: a device's identity, and the key."""

from typing import TYPE_CHECKING, Any

from fwsign.cli import ui
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.pki import existing_keys
from fwsign.cli.pki.issue_options import IdentityOptions, IssueOptions

if TYPE_CHECKING:
    from fwsign.pki.leaves import DeviceIdentity
    from fwsign.pki.request import CertificateRequest


def device(
    request: "CertificateRequest | None", identity: IdentityOptions
) -> "DeviceIdentity | None":
    """Return the identity that options give, or that a request asks for."""
    from fwsign.pki.extras import check_oid
    from fwsign.pki.leaves import DeviceIdentity

    asked = request.device if request else None
    serial_number, hw_type, hw_serial = identity
    if serial_number is None:
        serial_number = asked.serial_number if asked else None
    if serial_number is None:
        return None
    hardware = asked.hardware if asked else None
    if hw_type is not None:
        try:
            octets = bytes.fromhex(hw_serial) if hw_serial else serial_number.encode()
        except ValueError:
            ui.usage(f'--hw-serial "{hw_serial}" is not hexadecimal', "as in 00a1b2c3")
        hardware = (check_oid(hw_type), octets)
    return DeviceIdentity(serial_number, hardware)


def key(name: str, options: IssueOptions, asked_for: Passphrases) -> Any:
    """Return the key to make, or the one that options name."""
    from fwsign.pki.entry_keys import NewKey

    uri, protection = options.existing.from_key, options.protection
    if uri is None:
        what, none = f'the key "{name}"', protection.no_passphrase
        secret = asked_for.new(protection.pass_, none=none, what=what)
        return NewKey(options.alg or "", secret, protection.kdf or "")
    source = asked_for.existing(protection.pass_, f"the key {uri}", uri=lambda: uri)
    return existing_keys.opens(uri, source)
