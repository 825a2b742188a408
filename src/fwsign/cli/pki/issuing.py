# SPDX-License-Identifier: Apache-2.0
"""Issue a certificate from the options of `fwsign pki issue`, whatever its kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwsign.cli import inputs, ui
from fwsign.cli.config import find_pki
from fwsign.cli.passphrases import CaPassphrases, Passphrases
from fwsign.cli.pki import existing_keys
from fwsign.cli.pki.extensions import read_extras
from fwsign.cli.pki.issue_options import IdentityOptions, IssueOptions
from fwsign.cli.pki.options import span, warn_of_rsa2048

if TYPE_CHECKING:
    from fwsign.pki.leaves import DeviceIdentity
    from fwsign.pki.request import CertificateRequest


def issue(
    kind: str,
    name: str | None,
    options: IssueOptions,
    domains: Sequence[str] = (),
    addresses: Sequence[Any] = (),
    *,
    identity: IdentityOptions | None = None,
) -> Path | None:
    """Issue one certificate and return its path; None after a batch.

    Args:
        kind: one of `fwsign.pki.leaves.KINDS`.
        name: the name of its entry; None for a batch.
        options: those of all kinds.
        domains: its vendors or hosts.
        addresses: its addresses.
        identity: the identity of a device.
    """
    from fwsign.pki import issuance
    from fwsign.pki.directory import Pki
    from fwsign.pki.log import Origin

    now = inputs.now()
    lifetime = span(options.lifetime, now)
    directory = find_pki(options.pki)
    options.check(name)
    more = read_extras(options.addresses, options.own)
    asked_for = Passphrases()
    pki = Pki(directory)
    secrets = CaPassphrases(asked_for, options.protection.ca_pass, pki)

    def source() -> bytes | None:
        return secrets.get(pki.issuing(kind))

    csr, compat = options.existing.csr, options.compat
    if csr and options.is_batch:
        from fwsign.cli.pki.batch import issue_batch
        from fwsign.pki.batch import Terms

        batch = options.batch
        terms = Terms(kind, batch.names == "cn", domains, more, lifetime, compat)
        issue_batch(directory, csr, terms, source, now=now, options=batch)
        return None
    assert name is not None  # noqa: S101 - `IssueOptions.check` has looked
    request = existing_keys.read_request(csr, compat=compat) if csr else None
    if request and kind == "server" and not domains and not addresses:
        domains, addresses = request.domains, request.addresses
        asked = ", ".join([*domains, *map(str, addresses)]) or "nothing"
        ui.note(f"hosts, as the request asks: {asked}")
    path = issuance.issue(
        directory,
        kind,
        name,
        key=request.public_key if request else _key(name, options, asked_for),
        domains=domains,
        addresses=addresses,
        device=_device(request, identity) if identity else None,
        more=more,
        lifetime=lifetime,
        compat=options.compat,
        origin=Origin(request=request.digest if request else None),
        ca_passphrase=source,
        now=now,
    )
    ui.out(str(path))
    warn_of_rsa2048(path)
    return path


def _device(
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


def _key(name: str, options: IssueOptions, asked_for: Passphrases) -> Any:
    from fwsign.pki.entry_keys import NewKey

    uri, protection = options.existing.from_key, options.protection
    if uri is None:
        what, none = f'the key "{name}"', protection.no_passphrase
        secret = asked_for.new(protection.pass_, none=none, what=what)
        return NewKey(options.alg or "", secret, protection.kdf or "")
    source = asked_for.existing(protection.pass_, f"the key {uri}", uri=lambda: uri)
    return existing_keys.opens(uri, source)
