# SPDX-License-Identifier: Apache-2.0
"""A channel in lines for people."""

from collections.abc import Iterator

from fwsign.format.channel import Channel
from fwsign.format.rollout import WHOLE, Rollout, percent
from fwsign.receipts.facts import rfc3339


def lines(channel: Channel) -> Iterator[str]:
    """Yield what a channel says, a fact a line."""
    yield f"  product    {channel.product}, {channel.vendor}"
    yield f"  expires    {rfc3339(channel.expires)}"
    if channel.hold is not None:
        yield f"  hold       {channel.hold}"
    for one in channel.releases:
        digest = one.manifest_digest.hex()[:16]
        yield f"  release    sequence {one.sequence_number}, {digest}..., {whom(one.rollout)}"


def whom(rollout: Rollout) -> str:
    """Return whom a rollout is for, and when."""
    cohorts = ", ".join(rollout.cohorts)
    of = f"of the cohorts {cohorts}" if rollout.cohorts else "of all devices"
    parts = [f"{percent(rollout.share)} {of}"]
    if rollout.share == WHOLE:
        parts = [f"for the cohorts {cohorts}" if rollout.cohorts else "for all devices"]
    if rollout.start is not None:
        parts.append(f"from {rfc3339(rollout.start)}")
    if rollout.until is not None:
        parts.append(f"until {rfc3339(rollout.until)}")
    return ", ".join(parts)
