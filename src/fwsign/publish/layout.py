# SPDX-License-Identifier: Apache-2.0
"""The paths of a published place: payloads by digest, envelopes by manifest digest, channels.

    sha256/HEX              a payload; never changed once it is there
    releases/HEX.suit       an envelope; replaced only by the same manifest with newer CRLs
    NAME.channel            a channel; written last

A follower needs no listing: a channel names the envelopes, and an envelope its payloads.
"""

import re
from collections.abc import Iterable
from secrets import token_hex
from typing import Final

from fwsign.format.algorithms import DIGESTS
from fwsign.format.component import Component, is_inside

CHANNEL: Final = ".channel"
RELEASES: Final = "releases/"
PAYLOADS: Final = tuple(f"{one.function}/" for one in DIGESTS.values())
"""The prefixes of payloads, by the algorithm of their digest."""

_SIZES: Final = "|".join(f"[0-9a-f]{{{2 * one.size}}}" for one in DIGESTS.values())
_PAYLOAD: Final = "|".join(f"{one.function}/[0-9a-f]{{{2 * one.size}}}" for one in DIGESTS.values())
_PATH: Final = re.compile(rf"{_PAYLOAD}|releases/(?:{_SIZES})\.suit|[a-z0-9][a-z0-9-]*\.channel")
_LEFTOVER: Final = re.compile(r"(?:[a-z0-9]+/)?\.(?:[0-9a-f]{64}|[a-z0-9-]+\.channel)[^/]*")


def payload_path(component: Component) -> str:
    """Return the path of a component's payload."""
    digest = component.carried.digest  # of the ciphertext, if it is encrypted
    return f"{DIGESTS[digest.algorithm].function}/{digest.value.hex()}"


def release_path(manifest_digest: bytes) -> str:
    """Return the path of a release's envelope."""
    return f"{RELEASES}{manifest_digest.hex()}.suit"


def channel_path(name: str) -> str:
    """Return the path of a channel."""
    return f"{name}{CHANNEL}"


def probe_path() -> str:
    """Return a new path for what is only written to see the time that it gets.

    One that a killed program left is a leftover, as the beginning of a file is.
    """
    return f".{token_hex(32)}.clock"


def is_ours(path: str) -> bool:
    """Tell whether a path is one that fwsign writes; nothing else is touched."""
    return _PATH.fullmatch(path) is not None


def is_leftover(path: str) -> bool:
    """Tell whether a path is the beginning of a file, which a killed publisher left in a folder."""
    return _LEFTOVER.fullmatch(path) is not None


def outside(components: Iterable[Component]) -> dict[str, Component]:
    """Return the components whose payloads are not inside the envelope, by their paths."""
    return {payload_path(one): one for one in components if not is_inside(one.uri)}
