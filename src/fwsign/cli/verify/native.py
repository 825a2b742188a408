# SPDX-License-Identifier: Apache-2.0
"""Native signatures in `fwsign verify`: they agree with the release, and with fwsign.toml."""

import io
from pathlib import Path
from typing import Protocol

from fwsign.cli.native_settings import NativeSettings
from fwsign.errors import check_limit
from fwsign.native.agreement import MAX_IMAGE, check_expected
from fwsign.verify.verified import VerifiedRelease


class Receive(Protocol):
    """Checks all payloads of a release; see `fwsign.cli.verify.payload_files.receive`."""

    def __call__(self, *, sinks: dict[str, io.BytesIO]) -> dict[str, Path | None]:
        """Fill the sinks, and return the path of each component's payload."""


def received(
    receive: Receive, release: VerifiedRelease, expected: NativeSettings
) -> dict[str, Path | None]:
    """Check all payloads, and the native signatures in them.

    Args:
        receive: checks the payloads.
        release: the verified release.
        expected: the kind and the keys that fwsign.toml expects. If it names no keys, only what the
            release states is checked.

    Raises:
        FwsignError: as `fwsign.native.agreement.check`.
    """
    looked_at = [
        one
        for one in release.components
        if release.native(one) or (expected.key_digests and one.flash)
    ]
    for one in looked_at:
        check_limit(one.size, MAX_IMAGE, f"{one.name}: an image of {one.size} bytes")
    sinks = {one.name: io.BytesIO() for one in looked_at}
    found = receive(sinks=sinks)
    for name, memory in sinks.items():
        if found[name] is not None:
            stated, image = release.native(name), memory.getvalue()
            check_expected(name, stated, image, expected.kind, expected.key_digests)
    return found
