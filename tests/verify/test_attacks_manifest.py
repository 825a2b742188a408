"""Attacks on the content of a manifest that was signed: names, places, commands."""

from collections.abc import Callable
from typing import Any

import pytest

from fwsign.errors import Malformed
from fwsign.format import cbor, suit
from fwsign.format.component import Component
from hostile import altered_manifest, block_of, encoded, judge, refused_at
from support import Pki, component, make_manifest, make_pki, sign_with, verify


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


# --- names and places -----------------------------------------------------------------------

BAD_NAMES = [
    *("", ".", "..", "a/b", "../a", "/etc/passwd", "a\\b", "C:", "C:\\a", "a:b", "-rf", ".hidden"),
    *("CON", "con", "NUL", "nul.txt", "COM1", "lpt9.tar.gz", "aux.", "a.", "a b", "a\0", "a\n"),
    *("a*", "a?", "~", "$HOME", "%00", "é", "\u202e", "\N{KELVIN SIGN}", "x" * 101),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_dangerous_name_is_refused(pki: Pki, name: str) -> None:
    place = component()._replace(identifier=(b"file", name.encode()))
    with refused_at(7, "malformed.component"):
        verify(sign_with(pki, make_manifest(place)), [pki.root])


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("prefix", ["", "#"])
def test_dangerous_uri_is_refused(pki: Pki, name: str, prefix: str) -> None:
    with refused_at(7, "malformed.component"):
        verify(sign_with(pki, make_manifest(component()._replace(uri=prefix + name))), [pki.root])


@pytest.mark.parametrize(
    "uri",
    ["https://x/\n", "https://", "HTTPS://x", "//x", "https:x", "https://x/\u00e9", "x" * 2049],
)
def test_odd_url_is_refused(pki: Pki, uri: str) -> None:
    with refused_at(7, "malformed.component"):
        verify(sign_with(pki, make_manifest(component()._replace(uri=uri))), [pki.root])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (component(file="a"), component(file="A", uri="b")),
        (component(file="a", uri="x"), component(file="b", uri="X")),
        (component(file="a", uri="x"), component(file="b", uri="#x")),
        (component(file="a"), component(file="a", uri="b")),
    ],
)
def test_colliding_names_are_refused(pki: Pki, first: Component, second: Component) -> None:
    with refused_at(7, "malformed.component", "twice", "differ in more than case"):
        verify(sign_with(pki, make_manifest(first, second)), [pki.root])


@pytest.mark.parametrize(
    "identifier",
    [
        (),
        (b"file",),
        (b"file", b"a", b"b"),
        (b"File", b"a"),
        (b"flash", b"esp32c3"),
        (b"flash", b"esp32c3", bytes(3)),
        (b"flash", b"esp32c3", bytes(5)),
        (b"flash", b"ESP32", bytes(4)),
        (b"flash", b"a/b", bytes(4)),
        (b"blocks", b"\0"),
        (b"trust", b"x"),
        (b"\xff\xfe",),
    ],
)
def test_component_of_another_kind_is_refused(pki: Pki, identifier: tuple[bytes, ...]) -> None:
    place = component()._replace(identifier=identifier)
    with refused_at(7, "malformed.component"):
        verify(sign_with(pki, make_manifest(place)), [pki.root])


# --- manifests ------------------------------------------------------------------------------


def put(key: int, value: Any) -> Callable[[dict[Any, Any]], None]:
    return lambda members: members.update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        put(1, 0),
        put(1, True),
        put(2, -1),
        put(2, 2**53),
        put(2, True),
        put(2, None),
        put(4, "https://example"),
        put(6, cbor.encode(())),
        put(6, cbor.encode((1, True))),
        put(6, cbor.encode(cbor.Tag(18, 5))),
        put(6, (1, 2)),
        put(7, []),
        put(7, [3, 15, 3, 15]),
        put(8, b"\x80"),
        put(9, b"\x80"),
        put(14, b"\x80"),
        put(20, []),
        put(20, [32, b"\x80"]),
        put(20, [15, (b"\x80",)]),
        put(23, (-16, bytes(31))),
        put(24, b"\x80"),
        put(-300, 0),
        lambda members: members[3].update({2: ()}),
        lambda members: members[3].update({2: ((b"file", b"a"),) * 257}),
        lambda members: members[3].update({1: {}}),
        lambda members: members[3][4].extend([20, {4: 2**33}, 4, 15]),
        lambda members: members[3][4].extend([14, 15]),
        lambda members: members[3][4].clear(),
        lambda members: members[3][4][1].pop(14),
        lambda members: members[3][4][1].update({14: 2**48 + 1}),
        lambda members: members[3][4][1].update({5: 0}),
        lambda members: members[3][4][1].update({1: bytes(15)}),
        lambda members: members[3][4].__setitem__(3, 0),
        lambda members: members[20].extend([23, 15]),
        lambda members: members[20].insert(0, 12),
        lambda members: members[20][1].update({22: 1}),
        lambda members: members[20][1].pop(21),
    ],
)
def test_manifest_that_matches_no_template_is_refused(
    pki: Pki, change: Callable[[dict[Any, Any]], None]
) -> None:
    content = altered_manifest(encoded(), change)
    with pytest.raises(Malformed) as caught:
        judge(pki, content, block_of(pki, content))
    assert caught.value.step == 7
    assert caught.value.code in ("malformed.profile", "malformed.component")


def test_several_components_with_the_template_for_one_are_refused(pki: Pki) -> None:
    both = make_manifest(component(file="a"), component(file="b"))
    content = altered_manifest(suit.encode_manifest(both), lambda members: members[7].pop())
    with refused_at(7, "malformed.profile"):
        judge(pki, content, block_of(pki, content))
