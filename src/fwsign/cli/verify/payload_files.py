# SPDX-License-Identifier: Apache-2.0
"""Step 10 of `fwsign verify`: find each component's payload file and check it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fwsign.cli import ui
from fwsign.cli.payloads import check_blocks, opened
from fwsign.errors import Failed, Tampered
from fwsign.format.component import Component, is_inside
from fwsign.format.payload import Blocks, PayloadSink, PayloadSource
from fwsign.format.payload import receive as receive_payload
from fwsign.verify.verified import VerifiedRelease

if TYPE_CHECKING:
    from fwsign.files import Accept
    from fwsign.format.key_wrap import AgreementKey


_OTHER_CIPHERTEXT: Final = ("tampered.payload-digest", "tampered.payload-size", "tampered.block")
_NO_SINKS: Final[Mapping[str, PayloadSink]] = MappingProxyType({})


def receive(
    release: VerifiedRelease,
    envelope: Path,
    given: Sequence[Path],
    *,
    manifest_only: bool,
    sinks: Mapping[str, PayloadSink] = _NO_SINKS,
    keys: "Sequence[AgreementKey]" = (),
) -> dict[str, Path | None]:
    """Check all payloads; return each component's payload path, None if it was not found.

    Args:
        release: the verified release.
        envelope: the envelope; payloads are searched beside it.
        given: the files on the command line; each must be the payload of some component.
        manifest_only: leave out payloads that are not there.
        sinks: take the bytes of components, by name; of others nothing is kept.
        keys: the keys for encrypted payloads. Without one, only their ciphertext is checked.
    """
    found: dict[str, Path | None] = {}
    named = _match(release.components, given)
    for component in release.components:
        path = named.get(component.name)
        if is_inside(component.uri):
            release.receive(component, None, sinks.get(component.name), keys)
            found[component.name] = envelope
            if path is not None:  # a payload that is there is judged anyway
                with opened(path, "pipes") as source:
                    receive_payload(component, source)
            continue
        accept: Accept = "pipes" if path else "files"  # one that was typed is meant
        path = path or _beside(component, envelope)
        if path is None:
            if not manifest_only:
                raise _missing(component, envelope)
            found[component.name] = None
            continue
        sink, blocks = sinks.get(component.name), list_used(release, component)
        if component.encrypted and keys:
            blocks = None  # the list says nothing of the plaintext
        with _of_one_signing(component):
            if blocks is not None and sink is None:
                check_blocks(path, component, blocks, accept)
            else:
                with opened(path, accept) as source:
                    release.receive(component, source, sink, keys)
        found[component.name] = path
    return found


@contextlib.contextmanager
def _of_one_signing(component: Component) -> Iterator[None]:
    """Add to a refusal of ciphertext that each signing has its own, which a kill may have torn."""
    try:
        yield
    except Tampered as error:
        if component.encrypted is None or error.code not in _OTHER_CIPHERTEXT:
            raise
        raise error.with_hint(
            "each signing encrypts anew: fetch envelope and ciphertext of the same one; where a "
            "run of fwsign sign was stopped, sign again with --force"
        ) from None


def list_used(release: VerifiedRelease, component: Component) -> Blocks | None:
    """Return the block list if it alone judges a payload here; None if the digest does."""
    return None if is_inside(component.uri) else release.blocks(component)


@contextlib.contextmanager
def finding(
    components: Sequence[Component], envelope: Path, given: Sequence[Path]
) -> Iterator[Callable[[Component], PayloadSource | None]]:
    """Yield a function that opens payloads for `receive`; they are closed at the end."""
    named = _match(components, given)
    with contextlib.ExitStack() as files:

        def find(component: Component) -> PayloadSource | None:
            path = named.get(component.name)
            if is_inside(component.uri):
                return None
            accept: Accept = "streams" if path else "files"
            path = path or _beside(component, envelope)
            if path is None:
                raise _missing(component, envelope)
            return files.enter_context(opened(path, accept))

        yield find


def _beside(component: Component, envelope: Path) -> Path | None:
    """Return the payload's file beside the envelope, None if there is none."""
    path = envelope.parent / component.payload_name
    return path if os.path.lexists(path) else None


def _match(components: Sequence[Component], given: Sequence[Path]) -> dict[str, Path]:
    """Assign each given file to a component, by its name; a single file may have any name."""
    if len(given) == 1 and len({one.uri for one in components}) == 1:
        return dict.fromkeys((one.name for one in components), given[0])
    places: dict[str, Path] = {}
    for path in given:
        matching = [one for one in components if one.payload_name == path.name]
        wanted = [one.name for one in matching]
        if len({one.uri for one in matching}) != 1:
            names = ", ".join(one.payload_name for one in components)
            ui.usage(f'the release has no payload called "{path.name}"', f"it has {names}")
        if wanted[0] in places:
            ui.usage(f'two payloads for "{wanted[0]}": {places[wanted[0]]} and {path}')
        places |= dict.fromkeys(wanted, path)
    return places


def _missing(component: Component, envelope: Path) -> Failed:
    path = envelope.parent / component.payload_name
    return Failed(
        "io.payload-missing",
        f'the payload of "{component.name}" is not there: {path}',
        step=10,
        expected=path,
        found="nothing",
    )
