# SPDX-License-Identifier: Apache-2.0
"""The text for people: encode it, and match it to its template and its manifest."""

from typing import Any, Final, NamedTuple

from fwsign.errors import check_limit
from fwsign.format import cbor
from fwsign.format.attachments import Attachment, decode_attachments, encode_attachments
from fwsign.format.component import Component
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.native import StatedNative, decode_native, encode_native
from fwsign.format.notice import Notice, decode_notice, encode_notice
from fwsign.format.suit import Manifest, outside
from fwsign.format.suit_labels import About
from fwsign.format.version import version_numbers

MAX_TEXT_SIZE: Final = 256 * 1024
"""Bytes of the text map."""
MAX_NAME_LENGTH: Final = 253
"""Bytes of a vendor's or product's name: the longest domain has so many."""
MAX_VERSION_LENGTH: Final = 256
"""Bytes of a version: it is in every receipt, and in the environment of commands."""


class Text(NamedTuple):
    """The text for people; it is signed, and it is the only part that may be cut off.

    Args:
        vendor: the vendor's domain.
        product: the product's name.
        version: such as "2.4.1".
        description: what changed, in a few words.
        notice: its class, its advisories and the end of its support.
        native: what it states of the native signature of each component, in their order; empty if
            it states none.
        attachments: documents about it.
    """

    vendor: str
    product: str
    version: str | None = None
    description: str | None = None
    notice: Notice = Notice()
    native: tuple[StatedNative | None, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def encode_text(text: Text, components: tuple[Component, ...]) -> bytes:
    """Write the text map: a summary, and for each component model, vendor, product, version.

    Raises:
        Malformed: `malformed.size`.
    """
    for limit, words, value in (
        (MAX_NAME_LENGTH, "a vendor", text.vendor),
        (MAX_NAME_LENGTH, "a product", text.product),
        (MAX_VERSION_LENGTH, "a version", text.version or ""),
    ):
        size = len(value.encode())
        check_limit(size, limit, f"{words} of {size} bytes")
    about: dict[int, str] = {
        About.MODEL_NAME: text.product,
        About.VENDOR_DOMAIN: text.vendor,
        About.MODEL_INFO: text.product,
    }
    if text.description is not None:
        about[About.DESCRIPTION] = text.description
    if text.version is not None:
        about |= {About.VERSION: text.version, About.CURRENT_VERSION: text.version}
    summary = f"{text.product} {text.version}" if text.version else text.product
    english: dict[Any, Any] = {component.identifier: about for component in components}
    for component, stated in zip(components, text.native, strict=False):
        if stated is not None:
            english[component.identifier] = {**about, About.NATIVE: encode_native(stated)}
    about_all: dict[Any, Any] = {About.SUMMARY: summary, **encode_notice(text.notice)}
    about_all |= encode_attachments(text.attachments)
    return cbor.encode({"en": {**about_all, **english}})


def decode_text(data: bytes, manifest: Manifest) -> Text:
    """Match the text to its template and to the manifest; its digest was checked before.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.size`.
    """
    check_limit(len(data), MAX_TEXT_SIZE, f"text of {len(data)} bytes")
    about: Any = None
    english: dict[Any, Any] = {}
    match cbor.decode(data):
        case {"en": dict(found)}:
            english = found
            about = english.get(manifest.components[0].identifier)
    match about:
        case {About.VENDOR_DOMAIN: str(vendor), About.MODEL_INFO: str(product)}:
            version, description = about.get(About.VERSION), about.get(About.DESCRIPTION)
        case _:
            raise outside("the text matches no template")
    if not isinstance(version, str | None) or not isinstance(description, str | None):
        raise outside("a version or description that is not text")
    native = tuple(_native(english.get(one.identifier)) for one in manifest.components)
    notice = decode_notice(english)
    attachments = decode_attachments(english, manifest.components)
    stated = native if any(native) else ()
    text = Text(vendor, product, version, description, notice, stated, attachments)
    if encode_text(text, manifest.components) != data:
        raise outside("the text matches no template")
    derived = (vendor_id(vendor), class_id(vendor, product))
    if derived != (manifest.vendor_id, manifest.class_id):
        raise outside(f"text says {vendor} {product}, the identifiers are another product's")
    if manifest.version != (version_numbers(text.version) if text.version else None):
        raise outside(f"text says version {text.version}, the manifest {manifest.version}")
    return text


def _native(about: Any) -> StatedNative | None:
    """Read what the text of a component states of its native signature."""
    match about:
        case {About.NATIVE: value}:
            return decode_native(value)
    return None
