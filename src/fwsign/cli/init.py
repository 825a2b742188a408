# SPDX-License-Identifier: Apache-2.0
"""`fwsign init`: a PKI and fwsign.toml."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import config, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.held_keys import ALG_OF_PKI, HeldOptions
from fwsign.cli.new_pki import create_pki, keys_of_pki, say_what_now
from fwsign.cli.options import NO_PASSPHRASE, ORG, PASS, ROOT_PASS, VENDOR_OF_PKI, named
from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator


command = typer.Typer(rich_markup_mode=None, add_completion=False)


_DIRECTORY: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="[DIR]",
        show_default=False,
        help="The project; it is made if need be. Default: the current directory.",
    ),
]
_PRODUCT: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        callback=named("product_name"),
        help="What devices of this kind are called. Default: made of DIR's name.",
    ),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign init --org Acme --vendor acme.example",
        "fwsign init gateway --org Acme --vendor acme.example --product gateway-x1",
        "fwsign init --org Acme --vendor acme.example --pass env:KEY_PASS --alg ed25519",
        "fwsign init --org Acme --vendor acme.example --no-passphrase --root-pass env:PIN \\",
        "    --root-key 'pkcs11:token=acme;object=ca' --key issuing=openbao:issuing",
    ),
)
@grouped
def init(
    directory: _DIRECTORY = Path(),
    *,
    org: ORG,
    vendor: VENDOR_OF_PKI,
    product: _PRODUCT = None,
    alg: ALG_OF_PKI = None,
    held: HeldOptions,
    pass_: PASS = None,
    no_passphrase: NO_PASSPHRASE = False,
    root_pass: ROOT_PASS = None,
) -> None:
    """Make a PKI and fwsign.toml, once for each project.

    DIR/pki gets a root CA, issuing CAs for signers and for TLS, the signer "release" and CRLs;
    DIR/fwsign.toml says what the other commands take from there. --pass protects all keys, unless
    --root-pass gives the root a passphrase of its own. Nothing that is there is replaced. Keys that
    exist already, in an HSM or a KMS, are given with --root-key and --key.
    """
    from fwsign.files import io_error, write_atomic
    from fwsign.pki.entry_names import FIRST_NAMES
    from fwsign.pki.files import refuse_used

    settings = directory / config.NAME
    if os.path.lexists(settings):
        hint = "sign in it: fwsign sign FILE; another project is made with: fwsign init DIR"
        message = f"{settings} exists already: this is a project already"
        raise Failed("io.exists", message, hint=hint)
    if directory.exists() and not directory.is_dir():
        raise Failed("io.directory", f"{directory} is not a directory")
    content = config.render(vendor, product or _product_after(directory), "pki")
    with _way_out(settings, content):
        refuse_used(directory / "pki")
    keys = keys_of_pki(FIRST_NAMES, held, alg, pass_, root_pass, none=no_passphrase)
    new = not os.path.lexists(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error(error, directory, "write") from error
    try:
        with _way_out(settings, content):
            create_pki(directory / "pki", org, (vendor,), keys)
        write_atomic(settings, content)
    except Failed:
        if new:
            with contextlib.suppress(OSError):  # it is only removed if it is empty
                directory.rmdir()
        raise
    ui.out(str(directory / "pki"))
    ui.out(str(settings))
    say_what_now(directory / "pki", org, keys)
    ui.next_command("sign", "FILE", after=f", in {directory}" if directory != Path() else "")


def _product_after(directory: Path) -> str:
    """Return a product's name made of the directory's, and say so."""
    from fwsign.files import io_error
    from fwsign.names import product_from

    try:
        product = product_from(Path(os.path.realpath(directory)).name)
    except Failed as error:
        ui.usage(error.message, "name it with --product NAME")
    except OSError as error:  # removed meanwhile
        raise io_error(error, "the current directory") from error
    ui.note(f'the product is called "{product}", after the directory; --product names it')
    return product


@contextlib.contextmanager
def _way_out(settings: Path, content: bytes) -> "Iterator[None]":
    """Say how to go on with a PKI that is there already."""
    try:
        yield
    except Failed as error:
        if error.code != "state.pki-exists":
            raise
        lines = ", ".join(content.decode().splitlines()[1:])
        hint = f"to use the PKI that is there, write {settings}: {lines}"
        raise error.with_hint(hint) from error
