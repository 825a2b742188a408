# SPDX-License-Identifier: Apache-2.0
"""The sources of a release: files or HTTPS. Files need no network code, so none is loaded."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from fwsign.errors import Failed
from fwsign.files import open_plain, read_bytes
from fwsign.format.component import Component, is_inside, is_url
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.payload import PayloadSource
from fwsign.gateway.config.device import Tell
from fwsign.gateway.config.fetch_rules import FetchRules

PayloadProgress = Callable[[str, int, int], object]
"""Called with a component's name, its bytes done and its size."""


class Sources(NamedTuple):
    """An envelope and its payloads.

    Args:
        envelope: a path or a URL.
        payloads: paths or URLs of payloads, as typed; others are at their uri.
        rules: the limits of fetching.
        tell: told of redirects and of resumed transfers.
        content: the envelope, if it was read already: then it is not read again.
    """

    envelope: str
    payloads: tuple[str, ...]
    rules: FetchRules
    tell: Tell
    content: bytes | None = None

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
            envelope, *payloads = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            raise Failed("state.nothing", "what was begun here cannot be read") from None
        return cls(str(envelope), tuple(map(str, payloads)), rules, tell)

    def hint(self) -> str:
        """Return a text with all places, for `--resume`."""
        return json.dumps([_absolute(one) for one in (self.envelope, *self.payloads)])

    def read_envelope(self) -> bytes:
        """Return the envelope.

        Raises:
            Malformed: `malformed.size`; Failed: `io.*`.
        """
        if self.content is not None:
            return self.content
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
        if is_url(self.envelope):
            from fwsign.gateway.https.connection import join  # only for URLs

            return join(self.envelope, component.uri)
        beside = Path(self.envelope).parent / wanted
        return component.uri if is_url(component.uri) and not beside.exists() else str(beside)

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


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).absolute())
