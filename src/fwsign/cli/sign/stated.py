# SPDX-License-Identifier: Apache-2.0
"""What the command line and fwsign.toml state about releases, for `sign` and `digest`."""

import os
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import config, inputs, ui
from fwsign.cli.sign import options as option

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner

_DAY = 24 * 60 * 60


class Permitted(NamedTuple):
    """What was permitted by name: to replace files, to sign empty ones, to use published keys."""

    force: bool
    empty: bool
    example_keys: bool


def product(about: option.AboutOptions, settings: config.Config) -> str:
    """Return the product: the typed one, else that of fwsign.toml."""
    return product_of(about.product, settings)


def product_of(typed: str | None, settings: config.Config) -> str:
    """Return the product: the typed one, else that of fwsign.toml."""
    product = typed or settings.product
    if product is None:
        ui.usage(
            "no product given",
            "name it with --product NAME, or in fwsign.toml, which fwsign init makes",
        )
    return product


def check_content(content: option.ContentOptions, *, apart: bool) -> None:
    """Refuse options about payloads that have no meaning together.

    Args:
        content: the options.
        apart: whether several files are releases of their own.
    """
    refuse_pairs(
        ("--embed", content.embed, "--base-url", content.base_url),
        ("--embed", content.embed, "--block-size", content.block_size),
    )
    if content.device_data and apart:
        ui.usage(
            "--device-data with several envelopes",
            "it belongs to the images that a board gets together: --output FILE",
        )


def refuse_pairs(*pairs: tuple[str, object, str, object]) -> None:
    """Refuse two options that exclude each other."""
    for one, given, other, also in pairs:
        if given and also:
            ui.usage(f"{one} and {other} exclude each other")


def numbers(about: option.AboutOptions, now: datetime, *, force: bool) -> tuple[int, int | None]:
    """Return the sequence number, and the time from which on devices refuse the release.

    Args:
        about: what was typed.
        now: the present time.
        force: allow a sequence number of more than a day ahead.
    """
    return _sequence_number(about, now, force=force), _use_before(about.not_after, now)


def _sequence_number(about: option.AboutOptions, now: datetime, *, force: bool) -> int:
    """Return --sequence, else SOURCE_DATE_EPOCH, else the time."""
    from fwsign.format.suit import MAX_SEQUENCE_NUMBER

    given = about.sequence
    seconds = int(now.timestamp())
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given is None and epoch and not (epoch.isdecimal() and len(epoch) < 20):
        ui.usage(
            f'SOURCE_DATE_EPOCH is "{epoch[:40]}", expected seconds since 1970',
            "set it right, or unset it: unset SOURCE_DATE_EPOCH; --sequence goes before it",
        )
    number = given if given is not None else int(epoch or seconds)
    if not 0 <= number <= MAX_SEQUENCE_NUMBER:
        ui.usage(f"sequence number {number}, expected 0 to {MAX_SEQUENCE_NUMBER}")
    if number > seconds + _DAY and not force:
        ui.usage(
            f"sequence number {number} is more than a day ahead of the time, {seconds}",
            "devices would refuse what you sign until then; --force if you mean it",
        )
    return number


def _use_before(given: str | None, now: datetime) -> int | None:
    """Return a time in seconds since 1970; None for no end."""
    if given is None:
        return None
    seconds = int(inputs.parse_time(given, now).timestamp())
    if seconds <= now.timestamp():
        ui.usage(f"--not-after {given} is in the past: it is {now.isoformat()}")
    return seconds


def only_vendor(found: "FoundSigner") -> str:
    """Return the vendor that the signer's certificate names, if it is the only one."""
    if len(found.vendors) != 1:
        domains = ", ".join(found.vendors) or "no domain"
        ui.usage(f"the signer's certificate names {domains}", "say which with --vendor DOMAIN")
    return found.vendors[0]
