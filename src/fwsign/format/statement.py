# SPDX-License-Identifier: Apache-2.0
"""Statements: envelopes whose only component is content for fwsign itself.

Trust updates, channels and permits are statements. One has wrapper, manifest and content, and
nothing else; its manifest is the least one, with one component, and with a use-before time if its
kind expires. Who may sign it is not decided here.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import suit
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import (
    Envelope,
    check_manifest_digest,
    decode_envelope,
    encode_envelope,
    encode_manifest_digest,
)
from fwsign.format.payload import digest
from fwsign.format.suit import words_of

MAX_CONTENT_SIZE: Final = 1024 * 1024
"""Bytes of a statement's content; 32 anchors with ML-DSA-87 certificates have 280 kB."""


class Form(NamedTuple):
    """The form of one kind of statement.

    Args:
        kind: its kind.
        part: the word for its content in messages, such as "list".
        expires: whether its manifest has a use-before time: always, or never.
    """

    kind: suit.Kind
    part: str
    expires: bool = False

    @property
    def uri(self) -> str:
        """The name of the content in the envelope."""
        return f"#{suit.STATEMENTS[self.kind][0].decode()}"


def kind_in(data: bytes) -> suit.Kind | None:
    """Return the kind of an envelope, which may be invalid; None if it is no envelope."""
    try:
        return suit.kind_in(decode_envelope(data).manifest)
    except Malformed:
        return None


class Content(NamedTuple):
    """A statement with consistent bytes; its signatures and its content are not checked yet."""

    manifest: suit.Manifest
    content: bytes


def describe(
    form: Form,
    number: int,
    identifiers: tuple[bytes, bytes],
    content: bytes,
    use_before: int | None = None,
) -> suit.Manifest:
    """Return the manifest of a statement.

    Args:
        form: its form.
        number: its number.
        identifiers: vendor and product, as `fwsign.format.identifiers` makes them.
        content: its content.
        use_before: the time of its expiry, a Unix time; None if its kind never expires.
    """
    image = Digest(SHA256, digest(SHA256, content))
    component = Component(suit.STATEMENTS[form.kind], image, len(content), form.uri)
    return suit.Manifest(number, *identifiers, (component,), use_before)


def encode_statement(
    form: Form, manifest: suit.Manifest, content: bytes, blocks: Sequence[bytes] = ()
) -> bytes:
    """Encode a statement with the blocks that sign it."""
    encoded = suit.encode_manifest(manifest)
    signed = encode_manifest_digest(encoded)
    return encode_envelope(Envelope(signed, tuple(blocks), encoded, None, {form.uri: content}))


def open_statement(form: Form, envelope: Envelope) -> Content:
    """Steps 2 and 7 for a statement: manifest and content are those that were signed.

    Raises:
        Malformed: `malformed.profile`, `malformed.size`, `malformed.cbor`.
        Tampered: `tampered.manifest`, `tampered.payload-absent`, `tampered.payload-digest`.
        Unsuitable: `unsuitable.*`: it is of another kind.
    """
    check_manifest_digest(envelope)
    manifest = suit.decode_manifest(envelope.manifest, kind=form.kind)
    words, uri = words_of(form.kind), form.uri
    component = manifest.components[0]._replace(uri=uri)
    least = suit.Manifest(*manifest[:3], (component,), manifest.use_before)
    if manifest != least or (manifest.use_before is not None) != form.expires:
        raise suit.outside(f"a manifest of {words} with more or other than its template has")
    if envelope.other or envelope.text is not None or envelope.integrated.keys() - {uri}:
        raise suit.outside(f"{words} with more than wrapper, manifest and {form.part}")
    content = envelope.integrated.get(uri)
    if content is None:
        name = words.removeprefix("a ")
        raise Tampered("tampered.payload-absent", f"the {form.part} was taken out of the {name}")
    check_limit(len(content), MAX_CONTENT_SIZE, f"{form.part} of {len(content)} bytes")
    image = component.digest
    if (digest(image.algorithm, content), len(content)) != (image.value, component.size):
        raise Tampered("tampered.payload-digest", f"the {form.part} is not the one that was signed")
    return Content(manifest, content)
