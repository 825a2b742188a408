# SPDX-License-Identifier: Apache-2.0
"""Channels as bytes: the releases that are current, and how each is rolled out.

A channel is a statement: its manifest has its number and its expiry, its content the rest.
"""

import re
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, check_limit
from fwsign.format import cbor, suit
from fwsign.format.algorithms import DIGESTS
from fwsign.format.envelope import Envelope
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.rollout import SALT_SIZE, WHOLE, Rollout
from fwsign.format.statement import Content, Form, open_statement
from fwsign.format.text import MAX_NAME_LENGTH

FORM: Final = Form("channel", "content", expires=True)
MAX_RELEASES: Final = 64
"""Releases of one channel; a device fetches the one that it takes, not all."""
MAX_COHORTS: Final = 32
"""Cohorts of one rollout."""
MAX_HOLD: Final = 500
"""Bytes of the words of a hold."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_DIGEST_SIZES: Final = frozenset(one.size for one in DIGESTS.values())


class ChannelRelease(NamedTuple):
    """A release that a channel names.

    Args:
        manifest_digest: the digest that its blocks sign; it identifies the release.
        sequence_number: its sequence number.
        rollout: whom it is for.
    """

    manifest_digest: bytes
    sequence_number: int
    rollout: Rollout


class Channel(NamedTuple):
    """The content of a channel, with the number and the expiry of its manifest.

    Args:
        vendor: the vendor's domain.
        product: the product's name.
        name: the channel's name, such as "stable".
        number: its number; a device takes none below the last that it saw.
        expires: the Unix time from which on it says nothing.
        releases: the current releases, by sequence number.
        hold: words that say why nothing of it is installed; None: there is no hold.
    """

    vendor: str
    product: str
    name: str
    number: int
    expires: int
    releases: tuple[ChannelRelease, ...] = ()
    hold: str | None = None

    @property
    def identifiers(self) -> tuple[bytes, bytes]:
        """Vendor and product, as a manifest names them."""
        return vendor_id(self.vendor), class_id(self.vendor, self.product)


def is_name(value: object) -> bool:
    """Tell whether a value can be the name of a channel or a cohort."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def encode_channel(channel: Channel) -> bytes:
    """Encode the content of a channel; inverse of `decode_channel`."""
    content: dict[int, Any] = {1: channel.vendor, 2: channel.product, 3: channel.name}
    if channel.hold is not None:
        content[4] = channel.hold
    content[5] = tuple(
        (one.manifest_digest, one.sequence_number, _encode_rollout(one.rollout))
        for one in channel.releases
    )
    return cbor.encode(content)


def _encode_rollout(rollout: Rollout) -> dict[int, Any]:
    said: dict[int, Any] = {1: rollout.salt, 2: rollout.share}
    if rollout.cohorts:
        said[3] = rollout.cohorts
    window = {4: rollout.start, 5: rollout.until}
    return said | {key: time for key, time in window.items() if time is not None}


def read_channel(envelope: Envelope) -> Channel:
    """Read a channel without verifying who signed it: to show it, never to follow it.

    Raises:
        FwsignError: as `open_statement` and `decode_channel`.
    """
    return decode_channel(open_statement(FORM, envelope))


def decode_channel(opened: Content) -> Channel:
    """Decode the content of an opened channel: read it, check it, write it, compare.

    Raises:
        Malformed: `malformed.channel`, `malformed.cbor`, `malformed.size`.
    """
    manifest = opened.manifest
    match cbor.decode(opened.content):
        case {1: str(vendor), 2: str(product), 3: str(name), 5: tuple(releases), **rest}:
            more: dict[Any, Any] = rest
        case _:
            raise _bad("it matches no template")
    check_limit(len(releases), MAX_RELEASES, f"{len(releases)} releases")
    channel = Channel(
        vendor,
        product,
        name,
        manifest.sequence_number,
        manifest.use_before or 0,
        tuple(map(_decode_release, releases)),
        more.get(4),
    )
    check_channel(channel)
    if encode_channel(channel) != opened.content:
        raise _bad("it has more, or another form, than its template")
    if channel.identifiers != (manifest.vendor_id, manifest.class_id):
        raise _bad("it is for another product than its manifest")
    return channel


def check_channel(channel: Channel) -> None:
    """Refuse a channel that no device may use.

    Raises:
        Malformed: `malformed.channel`, `malformed.size`.
    """
    check_limit(len(channel.releases), MAX_RELEASES, f"{len(channel.releases)} releases")
    for words, text in (("vendor", channel.vendor), ("product", channel.product)):
        _demand(_is_line(text, MAX_NAME_LENGTH), f"{words} {text!r:.80}, no line of printable text")
    _demand(is_name(channel.name), f"the name {channel.name!r:.80}, which is not allowed")
    hold = channel.hold
    _demand(hold is None or _is_line(hold, MAX_HOLD), "a hold that is no line of printable text")
    _number(channel.number, "number", suit.MAX_SEQUENCE_NUMBER)
    _number(channel.expires, "expiry", suit.MAX_TIME)
    for release in channel.releases:
        _demand(
            len(release.manifest_digest) in _DIGEST_SIZES,
            f"a manifest digest of {len(release.manifest_digest)} bytes",
        )
        _number(release.sequence_number, "sequence number", suit.MAX_SEQUENCE_NUMBER)
        _check_rollout(release.rollout)
    numbers = [one.sequence_number for one in channel.releases]
    _demand(len(set(numbers)) == len(numbers), "two releases of one sequence number")
    _demand(numbers == sorted(numbers), "releases that are not sorted by sequence number")
    digests = {one.manifest_digest for one in channel.releases}
    _demand(len(digests) == len(numbers), "one release under two sequence numbers")


def _check_rollout(rollout: Rollout) -> None:
    _demand(len(rollout.salt) == SALT_SIZE, f"a salt of {len(rollout.salt)} bytes, not {SALT_SIZE}")
    _number(rollout.share, "share", WHOLE)
    cohorts = rollout.cohorts
    check_limit(len(cohorts), MAX_COHORTS, f"{len(cohorts)} cohorts")
    for cohort in cohorts:
        _demand(is_name(cohort), f"the cohort {cohort!r:.80}, which is not allowed")
    _demand(list(cohorts) == sorted(set(cohorts)), "cohorts that are not sorted, each once")
    for time in (rollout.start, rollout.until):
        if time is not None:
            _number(time, "time of a window", suit.MAX_TIME)
    if rollout.start is not None and rollout.until is not None:
        _demand(rollout.start < rollout.until, "a window that ends before it begins")


def _decode_release(value: Any) -> ChannelRelease:
    match value:
        case (bytes(manifest_digest), number, {1: bytes(salt), 2: share, **rest}):
            said: dict[Any, Any] = rest
        case _:
            raise _bad("a release that matches no template")
    cohorts = said.get(3, ())
    if not isinstance(cohorts, tuple):
        raise _bad("cohorts that are not an array")
    return ChannelRelease(
        manifest_digest, number, Rollout(salt, share, cohorts, said.get(4), said.get(5))
    )


def _is_line(text: object, most: int) -> bool:
    return isinstance(text, str) and text.isprintable() and 1 <= len(text.encode()) <= most


def _number(value: Any, what: str, limit: int) -> None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit
    _demand(fine, f"a {what} that is not a number from 0 to {limit}")


def _demand(fine: bool, what: str) -> None:
    if not fine:
        raise _bad(what)


def _bad(what: str) -> Malformed:
    return Malformed("malformed.channel", f"the channel cannot be used: {what}", found=what)
