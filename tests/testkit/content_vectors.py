"""Step 7: what was signed, once it is known by whom."""

from collections.abc import Callable
from typing import Any

from fwsign.format import cbor
from fwsign.format.attachments import Attachment
from fwsign.format.component import Component, Digest
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from hostile import (
    altered_manifest,
    block_of,
    close,
    encoded,
    with_members,
)
from support import (
    PAYLOAD,
    PRODUCT,
    VENDOR,
    component,
    make_manifest,
    sign_with,
)
from testkit.bytes_vectors import good, member
from testkit.vector import Case, Vector, accepted, case, pki, refused


def embedded() -> bytes:
    """Return an envelope with its payload inside."""
    manifest = make_manifest(component(uri="#build.bin"))
    return sign_with(pki(), manifest, integrated={"#build.bin": PAYLOAD})


def with_text(*, severed: bool = False) -> bytes:
    """Return an envelope with text, or with a text that was cut off."""
    parts = (component(),)
    text = encode_text(Text(VENDOR, PRODUCT, "2.4.1"), parts)
    head = cbor.byte_string_head(len(text))
    signed = Digest(-16, digest(-16, head, text))
    manifest = make_manifest(*parts, version=(2, 4, 1), text_digest=signed)
    return sign_with(pki(), manifest, text=None if severed else text)


def with_notice(**entries: str) -> Case:
    """Return a case of an envelope whose text has entries under the keys of a notice."""
    keys = {"known": -256, "advisories": -257, "until": -258, "other": -259}
    parts = (component(),)
    plain = cbor.decode(encode_text(Text(VENDOR, PRODUCT), parts))["en"]
    text = cbor.encode({"en": {**plain, **{keys[name]: one for name, one in entries.items()}}})
    signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
    return case(sign_with(pki(), make_manifest(*parts, text_digest=signed), text=text))


def attached(*, carried: bytes | None = None, **change: Any) -> Callable[[], Case]:
    """Sign a text with an attachment; `carried` is inside the envelope, `change` is signed."""
    parts = (component(),)
    document = b'{"spdxVersion": "SPDX-2.3"}'
    one = Attachment(
        "sbom.json", "application/spdx+json", Digest(-16, digest(-16, document)), len(document)
    )._replace(**change)

    def make() -> Case:
        text = encode_text(Text(VENDOR, PRODUCT, attachments=(one,)), parts)
        signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
        inside = {} if carried is None else {"#sbom.json": carried}
        content = make_manifest(*parts, text_digest=signed)
        return case(sign_with(pki(), content, text=text, integrated=inside))

    return make


def with_words(
    vendor: str = VENDOR, product: str = PRODUCT, version: str = "nightly"
) -> Callable[[], Case]:
    """Sign a text of any length; the identifiers in the manifest agree with it."""

    def make() -> Case:
        about = {2: product, 3: vendor, 4: product, 6: version, 8: version}
        english = {1: f"{product} {version}", component().identifier: about}
        text = cbor.encode({"en": english})
        signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
        content = make_manifest(vendor=vendor, product=product, text_digest=signed)
        return case(sign_with(pki(), content, text=text), product=product)

    return make


def manifest(change: Callable[[dict[Any, Any]], None]) -> Callable[[], Case]:
    """Sign a manifest that was altered before."""
    return lambda: signed(altered_manifest(encoded(), change))


def parts(*components: Component) -> Callable[[], Case]:
    """Sign a manifest of components."""
    return lambda: case(sign_with(pki(), make_manifest(*components)))


def signed(content: bytes) -> Case:
    """Sign any bytes as a manifest."""
    return case(close(content, block_of(pki(), content)))


def append(key: int, *items: Any) -> Callable[[dict[Any, Any]], None]:
    """Append commands to a sequence of a manifest."""

    def change(members: dict[Any, Any]) -> None:
        (members[3][4] if key == 4 else members[key]).extend(items)

    return change


