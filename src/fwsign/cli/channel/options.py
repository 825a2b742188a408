# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign channel make`, each with the check of its value."""

import re
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.options import CHAIN_OF_KEY, KEY_WITHOUT_PKI, PKI
from fwsign.cli.sign.options import PRODUCT, VENDOR

_PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%")
NAMES: Final = "a-z, 0-9 and -, at most 32, not - first"


def share(text: str) -> int:
    """Return a share such as 10% or 0.5%, in ten-thousandths."""
    match = _PERCENT.fullmatch(text)
    hundredths = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else -1
    if not 0 <= hundredths <= 10_000:
        ui.usage(f'"{text}" is not a share', "write 10% or 0.25%, from 0% to 100%")
    return hundredths


def name(text: str) -> str:
    """Refuse a text that is no name of a channel or cohort."""
    from fwsign.format.channel import is_name  # where one is given

    if not is_name(text):
        ui.usage(f'"{text}" is not a name of a channel or cohort', f"it may have {NAMES}")
    return text


def _names(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        name(text)
    return texts


def _words(text: str | None) -> str | None:
    if text is not None and not (text and text.isprintable() and len(text.encode()) <= 500):
        ui.usage(f'"{text}" is not a line of printable text', "at most 500 bytes")
    return text


CHANNEL_NAME: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", callback=name, help="The channel's name, such as stable.")
]
ENVELOPES: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="[ENVELOPE]...",
        help="All releases that are current. Default: those of the channel before.",
    ),
]


class ChannelSignerOptions(NamedTuple):
    """Options: the signer."""

    pki: PKI = None
    signer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A channel signer of the PKI. Default: the only one that it has."
        ),
    ] = None
    key: KEY_WITHOUT_PKI = None
    chain: CHAIN_OF_KEY = None

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        if (self.key is None) != (self.chain is None):
            ui.usage("--key and --chain go together", "--pki and --signer name one of a PKI")
        if self.key is not None and (self.pki is not None or self.signer is not None):
            ui.usage("--key and --chain exclude --pki and --signer")


class SayOptions(NamedTuple):
    """Options: what the channel says."""

    vendor: VENDOR = None
    product: PRODUCT = None
    number: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="The channel's number; devices take none below the last. Default: one more than "
            "that of the channel before, else 1.",
        ),
    ] = None
    expires: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="From then on devices refuse the channel, and wait for the next: 30d, or RFC 3339 "
            "with a zone.",
        ),
    ] = "30d"
    hold: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            callback=_words,
            help="Pause: devices install nothing of it, and say why. It stays until --release.",
        ),
    ] = None
    release: Annotated[bool, typer.Option("--release", help="Resume: end the hold.")] = False


class RolloutOptions(NamedTuple):
    """Options: the rollout of the newest release, where it changes."""

    share: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="The share of devices, as in 10%. A larger one keeps all who were in. Default: as "
            "before, else 100%.",
        ),
    ] = None
    cohort: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=_names,
            help="A cohort that it is for; repeat for several. Default: as before, else all.",
        ),
    ] = None
    all_cohorts: Annotated[
        bool, typer.Option("--all-cohorts", help="From now on it is for all devices.")
    ] = False
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Devices wait until then: 12h, or RFC 3339 with a zone."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From then on no further device takes it."),
    ] = None
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Forget --from and --until of the channel before.")
    ] = False

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        if self.cohort and self.all_cohorts:
            ui.usage("--cohort and --all-cohorts exclude each other")

    def seconds(self, option: str, text: str | None) -> int | None:
        """Return a time of the window in seconds since 1970."""
        if text is None:
            return None
        found = int(inputs.parse_time(text, inputs.now()).timestamp())
        if found < 0:
            ui.usage(f"{option} {text} is before 1970")
        return found


class ChannelPlaceOptions(NamedTuple):
    """Options: the channel before, and where the new one goes."""

    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir",
            readable=False,
            metavar="DIR",
            show_default=False,
            help="Where NAME.channel goes; one that is there is the channel before, and is "
            "replaced. Default: here.",
        ),
    ] = Path()
    previous: Annotated[
        Path | None,
        typer.Option(
            "--previous",
            readable=False,
            metavar="FILE",
            help="The channel before. Default: NAME.channel in --output-dir.",
        ),
    ] = None
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Take nothing from a channel that is there, such as one by a revoked signer; "
            "needs --number.",
        ),
    ] = False

    def check(self, number: int | None) -> None:
        """Refuse options that have no meaning together."""
        if self.fresh and self.previous is not None:
            ui.usage("--fresh and --previous exclude each other")
        if self.fresh and number is None:
            ui.usage("--fresh without --number", "devices take none below the last that they saw")
