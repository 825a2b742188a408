# SPDX-License-Identifier: Apache-2.0
"""Download a release for an install that may have no network, and go on with one that was begun."""

from collections.abc import Sequence

from fwsign.errors import Failed
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import SOURCES, Installed
from fwsign.gateway.target.delivery import Delivery
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.target.sources import Sources
from fwsign.verify.verified import VerifiedRelease


def download(
    gateway: OpenGateway, release: VerifiedRelease, envelope: bytes, wanted: Sequence[Delivery]
) -> Installed:
    """Stage every payload of a release, verified, and do no more.

    Args:
        gateway: the gateway at work.
        release: the verified release.
        envelope: its envelope.
        wanted: its components.

    Raises:
        Tampered: as `VerifiedRelease.receive`; Failed: `io.*`.
    """
    gateway.target.begin(envelope, release.manifest_digest.hex())
    for one in wanted:
        gateway.target.receive(release, one, gateway.request.progress)
    return Installed("downloaded", release, ())


def resumed(gateway: OpenGateway) -> tuple[Sources, list[str]]:
    """Return the sources of the release that was begun last, and notes.

    If the place of its envelope cannot be reached, the staged envelope is taken. It is verified as
    any other; what was staged is a hint.

    Raises:
        Failed: `state.nothing`, `io.*`.
    """
    request = gateway.request
    text = gateway.state.remembered(SOURCES)
    if text is None:
        raise Failed("state.nothing", "no install was begun here: there is nothing to resume")
    sources = Sources.from_hint(text, request.device.fetch, request.tell)
    try:
        return sources._replace(content=sources.read_envelope()), []
    except Failed as error:
        envelope, wanted = gateway.target.staged_envelope(), sources.published
        if envelope is None or (wanted and digest_of(envelope) != wanted.manifest):
            raise  # a channel named another release
        note = f"the envelope that was staged is taken: {error.message}"
        return sources._replace(content=envelope), [note]