def named(name: bytes) -> Component:
    """Return a component of any name."""
    return component()._replace(identifier=(b"file", name))


def payload_renamed() -> Case:
    """Give the integrated payload another name."""
    return case(with_members(embedded(), {"#build.bin": None, "#other.bin": PAYLOAD}))


VECTORS = (
    Vector(
        "good-embedded", "the payload is inside the envelope", accepted(), lambda: case(embedded())
    ),
    Vector("good-text", "with text for people", accepted(), lambda: case(with_text())),
    Vector(
        "good-severed",
        "the text for people was cut off",
        accepted(),
        lambda: case(with_text(severed=True)),
    ),
    Vector(
        "good-notice",
        "the text has a class, advisories and an end of support",
        accepted(),
        lambda: with_notice(
            known="security", advisories="CVE-2026-1234 ACME:7", until="2031-12-31"
        ),
    ),
    Vector(
        "notice-class",
        "the class is none that there is",
        refused(7, "malformed.profile"),
        lambda: with_notice(known="urgent"),
    ),
    Vector(
        "notice-advisory-of-feature",
        "a feature release names an advisory",
        refused(7, "malformed.profile"),
        lambda: with_notice(known="feature", advisories="CVE-2026-1234"),
    ),
    Vector(
        "notice-date",
        "support ends on a day that no calendar has",
        refused(7, "malformed.profile"),
        lambda: with_notice(until="2031-02-29"),
    ),
    Vector(
        "notice-unknown",
        "the text has a private key that the profile does not use",
        refused(7, "malformed.profile"),
        lambda: with_notice(other="x"),
    ),
    Vector("good-attachment", "the text names a document", accepted(), attached()),
    Vector(
        "good-attachment-inside",
        "the text names a document, which is inside the envelope",
        accepted(),
        attached(carried=b'{"spdxVersion": "SPDX-2.3"}'),
    ),
    Vector(
        "attachment-changed",
        "the document inside the envelope is not the one that was signed",
        refused(7, "tampered.attachment"),
        attached(carried=b'{"spdxVersion": "SPDX-2.2"}'),
    ),
    Vector(
        "attachment-name",
        "an attachment is called as the payload is",
        refused(7, "malformed.profile"),
        attached(name="BUILD.bin"),
    ),
    Vector(
        "attachment-type",
        "an attachment has a media type with capital letters",
        refused(7, "malformed.profile"),
        attached(media_type="Application/json"),
    ),
    Vector(
        "attachment-size",
        "an attachment is larger than the limit",
        refused(7, "malformed.profile"),
        attached(size=16 * 1024 * 1024 + 1),
    ),
    Vector(
        "member-16",
        "the envelope has SUIT's member 16, which is outside the profile",
        refused(7, "malformed.profile"),
        member(good, 16, b""),
    ),
    Vector(
        "member-20",
        "the install sequence is severed, which is outside the profile",
        refused(7, "malformed.profile"),
        member(good, 20, b""),
    ),
    Vector(
        "manifest-junk",
        "signed bytes that are no manifest",
        refused(7, "malformed.cbor"),
        lambda: signed(b"\xff"),
    ),
    Vector(
        "manifest-version",
        "manifest version 2",
        refused(7, "malformed.profile"),
        manifest(lambda m: m.update({1: 2})),
    ),
    Vector(
        "manifest-load",
        "the manifest has a load sequence",
        refused(7, "malformed.profile"),
        manifest(lambda m: m.update({8: b"\x80"})),
    ),
    Vector(
        "manifest-command",
        "the manifest has an unknown command",
        refused(7, "malformed.profile"),
        manifest(append(20, 23, 15)),
    ),
    Vector(
        "manifest-expiry-in-shared",
        "use-before where it would stop booting",
        refused(7, "malformed.profile"),
        manifest(append(4, 20, {4: 2**33}, 4, 15)),
    ),
    Vector(
        "manifest-reporting",
        "a command has another reporting policy",
        refused(7, "malformed.profile"),
        manifest(lambda m: m.update({7: [3, 0]})),
    ),
    Vector(
        "trust-update",
        "a trust update as a release",
        refused(7, "unsuitable.trust-update"),
        manifest(lambda m: m[3].update({2: ((b"trust",),)})),
    ),
    Vector(
        "channel",
        "a channel as a release",
        refused(7, "unsuitable.channel"),
        manifest(lambda m: m[3].update({2: ((b"channel",),)})),
    ),
    Vector(
        "permit",
        "a permit as a release",
        refused(7, "unsuitable.permit"),
        manifest(lambda m: m[3].update({2: ((b"permit",),)})),
    ),
    Vector(
        "name-dotdot",
        "a component's name is ..",
        refused(7, "malformed.component"),
        parts(named(b"..")),
    ),
    Vector(
        "name-path",
        "a component's name has a path in it",
        refused(7, "malformed.component"),
        parts(named(b"../../etc/shadow")),
    ),
    Vector(
        "name-absolute",
        "a component's name is an absolute path",
        refused(7, "malformed.component"),
        parts(named(b"/etc/shadow")),
    ),
    Vector(
        "name-reserved",
        "a component's name is one that Windows reserves",
        refused(7, "malformed.component"),
        parts(named(b"nul.txt")),
    ),
    Vector(
        "name-trailing-dot",
        "a component's name ends with a dot",
        refused(7, "malformed.component"),
        parts(named(b"build.")),
    ),
    Vector(
        "name-case",
        "two components' names differ in case only",
        refused(7, "malformed.component"),
        parts(component(file="a"), component(file="A", uri="b")),
    ),
    Vector(
        "uri-path",
        "a component's uri has a path in it",
        refused(7, "malformed.component"),
        parts(component(uri="../x")),
    ),
    Vector(
        "blocks-reserved",
        "a block list in the place of a component",
        refused(7, "malformed.profile"),
        parts(component(), component(file="x")._replace(identifier=(b"blocks", b"\0"))),
    ),
    Vector(
        "payload-unreferenced",
        "an integrated payload that no component names",
        refused(7, "malformed.unreferenced-payload"),
        member(good, "#extra", b"x"),
    ),
    Vector(
        "payload-renamed",
        "the integrated payload renamed",
        refused(7, "malformed.unreferenced-payload"),
        payload_renamed,
    ),
    Vector(
        "payload-stripped",
        "the integrated payload gone",
        refused(7, "tampered.payload-absent"),
        member(embedded, "#build.bin", None),
    ),
    Vector(
        "sequence-largest",
        "the largest sequence number",
        accepted(),
        lambda: case(sign_with(pki(), make_manifest(sequence_number=2**53 - 1))),
    ),
    Vector(
        "sequence-beyond",
        "a sequence number that JSON does not hold exactly",
        refused(7, "malformed.profile"),
        lambda: case(sign_with(pki(), make_manifest(sequence_number=2**53))),
    ),
    Vector(
        "text-longest",
        "the longest product and version",
        accepted(),
        with_words(product="p" * 253, version="v" * 256),
    ),
    Vector(
        "text-version-long",
        "a version of 257 bytes, some in one character",
        refused(7, "malformed.size"),
        with_words(version="\u20ac" + "v" * 254),
    ),
    Vector(
        "text-product-long",
        "a product of 254 bytes",
        refused(7, "malformed.size"),
        with_words(product="p" * 254),
    ),
    Vector(
        "text-vendor-long",
        "a vendor of 254 bytes",
        refused(7, "malformed.size"),
        with_words(vendor=f"{'v' * 246}.example"),
    ),
    Vector(
        "text-altered",
        "the text is not the one that was signed",
        refused(7, "tampered.text"),
        member(with_text, 23, b"\xa0"),
    ),
    Vector(
        "text-added",
        "text where none was signed",
        refused(7, "tampered.text"),
        member(good, 23, b"\xa0"),
    ),
)
