"""Statements: the kind of an envelope, of whatever quality."""

from typing import Any

import pytest

from channel_kit import channel_pki, forged
from fwsign.format import cbor, suit
from fwsign.format.statement import kind_in
from support import make_pki, sign_with

PKI = channel_pki()
TAG = 107


def envelope(manifest: Any) -> bytes:
    return cbor.encode(cbor.Tag(TAG, {2: cbor.encode((b"",)), 3: manifest}))


def of(components: Any) -> bytes:
    return envelope(cbor.encode({3: cbor.encode({2: components})}))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (forged(PKI), "channel"),
        (sign_with(make_pki()), "release"),
        (of(((b"trust",),)), "trust-update"),
        (of(((b"permit",),)), "permit"),
        (of(((b"channel",), (b"channel",))), "release"),
        (of(((b"channel", b"x"),)), "release"),
        (of("channel"), "release"),
        (b"", None),
        (b"text", None),
        (envelope(b"\xff"), None),
        (envelope(cbor.encode(3)), None),
        (envelope(cbor.encode({3: 3})), None),
        (envelope(cbor.encode({3: cbor.encode(3)})), None),
        (envelope(cbor.encode({3: cbor.encode({})})), None),
    ],
)
def test_kinds(data: bytes, kind: str | None) -> None:
    assert kind_in(data) == kind


def test_kinds_have_words() -> None:
    assert suit.words_of("release") == "a release"
    assert {suit.words_of(kind) for kind in suit.STATEMENTS} == {
        *("a trust update", "a channel", "a permit")
    }
