# SPDX-License-Identifier: Apache-2.0
"""Native signatures, as `fwsign verify` and `flash` compare them with release and fwsign.toml."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fwsign import native
from fwsign.cli.native_settings import NativeSettings
from fwsign.errors import Malformed, check_limit
from fwsign.format.component import Component
from fwsign.native.agreement import MAX_IMAGE, absent, check, check_keys
from fwsign.verify.verified import VerifiedRelease


class Receive(Protocol):
    """Checks all payloads of a release; see `fwsign.cli.verify.payload_files.receive`."""

    def __call__(self, *, sinks: dict[str, io.BytesIO]) -> dict[str, Path | None]:
        """Fill the sinks, and return the path of each component's payload."""


def received(
    receive: Receive, release: VerifiedRelease, expected: NativeSettings, *, readable: bool = True
) -> dict[str, Path | None]:
    """Check all payloads, and the native signatures in them.

    Args:
        receive: checks the payloads.
        release: the verified release. Its statements may have been cut off on the way.
        expected: what fwsign.toml says: images for flash that state nothing must have a signature
            of its kind, and each signature must be by its keys, if it names any.
        readable: whether there is a key for encrypted payloads; else they are left out.

    Raises:
        FwsignError: as `fwsign.native.agreement.check`; `untrusted.native-key`.
    """
    there = [one for one in release.components if readable or one.encrypted is None]
    looked_at = [one for one in there if _concerns(release, one, expected)]
    for one in looked_at:
        check_limit(one.size, MAX_IMAGE, f"{one.name}: an image of {one.size} bytes")
    sinks = {one.name: io.BytesIO() for one in looked_at}
    found = receive(sinks=sinks)
    for one in looked_at:
        if found[one.name] is not None:
            _judge(release, one, sinks[one.name].getvalue(), expected)
    return found


def _concerns(release: VerifiedRelease, one: Component, expected: NativeSettings) -> bool:
    if release.native(one) or (expected.kind and one.flash):
        return True
    # A file without a place in flash may be an image, too, unless it is larger than any.
    return bool(expected.key_digests) and (one.flash is not None or one.size <= MAX_IMAGE)


def check_held(
    release: VerifiedRelease, held: Mapping[str, bytes], expected: NativeSettings
) -> None:
    """Check native signatures in images whose bytes are in memory, as `received` does.

    Args:
        release: the verified release.
        held: the bytes of components that were verified, by name.
        expected: see `received`.

    Raises:
        FwsignError: as `received`.
    """
    for one in release.components:
        if one.flash and one.name in held:
            _judge(release, one, held[one.name], expected)


def _judge(
    release: VerifiedRelease, one: Component, image: bytes, expected: NativeSettings
) -> None:
    stated = release.native(one)
    found = check(one.name, stated, image) if stated is not None else _read(one, image)
    kind = expected.kind
    if found is None and kind is not None and one.flash and native.suits(kind, image):
        hint = "fwsign.toml demands one in [native]: sign the image for its chip first"
        raise absent(one.name, kind).with_hint(hint)
    if expected.key_digests and found is not None:
        check_keys(one.name, found, expected.key_digests)


def _read(one: Component, image: bytes) -> native.Native | None:
    try:
        return native.read(image)
    except Malformed:
        if one.flash:
            raise
        return None  # `--target file` signs what only begins like an image
