# SPDX-License-Identifier: Apache-2.0
"""Settings: flag, then `FWSIGN_*`, then fwsign.toml, then the default."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign.cli import native_settings, ui
from fwsign.cli.native_settings import NativeSettings
from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.nearest import did_you_mean

NAME: Final = "fwsign.toml"
KEYS: Final = ("vendor", "product", "pki", "signer", "key", "chain", "log", "encrypt_to")
PATHS: Final = ("pki", "chain", "log")
"""Keys whose values are paths, beside the file that names them."""
POLICY: Final = "policy"
"""The table that says who must sign; `fwsign.cli.policies` reads it."""
LABELS: Final = "labels"
"""The table of names for the slots of a station, by their ports."""
LONGEST_LABEL: Final = 24
"""Letters of a label: it fits beside the progress on a terminal of 80 columns."""
LIMIT: Final = 64 * 1024
"""Bytes of fwsign.toml."""


class Config(NamedTuple):
    """The settings of fwsign.toml and the environment.

    Args:
        vendor: the vendor's domain.
        product: the product's name.
        pki: the directory of the PKI.
        signer: the name of a signer of the PKI; None if there is a key.
        log: the file of the approval log; None for the PKI's own.
        labels: names of slots, by port.
        key: the URI of the key that signs; None if there is a signer, or neither.
        chain: the file of that key's certificates.
        native: the signature for the chip.
        policy: the file's path, and its table about who must sign; None if there is none.
        encrypt_to: the groups that files are encrypted to.
    """

    vendor: str | None = None
    product: str | None = None
    pki: Path | None = None
    signer: str | None = None
    log: Path | None = None
    labels: Mapping[str, str] = MappingProxyType({})
    key: str | None = None
    chain: Path | None = None
    native: NativeSettings = NativeSettings()
    policy: tuple[Path, Any] | None = None
    encrypt_to: tuple[str, ...] = ()


def load() -> Config:
    """Read the environment and the fwsign.toml that is nearest above the current directory.

    Raises:
        Failed: `io.config` for an unknown key, or an impossible value.
    """
    try:
        path = _find(here := Path.cwd())
    except OSError as error:  # removed meanwhile
        raise io_error(error, "the current directory") from error
    if path and path.parent == here:
        path = Path(NAME)  # as people would write it
    content = _parse(path) if path else {}
    labels = _labels(path, content.pop(LABELS, {}))
    native = NativeSettings()
    if path and native_settings.TABLE in content:
        native = native_settings.read(path, content.pop(native_settings.TABLE))
    policy = (path, content.pop(POLICY)) if path and POLICY in content else None
    said: dict[str, str] = content
    if path:
        said |= {key: str(path.parent / said[key]) for key in PATHS if key in said}
        if "key" in said:
            said["key"] = native_settings.key_from(path, said["key"])
    places = {key: f'{path}: "{key}"' for key in said}
    typed = {key: os.environ.get(f"FWSIGN_{key.upper()}") for key in KEYS}
    given = {key: value for key, value in typed.items() if value}
    _drop_other_signer(said, given)
    said |= given
    places |= {key: f"FWSIGN_{key.upper()}" for key in given}
    _check(said, places)
    pki, chain, log = (Path(said[key]) if key in said else None for key in PATHS)
    return Config(
        said.get("vendor"),
        said.get("product"),
        pki,
        said.get("signer"),
        log,
        labels,
        said.get("key"),
        chain,
        native,
        policy,
        tuple(filter(None, map(str.strip, said.get("encrypt_to", "").split(",")))),
    )


def _drop_other_signer(said: dict[str, str], given: Mapping[str, str]) -> None:
    """Let a signer of the environment replace the key of the file, and the other way round."""
    for one, other in (("signer", "key"), ("key", "signer")):
        if one in given and other not in given:
            said.pop(other, None)


def find_pki(given: Path | None) -> Path:
    """Return the PKI to work with: the given one, else that of fwsign.toml."""
    directory = given or load().pki
    if directory is None:
        ui.usage(
            "no PKI given, and no fwsign.toml found", "fwsign init makes both; --pki DIR names one"
        )
    if not os.path.lexists(directory / "ca.crt"):
        raise Failed(
            "state.pki",
            f"{directory} is not a PKI: there is no ca.crt in it",
            expected="a directory with ca.crt",
            found="no ca.crt",
            hint="fwsign init makes a PKI; --pki names one",
        )
    return directory


def pki_words(given: Path | None) -> tuple[object, ...]:
    """Return the words by which the next command finds the same PKI."""
    return ("--pki", given) if given else ()


def roots(pki: Path) -> list[Path]:
    """Return the root of a PKI, and the other roots beside it."""
    others = (path for pattern in ("ca-*.crt", "standby*.crt") for path in pki.glob(pattern))
    return [pki / "ca.crt", *sorted(others)]


def _find(start: Path) -> Path | None:
    """Search upwards, no further than the repository's root or the home directory."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    for directory in (start, *start.parents):
        path = directory / NAME
        if (owner := _owner(path)) is not None:
            if not hasattr(os, "geteuid") or owner in (os.geteuid(), 0):
                return path
            ui.note(f"{path} is not used: it belongs to another user")
        if directory == home or os.path.lexists(directory / ".git"):
            return None
    return None


