"""Our envelopes against docs/profile.cddl, by a CDDL validator that others wrote."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from blocks_kit import list_of, listed, listed_manifest
from channel_kit import channel_pki, forged, make_channel
from fwsign.format import cbor, suit
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.attachments import Attachment
from fwsign.format.cbor import Tag
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import Envelope, encode_envelope
from fwsign.format.kinds import flash_identifier
from fwsign.format.notice import Notice
from fwsign.format.payload import digest
from fwsign.format.rollout import Rollout
from fwsign.format.text import Text, encode_text
from fwsign.format.version import version_numbers
from fwsign.signing.encrypting import EncryptedPayload
from secret_kit import GROUP, OTHER, described, encrypted
from support import (
    PRODUCT,
    VENDOR,
    Pki,
    component,
    make_block,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    new_key,
    sign_with,
    signed_digest,
)

CDDL = Path(__file__).parents[2] / "docs" / "profile.cddl"
VALIDATOR: Any = import_module("cddl_verifier").Validator(CDDL)  # it has no type hints
PKI = make_pki()
TWO = (component(), component(b"other", "other.bin"))
EMBEDDED = component(uri="#build.bin")
KINDS = ("p256", "p384", "ed25519", "ml-dsa-65", "ml-dsa-87", "rsa3072")


def is_valid(envelope: bytes) -> bool:
    return bool(VALIDATOR.validate(envelope, root_type="envelope"))


def with_text(*components: Component, **more: Any) -> tuple[suit.Manifest, bytes]:
    text = encode_text(Text(VENDOR, PRODUCT, **more), components)
    signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
    version = version_numbers(more.get("version") or "")
    return make_manifest(*components, text_digest=signed, version=version), text


def noticed(notice: Notice) -> bytes:
    manifest, text = with_text(component(), notice=notice)
    return sign_with(PKI, manifest, text=text)


SBOM = Attachment("a.json", "application/spdx+json", Digest(-16, bytes(32)), 9)


def attached(*attachments: Attachment) -> bytes:
    manifest, text = with_text(component(), attachments=attachments)
    return sign_with(PKI, manifest, text=text)


def secret(payloads: Mapping[str, EncryptedPayload], **more: Any) -> bytes:
    parts, lists, inside = described(payloads)
    manifest = make_manifest(*parts, block_lists=lists, **more)
    return sign_with(PKI, manifest, integrated=inside)


MANIFEST, TEXT = with_text(*TWO, version="2.4.1-rc.1", description="Gateway")
FLASH = Component(flash_identifier("esp32c3", 0x10000), Digest(-43, bytes(48)), 4096, "app.bin")
WHOLE = sign_with(PKI, MANIFEST._replace(use_before=1893456000), text=TEXT)
ENVELOPES = {
    "single": sign_with(PKI),
    "several": sign_with(PKI, make_manifest(*TWO)),
    "as many as allowed": sign_with(
        PKI, make_manifest(*(component(file=f"f{index}") for index in range(suit.MAX_COMPONENTS)))
    ),
    "flash": sign_with(PKI, make_manifest(FLASH)),
    "embedded": sign_with(PKI, make_manifest(EMBEDDED), integrated={"#build.bin": b"firmware"}),
    "url": sign_with(PKI, make_manifest(component(uri="https://acme.example/build.bin"))),
    "text": sign_with(PKI, with_text(component())[0], text=with_text(component())[1]),
    "text cut off": sign_with(PKI, MANIFEST),
    "feature": noticed(Notice("feature")),
    "security": noticed(Notice("security", ("CVE-2026-1", "A"), "2031-12-31")),
    "attachments": attached(SBOM),
    "support": noticed(Notice(None, (), "2031-12-31")),
    "expiry": sign_with(PKI, make_manifest(use_before=1893456000)),
    "version": sign_with(PKI, make_manifest(version=(1, 2, -3))),
    "everything": WHOLE,
    "no CRLs": sign_with(PKI, crls=()),
    "no intermediate": make_envelope(make_manifest(), [(make_leaf(PKI.root), [], [])]),
    "two signers": make_envelope(make_manifest(), [(PKI.leaf, [PKI.issuing], PKI.crls)] * 2),
    "block list": listed(PKI),
    "block lists": listed(
        PKI,
        *[list_of()] * 128,
        manifest=listed_manifest(
            *[list_of()] * 128, parts=tuple(component(file=f"f{index}") for index in range(128))
        ),
    ),
    "one block list of two, expiry": listed(
        PKI, manifest=listed_manifest(parts=TWO)._replace(use_before=1893456000)
    ),
    "unsigned": make_envelope(make_manifest(), []),
    "encrypted": secret({"a": encrypted()[0]}),
    "encrypted, one block, expiry": secret({"a": encrypted(b"x")[0]}, use_before=1893456000),
    "several encrypted": secret({"a": encrypted()[0], "b": encrypted(b"x")[0]}),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_our_envelopes_are_what_the_cddl_says(name: str) -> None:
    result = VALIDATOR.validate(ENVELOPES[name], root_type="envelope")
    assert result.errors == ()
    assert result.valid


@pytest.mark.parametrize("key", [GROUP, OTHER], ids=["P-256", "P-384"])
def test_wrapped_keys_are_what_the_cddl_says(key: Any) -> None:
    one, _ = encrypted(b"x", [key])
    assert VALIDATOR.validate(one.wrapped, root_type="wrapped-keys").valid
    assert not VALIDATOR.validate(one.wrapped, root_type="encryption").valid


@pytest.mark.parametrize("alg", KINDS)
def test_envelopes_of_every_algorithm_are_what_the_cddl_says(alg: str) -> None:
    pki: Pki = make_pki(alg)
    assert is_valid(sign_with(pki))


@pytest.mark.parametrize("alg", KINDS)
def test_envelopes_of_bare_keys_are_what_the_cddl_says(alg: str) -> None:
    manifest = suit.encode_manifest(make_manifest())
    payload = signed_digest(manifest)
    blocks = (make_block(payload, new_key(alg)),)
    assert is_valid(encode_envelope(Envelope(payload, blocks, manifest, None, {})))


def test_every_algorithm_is_in_the_cddl() -> None:
    (line,) = [one for one in CDDL.read_text("utf-8").splitlines() if one.startswith("algorithm =")]
    assert {int(one) for one in line.split("=")[1].split("/")} == set(ALGORITHMS)


def replaced(value: Any, path: Sequence[Any], new: Any) -> Any:
    """Put a value at a place in an encoded structure; byte strings on the way are decoded."""
    if not path:
        return new(value) if callable(new) else new
    step, *rest = path
    match value:
        case Tag(number, content):
            return Tag(number, replaced(content, path, new))
        case bytes():
            return cbor.encode(replaced(cbor.decode(value), path, new))
        case dict():
            return {**value, step: replaced(value.get(step), rest, new)}
        case tuple():
            return (*value[:step], replaced(value[step], rest, new), *value[step + 1 :])
    raise TypeError(f"nothing at {path}")


def without(key: Any) -> Any:
    return lambda members: {k: v for k, v in members.items() if k != key}


BLOCK = (2, 1)


def inner(edit: Any) -> Any:
    """Edit what a byte string holds."""
    return lambda data: cbor.encode(edit(cbor.decode(data)))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ((9,), b""),
        ((20,), b""),
        (("name",), b""),
        (("#../a",), b""),
        ((3,), inner(without(7))),
        ((2, 0), cbor.encode((-18, bytes(32)))),
        ((2, 0), cbor.encode((-16, bytes(31)))),
        ((2,), inner(lambda wrapper: (*wrapper, *wrapper[1:] * 8))),
        ((*BLOCK, 2), b"payload"),
        ((*BLOCK, 3), b""),
        ((*BLOCK, 0, 1), -35),
        ((*BLOCK, 0, 3), "text/plain"),
        ((*BLOCK, 0, 34), (-16, bytes(20))),
        ((*BLOCK, 0), inner(without(34))),
        ((*BLOCK, 1, 4), b"kid"),
        ((*BLOCK, 1, 33), (b"one",)),
        ((*BLOCK, 1, 33), (b"",) * 7),
        ((*BLOCK, 1, -1719104356), ()),
        ((*BLOCK, 1), without(33)),
        ((3, 1), 2),
        ((3, 2), -1),
        ((3, 2), 2**53),
        ((3, 4), "https://acme.example"),
        ((3, 6), cbor.encode(())),
        ((3, 6), cbor.encode(("1",))),
        ((3, 7), cbor.encode((3, 15))),
        ((3, 3, 1), cbor.encode({})),
        ((3, 3, 2), ()),
        ((3, 3, 2, 0, 0), b"trust"),
        ((3, 3, 2, 0), ("file", b"a")),
        ((3, 3, 4, 1), 0),
        ((3, 3, 4, 3, 1), bytes(15)),
        ((3, 3, 4, 4), 24),
        ((3, 3, 4, 5), 14),
        ((3, 3, 4, 11, 14), -1),
        ((3, 3, 4, 11, 3), cbor.encode((-16, bytes(31)))),
        ((3, 3, 4, 11, 4), 0),
        ((3, 20, 3, 4), -1),
        ((3, 20, 9, 22), 0),
        ((3, 20, 10), 22),
        ((3, 20), inner(lambda commands: (*commands, 23, 15))),
        ((3, 23), (-16, bytes(31))),
        ((23, "en", 1), b"summary"),
        ((23, "en", 2), "update"),
        ((23, "de"), {}),
        ((23, "en", -256), "urgent"),
        ((23, "en", -257), "CVE-2026-1"),
        ((23, "en", -258), "soon"),
        ((23, "en", -259), "more"),
        ((23, "en", (b"file", b"build.bin"), 3), 1),
        ((23, "en", (b"file", b"build.bin"), 1), "Acme"),
    ],
)
def test_mutated_envelopes_are_not_what_the_cddl_says(path: Sequence[Any], new: Any) -> None:
    changed = cbor.encode(replaced(cbor.decode(WHOLE), path, new))
    assert changed != WHOLE
    assert not is_valid(changed)


LISTED = listed(PKI)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ((3, 3, 2), ((b"blocks", b"\0"), (b"file", b"build.bin"))),
        ((3, 3, 2), ((b"blocks", b"\0"),)),
        ((3, 3, 2, 1, 1), b"\0\0"),
        ((3, 3, 2, 1, 0), b"block"),
        ((3, 7), cbor.encode((12, 0, 3, 15, 12))),
        ((3, 20, 3, 22), 0),
    ],
)
def test_mutated_block_lists_are_not_what_the_cddl_says(path: Sequence[Any], new: Any) -> None:
    assert is_valid(LISTED)
    changed = cbor.encode(replaced(cbor.decode(LISTED), path, new))
    assert changed != LISTED
    assert not is_valid(changed)


def test_our_block_lists_are_what_the_cddl_says() -> None:
    assert VALIDATOR.validate(list_of(), root_type="block-list").valid
    assert not VALIDATOR.validate(list_of(size=5000), root_type="block-list").valid


@pytest.mark.parametrize("tag", [18, 0])
def test_other_tags_are_not_what_the_cddl_says(tag: int) -> None:
    members = cbor.decode(WHOLE).value
    assert is_valid(cbor.encode(Tag(107, members)))
    assert not is_valid(cbor.encode(Tag(tag, members) if tag else members))


# --- channels -------------------------------------------------------------------------------

CHANNELS = channel_pki()
ROLLOUT = Rollout(bytes(16), 1000, ("lab", "pilot"), 1, 2)
MOST = ChannelRelease(bytes(64), 3, ROLLOUT)


def is_channel(data: bytes) -> bool:
    return bool(VALIDATOR.validate(data, root_type="channel"))


@pytest.mark.parametrize(
    "channel",
    [
        make_channel(),
        make_channel(hold="wait"),
        make_channel(MOST),
        make_channel()._replace(releases=()),
    ],
    ids=["usual", "hold", "most", "none"],
)
def test_our_channels_are_what_the_cddl_says(channel: Channel) -> None:
    data = forged(CHANNELS, channel)
    result = VALIDATOR.validate(data, root_type="channel")
    assert result.errors == ()
    assert result.valid
    assert not is_valid(data)
    assert not is_channel(WHOLE)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("#channel", 3), "Stable"),
        (("#channel", 4), ""),
        (("#channel", 6), 1),
        (("#channel", 5, 0, 0), bytes(31)),
        (("#channel", 5, 0, 2, 1), bytes(15)),
        (("#channel", 5, 0, 2, 2), 10_001),
        (("#channel", 5, 0, 2, 3), ()),
        ((3, 3, 2, 0, 0), b"trust"),
        ((3, 20), cbor.encode((20, {21: "#channel"}, 21, 15, 3, 15))),
        ((9,), b""),
        (("#more",), b""),
    ],
    ids=str,
)
def test_what_we_refuse_of_channels_the_cddl_refuses_too(path: Sequence[Any], new: Any) -> None:
    data = forged(CHANNELS, make_channel(MOST))
    assert is_channel(data)
    assert not is_channel(cbor.encode(replaced(cbor.decode(data), path, new)))
