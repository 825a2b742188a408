# SPDX-License-Identifier: Apache-2.0
"""`fwsign init`: a PKI and fwsign.toml."""

from pathlib import Path
from typing import Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.options import ALG, NO_PASSPHRASE, ORG, PASS, ROOT_PASS, VENDOR_OF_PKI

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", show_default=False)] = Path(),
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    product: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What devices of this kind are called. Default: DIR's."),
    ] = None,
    alg: ALG = "p256",
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make a PKI in DIR/pki (root, issuing CA, signer "release", CRLs) and DIR/fwsign.toml.

    --pass protects all keys, unless --root-pass gives the root a passphrase of its own.
    """
    from fwsign.atomic import io_error, write_atomic  # noqa: PLC0415
    from fwsign.errors import Failed  # noqa: PLC0415
    from fwsign.names import organisation, product_from, product_name, vendor_domain  # noqa: PLC0415

    settings = directory / config.NAME
    if settings.exists():
        raise Failed("io.exists", f"{settings} exists already: this is a project already")
    if product is None:
        product = product_from(directory.resolve().name)
        ui.note(f'the product is called "{product}", after the directory; --product names it')
    for check, name in ((product_name, product), (organisation, org), (vendor_domain, vendor)):
        check(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(error, directory, "write") from error
    passphrases = new_passphrases(pass_, root_pass, none=no_passphrase)
    create_pki(directory / "pki", org, vendor, alg, passphrases)
    write_atomic(settings, config.render(vendor, product, "pki"))
    ui.out(str(settings))
    ui.note("next: fwsign sign FILE")


def new_passphrases(
    source: str | None, root_source: str | None, *, none: bool
) -> tuple[bytes | None, bytes | None]:
    """Return the passphrase of the root's key, and that of the other keys."""
    passphrase = inputs.new_passphrase(source, none=none, what="the keys")
    if not root_source:
        return passphrase, passphrase
    return inputs.new_passphrase(root_source, none=False, what="the root's key"), passphrase


def create_pki(
    directory: Path, org: str, vendor: str, alg: str, passphrases: tuple[bytes | None, bytes | None]
) -> None:
    """Make a PKI and say what to do with its parts."""
    from fwsign.pki.authority import create  # noqa: PLC0415

    root_passphrase, passphrase = passphrases
    create(
        directory,
        org=org,
        vendor=vendor,
        alg=alg,
        root_passphrase=root_passphrase,
        passphrase=passphrase,
        now=inputs.now(),
    )
    ui.out(str(directory))
    ui.note(f'root "{org} Root CA": give {directory / "ca.crt"} to every device')
    ui.note(f"keep {directory / 'private' / 'ca.key'} offline; signing does not need it")
