# SPDX-License-Identifier: Apache-2.0
"""The command line. `app` is the Typer object, `main` the program."""

import sys

from fwsign.cli import stops
from fwsign.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the program."""
    stops.heed()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the parent process may have closed it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="fwsign")
