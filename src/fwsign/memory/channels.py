# SPDX-License-Identifier: Apache-2.0
"""The channels in a device's memory: the number and the manifest of the last one of each name.

A channel's number never goes back, or whoever holds the server could bring an old one again. Each
is a fact beside others, so memories of older versions have room for it, and the memory's sum
covers it. A new epoch of the list of anchors forgets them: the owner's way back after numbers that
a thief drove up.
"""

from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.format import identifiers
from fwsign.memory.crls import keep_crls, knows_crls, teaching
from fwsign.memory.file import StateFile
from fwsign.memory.floors import keep_time, time
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verified import VerifiedChannel

_GET: Final = "SELECT value FROM facts WHERE name = ?"
_SET: Final = "REPLACE INTO facts VALUES (?, ?)"
_FORGET: Final = "DELETE FROM facts WHERE substr(name, 1, ?) = ?"


class ChannelKey(NamedTuple):
    """The key of a channel: vendor, product and its name; others could claim the name alone."""

    vendor: str
    product: str
    name: str

    @property
    def fact(self) -> str:
        """The name of its fact."""
        return f"{_beginning(self.vendor, self.product)}{self.name}"


class Channels:
    """The channels that a device took last.

    Args:
        file: the open memory.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file

    def last(self, key: ChannelKey) -> SeenChannel | None:
        """Return the channel that was taken last; None if there was none.

        Raises:
            Failed: `state.damaged`, `state.busy`, `io.*`.
        """
        with self._file.transaction("read"):
            found = self._file.run(_GET, key.fact).fetchone()
        if found is None:
            return None
        number, _, digest = str(found[0]).partition(" ")
        try:
            return SeenChannel(int(number), bytes.fromhex(digest))
        except ValueError:
            raise self._file.damaged(f"the number of channel {key.name}") from None

    def accept(self, verified: VerifiedChannel, expected: SeenChannel | None) -> bool:
        """Remember that a channel was taken, with its time and its CRLs as those of a release.

        Args:
            verified: the channel.
            expected: the one that it was judged by, from `last`.

        Returns:
            Whether anything was written: the same channel again is not.

        Raises:
            Failed: `state.conflict`: another one was taken meanwhile; `state.*`, `io.*`.
        """
        channel = verified.channel
        key = ChannelKey(channel.vendor, channel.product, channel.name)
        taken = SeenChannel(channel.number, verified.manifest_digest)
        with self._file.transaction("read"):
            self._check_unmoved(key, expected)
            if taken == expected and self._knows(verified):
                return False  # a device that asks every minute must not wear the disk out
        with self._file.transaction("write"):
            self._check_unmoved(key, expected)
            text = f"{channel.number} {verified.manifest_digest.hex()}"
            self._file.run(_SET, key.fact, text)
            keep_time(self._file, verified.manifest.vendor_id, verified.known_time)
            keep_crls(self._file, teaching(verified))
        return True

    def _knows(self, verified: VerifiedChannel) -> bool:
        """Tell whether the time and the CRLs of a channel are known."""
        known = time(self._file, verified.manifest.vendor_id)
        later = verified.known_time is not None and (
            known is None or int(verified.known_time.timestamp()) > known.timestamp()
        )
        return not later and knows_crls(self._file, teaching(verified))

    def _check_unmoved(self, key: ChannelKey, expected: SeenChannel | None) -> None:
        found = self.last(key)
        if found != expected:
            now, before = (one.number if one else "none" for one in (found, expected))
            raise Failed(
                "state.conflict",
                f"another channel {key.name} was taken meanwhile: the number was {before}, and is "
                f"{now}",
                expected=before,
                found=now,
            )


def forget_channels(file: StateFile, vendor: str, product: str) -> None:
    """Forget the channels of a product, inside a transaction for writing."""
    beginning = _beginning(vendor, product)
    file.run(_FORGET, len(beginning), beginning)


def _beginning(vendor: str, product: str) -> str:
    ids = identifiers.vendor_id(vendor), identifiers.class_id(vendor, product)
    return "channel:{}:{}:".format(*(one.hex() for one in ids))
