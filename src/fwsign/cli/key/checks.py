# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign key` that exclude each other, and its warnings."""

from pathlib import Path

from fwsign.cli import ui
from fwsign.cli.options import refuse_kdf


def check_options(
    to: str,
    *,
    der: bool,
    cert: list[Path] | None,
    legacy: bool,
    new_pass: str | None,
    no_passphrase: bool,
) -> None:
    """Refuse options that exclude each other, before any prompt."""
    refuse_clash(new_pass, none=no_passphrase)
    if to != "p12" and (cert or legacy):
        ui.usage(f"{'--cert' if cert else '--legacy'} is for --to p12 alone")
    if der and to in ("openssh", "public-openssh"):
        ui.usage(f"{to} is text, there is no DER of it")
    if to.startswith("public") and (new_pass or no_passphrase):
        ui.usage("a public key has no passphrase")
    if to in ("sec1", "pkcs1") and not no_passphrase:
        hint = "--no-passphrase writes it in clear, --to pkcs8 encrypts it"
        ui.usage(f"{to} is not encrypted: its one way to do so is broken", hint)
    if legacy and no_passphrase:
        ui.usage("--legacy is a way to encrypt, --no-passphrase does not encrypt")


def check_kdf(to: str, kdf: str | None, *, none: bool) -> None:
    """Refuse a derivation for a form that has none, or for no passphrase."""
    if kdf and to != "pkcs8":
        ui.usage("--kdf is for --to pkcs8 alone")
    refuse_kdf(kdf, none=none)


def refuse_clash(new_pass: str | None, *, none: bool) -> None:
    """Refuse a passphrase and none."""
    if new_pass and none:
        ui.usage("--new-pass and --no-passphrase exclude each other")


def warn(*, legacy: bool, encrypted: bool) -> None:
    """Say what protects a key that was written badly, or not at all."""
    if legacy:
        ui.note(
            "WARNING: --legacy encrypts with 3DES and SHA-1, which are outdated: choose a long "
            "passphrase, and delete the file once it is imported"
        )
    if not encrypted:
        ui.note("warning: the key is not encrypted: whoever reads the file can use it")