def _owner(path: Path) -> int | None:
    """Return the owner of a file; None if there is no file, or if it cannot be seen."""
    try:
        return path.stat().st_uid if path.is_file() else None
    except OSError:
        return None


def _parse(path: Path) -> dict[str, Any]:
    try:
        # Editors on Windows write a byte order mark at the beginning.
        content = tomllib.loads(read_bytes(path, LIMIT).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # bad TOML or UTF-8, or too deeply nested
        words = str(error)
        raise Failed("io.config", f"{path}: {words[:1].lower()}{words[1:]}") from None
    for key, value in content.items():
        if key in (LABELS, POLICY, native_settings.TABLE):
            continue
        if key not in KEYS:
            raise Failed(
                "io.config",
                f'{path} has the unknown key "{key}"',
                expected=", ".join(KEYS),
                found=key,
                hint=did_you_mean(key, KEYS) or f"the keys of fwsign.toml are: {', '.join(KEYS)}",
            )
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise Failed(
                "io.config",
                f'{path}: "{key}" is not a text in quotes',
                expected="a text in quotes",
                found=value,
            )
    return content


def _labels(path: Path | None, value: Any) -> Mapping[str, str]:
    """Check the table of labels."""
    if value == {}:
        return {}

    table = value if isinstance(value, dict) else {"": value}
    for port, name in table.items():
        if not port or not isinstance(name, str) or not is_label(name):
            where = f"{LABELS}.{port}" if port else LABELS
            expected = f"a name of 1 to {LONGEST_LABEL} letters" if port else "a table: [labels]"
            raise Failed(
                "io.config",
                f'{path}: "{where}" is not {expected}',
                expected=expected,
                found=name,
            )
    return table


def _check(said: dict[str, str], places: dict[str, str]) -> None:
    """Refuse an invalid name, or two signers, and name the place where it was written."""
    from fwsign.names import product_name, vendor_domain

    if "key" in said and "signer" in said:
        raise Failed(
            "io.config",
            f"{places['key']} and {places['signer']} exclude each other",
            expected="one of them",
            found="both",
            hint="a signer is one of the PKI, a key has its own chain",
        )
    for key, check in (("vendor", vendor_domain), ("product", product_name)):
        if key in said:
            try:
                check(said[key])
            except Failed as error:
                message = f"{places[key]}: {error.message}"
                raise Failed(
                    "io.config", message, expected=error.expected, found=error.found
                ) from None


def render(vendor: str, product: str, pki: str) -> bytes:
    """Return the content of a new fwsign.toml; the names are of letters, digits and .-_ only."""
    return (
        "# What fwsign takes where the command line does not say.\n"
        f'vendor = "{vendor}"\nproduct = "{product}"\npki = "{pki}"\nsigner = "release"\n'
    ).encode()


def is_label(name: str) -> bool:
    """Tell whether a text can be a label."""
    return name.isprintable() and 0 < len(name) <= LONGEST_LABEL and name == name.strip()
