# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki issue`: a certificate with a new key, for a request, or for a key that exists."""

from typing import Any

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, Group, examples, grouped
from fwsign.cli.config import load, pki_words
from fwsign.cli.options import PKI
from fwsign.cli.pki.extensions import AddressOptions, ExtensionOptions
from fwsign.cli.pki.issue_options import (
    NAME,
    PEER_NAME,
    VENDORS,
    BatchOptions,
    HostOptions,
    IdentityOptions,
    IssueOptions,
    KeyOptions,
)
from fwsign.cli.pki.issuing import issue
from fwsign.cli.pki.options import (
    COMPAT,
    KIND_OF_KEY,
    KIND_OF_TLS_KEY,
    LIFETIME,
    PassphraseOptions,
    address,
)
from fwsign.cli.pki.peers import say_who_needs

_HELP = """

    The key goes to private/NAME.key, the certificate to issued/NAME.crt. --pass protects the new
    key, --ca-pass opens that of the issuing CA.
    """
_BATCH = """

    --csr DIR judges all requests in a directory first, and issues all or none of them. What was
    issued before for the same key stays as it is, so that an interrupted run can be repeated.
    """


def register(command: typer.Typer) -> None:
    """Add the group to an application."""
    group = typer.Typer(cls=Group, rich_markup_mode=None)
    command.add_typer(
        group,
        name="issue",
        help="Issue certificates: signer, channel, encryption, tsa, server, client, idevid.",
    )
    pages: dict[Any, tuple[str, ...]] = {
        signer: (
            "fwsign pki issue signer release-2027 --for 1y",
            "fwsign pki issue signer ci --pass env:CI_PASS --ca-pass file:/run/secrets/ca",
            "fwsign pki issue signer hsm --csr hsm.csr",
        ),
        channel: (
            "fwsign pki issue channel rollout",
            "fwsign pki issue channel rollout --csr rollout.csr --for 90d",
        ),
        encryption: (
            "fwsign pki issue encryption thermostats --no-passphrase",
            "fwsign pki issue encryption thermostats-2 --csr group.csr --alg p384",
        ),
        tsa: ("fwsign pki issue tsa tsa-2027",),
        server: (
            "fwsign pki issue server broker.acme.example --ip 192.0.2.7",
            "fwsign pki issue server broker --csr broker.csr --host mqtt.acme.example",
            "fwsign pki issue server broker --host localhost",
        ),
        client: (
            "fwsign pki issue client gateway-0017 --no-passphrase",
            "fwsign pki issue client gateway-0017 --csr gateway.csr",
            "fwsign pki issue client TESTING --csr java.csr --compat",
            "fwsign pki issue client --csr requests --out certificates",
        ),
        idevid: (
            "fwsign pki issue idevid sn-0017 --serial-number SN-0017 --csr sn-0017.csr",
            "fwsign pki issue idevid --csr requests --ca-pass env:CA_PASS",
        ),
    }
    for function, lines in pages.items():
        help_ = (function.__doc__ or "").rstrip() + _HELP.rstrip() + _BATCH
        group.command(function.__name__, cls=Command, help=help_, epilog=examples(*lines))(
            grouped(function)
        )


def signer(
    name: NAME = None,
    *,
    pki: PKI = None,
    vendor: VENDORS = None,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue a signer: whoever has its key signs releases, for two years."""
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg)
    if issue("signer", name, options, vendor or ()) is None:
        return
    if not existing.csr:
        product = () if load().product else ("--product", "NAME")
        ui.next_command("sign", "FILE", "--signer", name or "", *pki_words(pki), *product)


def channel(
    name: NAME = None,
    *,
    pki: PKI = None,
    vendor: VENDORS = None,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue a signer of channels, for a year: whoever has its key says which release is current.

    It signs no releases, and signers of releases sign no channels (id-kp-configSigning, RFC 9809).
    """
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg)
    if issue("channel", name, options, vendor or ()) is not None and not existing.csr:
        words = pki_words(pki)
        ui.next_command("channel", "make", "stable", "ENVELOPE", "--signer", name or "", *words)


def encryption(
    name: NAME = None,
    *,
    pki: PKI = None,
    vendor: VENDORS = None,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue the certificate of a group of devices, for two years: payloads are encrypted to it.

    NAME is the group. Every device of it has the key, which opens payloads and signs nothing
    (keyAgreement alone). It is P-256 or P-384.
    """
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg)
    if issue("encryption", name, options, vendor or ()) is not None and not existing.csr:
        ui.next_command("sign", "FILE", "--encrypt-to", name or "", *pki_words(pki))


def tsa(
    name: NAME = None,
    *,
    pki: PKI = None,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_KEY = None,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue a time stamper's certificate (RFC 3161), for five years."""
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg)
    issue("tsa", name, options)


def server(
    name: PEER_NAME = None,
    *,
    pki: PKI = None,
    hosts: HostOptions,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue a TLS server's certificate, such as an MQTT broker's, for 397 days.

    The CA is issuing-tls, which has no limit on names. In an older PKI without one, names must lie
    within the domains of the issuing CA; fwsign pki renew issuing-tls adds the CA for TLS. In
    another network, another machine may have the same single label, and its own certificate.
    """
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg, compat=compat)
    if options.is_batch and any(hosts):
        ui.usage("--csr DIR takes hosts and addresses from the requests")
    ips = [address(one) for one in hosts.ip or ()]
    if path := issue("server", name, options, hosts.host or (), ips):
        say_who_needs(path, "server", pki)


def client(
    name: PEER_NAME = None,
    *,
    pki: PKI = None,
    existing: KeyOptions,
    lifetime: LIFETIME = None,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue a TLS client's certificate, such as a device's, for two years.

    NAME is the CN, which MQTT brokers take as the user name; with a dot in it, it is a host name,
    too.
    """
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, lifetime=lifetime, alg=alg, compat=compat)
    if path := issue("client", name, options):
        say_who_needs(path, "client", pki)


def idevid(
    name: PEER_NAME = None,
    *,
    pki: PKI = None,
    identity: IdentityOptions,
    existing: KeyOptions,
    alg: KIND_OF_TLS_KEY = None,
    compat: COMPAT = False,
    protection: PassphraseOptions,
    addresses: AddressOptions,
    own: ExtensionOptions,
    batch: BatchOptions,
) -> None:
    """Issue the identity that a device is born with (IDevID, IEEE 802.1AR), without an end date.

    It is a TLS client's certificate, with which a device proves its serial number. It lives as long
    as a certificate of its issuing CA is good: renew that with its old key before its end. In use,
    devices need another certificate: fwsign pki serve.
    """
    groups = (pki, existing, protection, addresses, own, batch)
    options = IssueOptions(*groups, alg=alg, compat=compat)
    if identity.hw_serial and not identity.hw_type:
        ui.usage("--hw-serial is for --hw-type")
    if options.is_batch and (identity.serial_number or identity.hw_type):
        ui.usage("--csr DIR takes serial numbers from the requests")
    if path := issue("idevid", name, options, identity=identity):
        say_who_needs(path, "device", pki)
