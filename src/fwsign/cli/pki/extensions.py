# SPDX-License-Identifier: Apache-2.0
"""Options that add extensions to certificates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fwsign.cli import ui
from fwsign.cli.options import named

if TYPE_CHECKING:
    from fwsign.pki.extras import Custom, Extras


class AddressOptions(NamedTuple):
    """Options: where programs can download what belongs to the issuer."""

    crl_url: Annotated[
        list[str] | None,
        typer.Option(
            "--crl-url",
            metavar="URL",
            callback=named("web_address"),
            help="Where programs can download the issuer's CRL, in DER; {ca} stands for the "
            "issuer's name in this PKI, such as issuing. Repeat for several.",
        ),
    ] = None
    ca_issuers_url: Annotated[
        list[str] | None,
        typer.Option(
            "--ca-issuers-url",
            metavar="URL",
            callback=named("web_address"),
            help="Where programs can download the issuer's certificate, in DER. Written as for "
            "--crl-url.",
        ),
    ] = None


class ExtensionOptions(NamedTuple):
    """Options: extensions that the user has encoded."""

    extension: Annotated[
        list[str] | None,
        typer.Option(
            "--extension",
            metavar="OID=FILE",
            help="One more extension: its number, and a file with its value in DER; repeat for "
            "several.",
        ),
    ] = None
    critical_extension: Annotated[
        list[str] | None,
        typer.Option(
            "--critical-extension",
            metavar="OID=FILE",
            help="The same, and whoever does not know it must refuse the certificate, as fwsign "
            "does.",
        ),
    ] = None


def read_extras(addresses: AddressOptions, own: ExtensionOptions | None = None) -> "Extras":
    """Return the extensions that options ask for.

    Raises:
        Failed: as `fwsign.pki.extras.extras` and `custom`; `io.*`.
    """
    from fwsign.pki.extras import NO_EXTRAS, extras  # most certificates have none

    if not any((*addresses, *(own or ()))):
        return NO_EXTRAS
    own = own or ExtensionOptions()
    crl_urls, ca_issuers_urls = addresses.crl_url or (), addresses.ca_issuers_url or ()
    added = [_custom("--extension", one, critical=False) for one in own.extension or ()]
    added += [
        _custom("--critical-extension", one, critical=True) for one in own.critical_extension or ()
    ]
    for url in (*crl_urls, *ca_issuers_urls):
        if url.startswith("https:"):
            ui.note(f"warning: {url}: to judge an https server, programs may need this very CRL")
    return extras(crl_urls=crl_urls, ca_issuers_urls=ca_issuers_urls, custom=tuple(added))


def _custom(option: str, text: str, *, critical: bool) -> "Custom":
    from fwsign.files import read_bytes
    from fwsign.pki.extras import EXTENSION_LIMIT, custom

    oid, equals, file = text.partition("=")
    if not equals or not oid or not file:
        ui.usage(f'{option} "{text}" is not OID=FILE', "as in 1.3.6.1.4.1.99999.1=value.der")
    return custom(oid, read_bytes(Path(file), EXTENSION_LIMIT), file, critical=critical)
