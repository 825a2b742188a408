# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign` for files that are no release."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from fwsign.cli import ui


class FormOptions(NamedTuple):
    """Options: signatures for files that are no release, and for people without devices."""

    hash_envelope: Annotated[
        bool,
        typer.Option(
            "--hash-envelope", help="Write FILE.cose, a COSE hash envelope (RFC 9995), instead."
        ),
    ] = False
    minisig: Annotated[
        bool,
        typer.Option(
            "--minisig", help="Write FILE.minisig, as minisign does, instead; the key is Ed25519."
        ),
    ] = False

    @property
    def given(self) -> bool:
        """Whether one was typed."""
        return self.hash_envelope or self.minisig

    @property
    def name(self) -> str:
        """The option, as typed."""
        return "--minisig" if self.minisig else "--hash-envelope"

    def check(self, *groups: NamedTuple) -> None:
        """Refuse options that have no meaning for a file alone.

        Args:
            groups: groups of other options, as typed.
        """
        if self.hash_envelope and self.minisig:
            ui.usage("--hash-envelope and --minisig exclude each other", "sign twice")
        for group in groups:
            made: Callable[[], Any] = type(group)
            default = made()
            for field in group._fields:
                if getattr(group, field) != getattr(default, field):
                    ui.usage(
                        f"--{field.replace('_', '-')} with {self.name}",
                        "such a signature is of a file alone: it knows no devices and versions",
                    )


class Task(NamedTuple):
    """What to sign, and how.

    Args:
        files: the files.
        as_minisig: sign as minisign does; else with hash envelopes.
        directory: where the signatures go; None for beside the files.
        force: replace signatures that exist.
        allow_example_keys: sign with published keys.
    """

    files: Sequence[Path]
    as_minisig: bool
    directory: Path | None
    force: bool
    allow_example_keys: bool

    def place(self, file: Path) -> Path:
        """Return the path of a file's signature."""
        ending = "minisig" if self.as_minisig else "cose"
        name = f"{file.name}.{ending}"
        return self.directory / name if self.directory else file.with_name(name)
