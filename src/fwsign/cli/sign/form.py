# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign` for files that are no release."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from fwsign.cli import ui
from fwsign.cli.sign.options import OutputOptions


class AloneOptions(NamedTuple):
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

    def check_output(self, output: OutputOptions, *, dry_run: bool) -> None:
        """Refuse one output for all, and a dry run."""
        if output.output is not None or dry_run:
            typed = "--output" if output.output is not None else "--dry-run"
            ui.usage(f"{typed} with {self.name}", "each file gets a signature of its own")


class Task(NamedTuple):
    """What to sign, and how.

    Args:
        files: the files.
        form: the form of the signatures.
        output: where the signatures go.
        force: replace signatures that exist.
        allow_example_keys: sign with published keys.
    """

    files: Sequence[Path]
    form: AloneOptions
    output: OutputOptions
    force: bool
    allow_example_keys: bool

    @property
    def as_minisig(self) -> bool:
        """Whether to sign as minisign does."""
        return self.form.minisig

    def place(self, file: Path) -> Path:
        """Return the path of a file's signature."""
        ending = "minisig" if self.as_minisig else "cose"
        return (self.output.output_dir or file.parent) / f"{file.name}.{ending}"
