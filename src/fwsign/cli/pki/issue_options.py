# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign pki issue`, which its commands share."""

from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import JSON, named, refuse_kdf
from fwsign.cli.pki.existing_keys import refuse_clash
from fwsign.cli.pki.extensions import AddressOptions, ExtensionOptions
from fwsign.cli.pki.options import FROM_KEY, PassphraseOptions

NAME: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        callback=named("signer_name"),
        help="Names the certificate and its key; it is the CN, too.",
    ),
]
PEER_NAME: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        callback=named("peer_name"),
        help="Names the certificate and its key; it is the CN, too. Upper case is kept.",
    ),
]
VENDORS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="A vendor that it is for; repeat for several. Default: the issuing CA's.",
    ),
]


class HostOptions(NamedTuple):
    """IssueOptions: what clients call a server."""

    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=named("host_name"),
            help="A name that clients call it by, or a single label, which is no public name; "
            "repeat for several. NAME is one, too, if there is a dot in it, or no other.",
        ),
    ] = None
    ip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR", help="An address that clients call it by; repeat for several."
        ),
    ] = None


class IdentityOptions(NamedTuple):
    """IssueOptions: the identity that a device is born with."""

    serial_number: Annotated[
        str | None,
        typer.Option(
            "--serial-number",
            metavar="TEXT",
            callback=named("serial_number"),
            help="The device's serial number, in the subject; no other has it. Default: that of "
            "the request.",
        ),
    ] = None
    hw_type: Annotated[
        str | None,
        typer.Option(
            "--hw-type",
            metavar="OID",
            help="The type of its hardware module: hardwareModuleName (RFC 4108) in the "
            "alternative names.",
        ),
    ] = None
    hw_serial: Annotated[
        str | None,
        typer.Option(
            "--hw-serial",
            metavar="HEX",
            help="The serial number of that module. Default: the characters of --serial-number.",
        ),
    ] = None


class KeyOptions(NamedTuple):
    """IssueOptions: a key that exists already, to be certified."""

    csr: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            readable=False,
            metavar="FILE",
            help="Certify the key of this request, which stays with its owner. From the "
            "request, only the hosts and addresses of a server and the identity of an idevid are "
            "taken, by the same rules. With a directory instead, all requests in it, and no NAME.",
        ),
    ] = None
    from_key: FROM_KEY = None


class BatchOptions(NamedTuple):
    """IssueOptions for a directory of requests alone."""

    names: Annotated[
        str | None,
        typer.Option(
            "--names",
            metavar="file|cn",
            help="With --csr DIR: name certificates after their files, which the requests may not "
            "contradict, or after the CN of the requests. Default: file.",
        ),
    ] = None
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="With --csr DIR: issue those that can be. Default: none, if one of them cannot.",
        ),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            readable=False,
            metavar="DIR",
            help="With --csr DIR: write each certificate and the CAs above it to DIR/NAME.pem, "
            "too.",
        ),
    ] = None
    as_json: JSON = False


class IssueOptions(NamedTuple):
    """What all kinds of certificates have options for.

    Args:
        pki: the PKI's directory.
        existing: the key, unless a new one is made.
        protection: the passphrases.
        addresses: the addresses in the certificate.
        own: further extensions.
        batch: the options for a directory of requests.
        lifetime: how long the certificate is valid.
        alg: the kind of a new key.
        compat: certify an RSA key of 2048 bits, too.
    """

    pki: Path | None
    existing: KeyOptions
    protection: PassphraseOptions
    addresses: AddressOptions
    own: ExtensionOptions
    batch: BatchOptions
    lifetime: str | None = None
    alg: str | None = None
    compat: bool = False

    @property
    def is_batch(self) -> bool:
        """Tell whether --csr names a directory of requests."""
        return self.existing.csr is not None and self.existing.csr.is_dir()

    def check(self, name: str | None) -> None:
        """Refuse options that have no meaning together."""
        (csr, from_key), protection = self.existing, self.protection
        refuse_kdf(protection.kdf, none=protection.no_passphrase)
        several = self.is_batch
        if several and name is not None:
            ui.usage(
                "--csr DIR and NAME exclude each other", "the files or the requests have the names"
            )
        if not several and name is None:
            ui.usage("missing argument NAME", f"{csr} is not a directory" if csr else None)
        only = ("--names", "--keep-going", "--out", "--json")
        for option, given in zip(only, self.batch, strict=True):
            if given and not several:
                ui.usage(f"{option} is for --csr DIR")
        if self.batch.names not in (None, "file", "cn"):
            ui.usage(f'--names is file or cn, not "{self.batch.names}"')
        if self.compat and not csr and not from_key:
            ui.usage(
                "--compat is for a key that exists: --csr or --key",
                "a new key of that kind: --alg rsa2048",
            )
        refuse_clash(csr, from_key, alg=self.alg, protection=protection)
