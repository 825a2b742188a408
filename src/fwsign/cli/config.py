# SPDX-License-Identifier: Apache-2.0
"""Settings: flag, then `FWSIGN_*`, then fwsign.toml, then the default."""

import os
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import read_bytes
from fwsign.cli import ui
from fwsign.errors import Failed

NAME: Final = "fwsign.toml"
KEYS: Final = ("vendor", "product", "pki", "signer")
_LIMIT: Final = 64 * 1024


class Config(NamedTuple):
    """What fwsign.toml and the environment say; `pki` is a path."""

    vendor: str | None = None
    product: str | None = None
    pki: Path | None = None
    signer: str | None = None


def load() -> Config:
    """Read the environment and the fwsign.toml that is nearest above the current directory.

    Raises:
        Failed: `io.config` for an unknown key or a value that is not text.
    """
    path = _find(Path.cwd())
    said = _parse(path) if path else {}
    pki = Path(said["pki"]) if "pki" in said else None
    if path and pki:
        pki = path.parent / pki
    environment = {key: os.environ.get(f"FWSIGN_{key.upper()}") for key in KEYS}
    if environment["pki"]:
        pki = Path(environment["pki"])
    return Config(
        environment["vendor"] or said.get("vendor"),
        environment["product"] or said.get("product"),
        pki,
        environment["signer"] or said.get("signer"),
    )


def find_pki(given: Path | None) -> Path:
    """Return the PKI to work with: the one given, else that of fwsign.toml."""
    directory = given or load().pki
    if directory is None:
        ui.usage(
            "no PKI given, and no fwsign.toml found", "fwsign init makes both; --pki DIR names one"
        )
    return directory


def _find(start: Path) -> Path | None:
    """Search upwards, no further than the repository's root or the home directory."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    for directory in (start, *start.parents):
        path = directory / NAME
        if path.is_file():
            if not hasattr(os, "geteuid") or path.stat().st_uid in (os.geteuid(), 0):
                return path
            ui.note(f"{path} is not used: it belongs to another user")
        if directory == home or (directory / ".git").exists():
            return None
    return None


def _parse(path: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(read_bytes(path, _LIMIT).decode())
    except ValueError as error:  # of TOML or UTF-8
        raise Failed("io.config", f"{path}: {error}") from None
    for key, value in content.items():
        if key not in KEYS:
            raise Failed(
                "io.config",
                f'{path} has the unknown key "{key}"',
                expected=", ".join(KEYS),
                found=key,
            )
        if not isinstance(value, str) or not value:
            raise Failed("io.config", f'{path}: "{key}" is not a text in quotes', found=value)
    return content


def render(vendor: str, product: str, pki: str) -> bytes:
    """Return the content of a new fwsign.toml; the names are of letters, digits and .-_ only."""
    return (
        "# What fwsign takes where the command line does not say.\n"
        f'vendor = "{vendor}"\nproduct = "{product}"\npki = "{pki}"\nsigner = "release"\n'
    ).encode()
