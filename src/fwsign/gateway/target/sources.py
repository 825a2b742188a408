# SPDX-License-Identifier: Apache-2.0
"""The sources of a release: files or HTTPS. Files need no network code, so none is loaded."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from fwsign.errors import Failed, Tampered
from fwsign.files import open_plain, read_bytes
from fwsign.format.component import Component, is_inside, is_url
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, check_manifest_digest, decode_envelope
from fwsign.format.payload import PayloadSource
from fwsign.gateway.config.device import Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.publish.layout import payload_path, release_path

PayloadProgress = Callable[[str, int, int], object]
"""Called with a component's name, its bytes done and its size."""


class ReleasePlace(NamedTuple):
    """A release in a place that was published, as a channel there names it.

    The channel's server is not believed: what lies at the release's place must be that release.

    Args:
        channel: the place of the channel: its payloads lie beside it, by their digests.
        manifest: the digest of the release's manifest, in hex.
        sequence: its sequence number.
    """

    channel: str
    manifest: str
    sequence: int

    @property
    def envelope(self) -> str:
        """The place of its envelope."""
        return beside(self.channel, release_path(bytes.fromhex(self.manifest)))

    def payload(self, component: Component) -> str:
        """Return the place of a payload."""
        return beside(self.channel, payload_path(component))

    def check(self, envelope: bytes) -> None:
        """Refuse an envelope of another release.

        Raises:
            Malformed: `malformed.*`; Tampered: `tampered.manifest`, `tampered.release`.
        """
        found = check_manifest_digest(decode_envelope(envelope)).hex()
        if found != self.manifest:
            raise Tampered(
                "tampered.release",
                f"the envelope at {self.envelope} is of another release: its manifest has digest "
                f"{found}, the channel names {self.manifest}",
                expected=self.manifest,
                found=found,
            )


class Sources(NamedTuple):
    """An envelope and its payloads.

    Args:
        envelope: a path or a URL.
        payloads: paths or URLs of payloads, as typed; others are at their uri.
        rules: the limits of fetching.
        tell: told of redirects and of resumed transfers.
        content: the envelope, if it was read already: then it is not read again.
        published: the release, if a channel names it.
    """

    envelope: str
    payloads: tuple[str, ...]
    rules: FetchRules
    tell: Tell
    content: bytes | None = None
    published: ReleasePlace | None = None

    @classmethod
    def from_hint(cls, text: str, rules: FetchRules, tell: Tell) -> Self:
        """Decode a text from `hint`.

        Args:
            text: the places, as JSON.
            rules: as for the class.
            tell: as for the class.

        Raises:
            Failed: `state.nothing`.
        """
        try:
            found = json.loads(text)
            known = found if isinstance(found, dict) else {"places": found, "published": None}
            envelope, *payloads = known["places"]
            published = ReleasePlace(*known["published"]) if known["published"] else None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Failed("state.nothing", "what was begun here cannot be read") from None
        return cls(str(envelope), tuple(map(str, payloads)), rules, tell, published=published)

    @classmethod
    def of_channel(cls, published: ReleasePlace, rules: FetchRules, tell: Tell) -> Self:
        """Return the sources of a release that a channel names.

        Args:
            published: the release, as the channel names it.
            rules: as for the class.
            tell: as for the class.
        """
        return cls(published.envelope, (), rules, tell, published=published)

    def hint(self) -> str:
        """Return a text with all places, for `--resume`."""
        places = [_absolute(one) for one in (self.envelope, *self.payloads)]
        if self.published is None:
            return json.dumps(places)
        published = self.published._replace(channel=_absolute(self.published.channel))
        return json.dumps({"places": places, "published": published})

    def read_envelope(self) -> bytes:
        """Return the envelope.

        Raises:
            Malformed: `malformed.size`; Failed: `io.*`; as `ReleasePlace.check`.
        """
        if self.content is not None:
            return self.content
        envelope = self._read_envelope()
        if self.published is not None:
            self.published.check(envelope)
        return envelope

    def _read_envelope(self) -> bytes:
        if is_url(self.envelope):
            from fwsign.gateway.https.fetch import fetch_bytes  # files need no network

            return fetch_bytes(self.envelope, self.rules, MAX_ENVELOPE_SIZE, self.tell)
        return read_bytes(Path(self.envelope), MAX_ENVELOPE_SIZE, "files")

    @contextlib.contextmanager
    def open(self, component: Component, start: int = 0) -> Iterator[PayloadSource | None]:
        """Open a component's payload; None if it is in the envelope.

        Args:
            component: the component.
            start: the offset of the first wanted byte.

        Raises:
            Failed: `io.*`.
        """
        if is_inside(component.uri):
            yield None
            return
        place = self._place(component)
        if is_url(place):
            from fwsign.gateway.https.fetch import opened  # files need no network

            with opened(place, self.rules, start, self.tell, component.carried.size) as source:
                yield source
            return
        try:
            file = open_plain(Path(place), "files")
        except Failed as error:
            if error.code != "io.missing":
                raise
            message = f'the payload of "{component.name}" is not there: {place}'
            raise Failed(
                "io.payload-missing", message, step=10, expected=place, found="nothing"
            ) from error
        with file:
            file.seek(start)
            yield file

    def _place(self, component: Component) -> str:
        """Return the place of a payload: as typed, beside the envelope, or at its uri."""
        wanted = component.payload_name
        for one in self.payloads:
            if one.rpartition("/")[2] == wanted:
                return one
        if self.published is not None:
            return self.published.payload(component)
        if is_url(self.envelope):
            return beside(self.envelope, component.uri)
        here = beside(self.envelope, wanted)
        return component.uri if is_url(component.uri) and not Path(here).exists() else here

    def check(self, components: tuple[Component, ...]) -> None:
        """Refuse a typed payload that the release does not have.

        Raises:
            Failed: `io.payload-missing`.
        """
        wanted = {one.payload_name for one in components}
        for one in self.payloads:
            if (name := one.rpartition("/")[2]) not in wanted:
                words = ", ".join(sorted(wanted))
                raise Failed(
                    "io.payload-missing",
                    f'the release has no payload called "{name}", it has {words}',
                    expected=words,
                    found=name,
                )


def beside(place: str, path: str) -> str:
    """Return the place of a path beside a URL or a file."""
    if is_url(place):
        from fwsign.gateway.https.connection import join  # only for URLs

        return join(place, path)
    return str(Path(place).parent / path)


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).absolute())
