# SPDX-License-Identifier: Apache-2.0
"""Options of several commands of `fwsign pki`."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fwsign.cli import inputs
from fwsign.cli.options import algorithm, named
from fwsign.keys import ALGORITHMS

NEW_PKI: TypeAlias = Annotated[
    Path,
    typer.Argument(readable=False, metavar="DIR", help="The new PKI; must not exist, or be empty."),
]
PERMIT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="One more domain that the issuing CA may issue for, such as that of your servers; "
        "repeat for several.",
    ),
]
LIFETIME: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TIME",
        help="How long it is valid: 90d, 1y, or RFC 3339 with a zone. Default: as is usual for "
        "its kind, but never longer than its issuer.",
    ),
]
KIND_OF_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--alg",
        metavar="ALG",
        callback=algorithm,
        help=f"Kind of the key: {', '.join(ALGORITHMS)}. Default: p256; of a renewed one, as "
        "before.",
    ),
]


def span(lifetime: str | None, now: datetime) -> timedelta | None:
    """Return the span of --for, None if it is not given."""
    return inputs.parse_time(lifetime, now) - now if lifetime else None
