"""Trust updates: lists that follow each other, and every way to lead a device astray with one."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import CODES, FwsignError
from fwsign.format import cbor, identifiers, suit
from fwsign.format.cbor import Tag
from fwsign.format.component import Component, Digest
from fwsign.format.cose import Block, encode_block, protected_header, sig_structure
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, Envelope, decode_envelope, encode_envelope
from fwsign.format.payload import digest
from fwsign.keys.file import FileSigner
from fwsign.signing.trust_update import make_update
from fwsign.trust.envelope import (
    MAX_UPDATE_SIZE,
    decode_update,
    encode_update,
    is_update,
    split_updates,
)
from fwsign.trust.lists import (
    MAX_ANCHORS,
    MAX_VENDORS,
    Floors,
    TrustAnchor,
    TrustState,
    Update,
    check_update,
    decode_content,
    decode_trust,
    encode_content,
    encode_trust,
)
from fwsign.trust.update import MAX_UPDATES, apply_chain, signers, verify_update
from fwsign.x509.anchor import Anchor
from mutation import Dice
from support import (
    PRODUCT,
    VENDOR,
    Entity,
    der,
    make_block,
    make_ca,
    make_leaf,
    make_pki,
    new_key,
    refused,
    rsa_key,
    sign_with,
    signed_bytes,
    verify,
)

PKI = make_pki()
OLD, NEW, NEXT, STRANGER = (make_ca(name) for name in ("Old", "New", "Next", "Stranger"))
KEYS = [new_key() for _ in range(9)]


def bare(key: Any, *roles: Any, vendors: Sequence[str] = ()) -> TrustAnchor:
    return TrustAnchor(Anchor.from_public_key(der(key.public_key()), vendors), roles or ("trust",))


def root(entity: Entity, *roles: Any, vendors: Sequence[str] = ()) -> TrustAnchor:
    anchor = Anchor.from_certificate(entity.der, vendors)
    return TrustAnchor(anchor, roles or ("release", "trust"))


def state(number: int, *anchors: TrustAnchor, **more: Any) -> TrustState:
    start = TrustState(VENDOR, PRODUCT, number, 0, 1, anchors or (root(OLD),))
    return start._replace(**more)


def update(number: int, *anchors: TrustAnchor, floors: Floors | None = None, **more: Any) -> Update:
    return Update(state(number, *anchors, **more), floors or Floors())


def sign(wanted: Update, *keys: Any, blocks: Sequence[bytes] = ()) -> bytes:
    """Sign an update, whatever its list says."""
    signed = signed_bytes(wanted)
    return encode_update(wanted, [*(make_block(signed, key) for key in keys), *blocks])


ENROLLED = state(0)
FIRST = update(1, root(NEW))
SECOND = update(2, root(NEXT))
ONE = sign(FIRST, OLD.key, NEW.key)
TWO = sign(SECOND, NEW.key, NEXT.key)


# --- good ones ------------------------------------------------------------------------------


def test_an_update_signed_by_old_and_new_is_taken() -> None:
    assert verify_update(ENROLLED, ONE) == FIRST
    assert verify_update(FIRST.trust, TWO) == SECOND


def test_a_key_in_both_lists_signs_once() -> None:
    both = update(1, root(OLD), root(NEW))
    assert verify_update(ENROLLED, sign(both, OLD.key)) == both


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
def test_trust_keys_are_of_any_kind_that_signs(kind: str) -> None:
    key = new_key(kind)
    wanted = update(1, bare(key, "release", "trust"))
    data = make_update(wanted, [FileSigner(OLD.key), FileSigner(key)])
    assert verify_update(ENROLLED, data) == wanted


def test_everything_that_a_list_can_say_survives() -> None:
    wanted = update(
        1,
        root(NEW, "release", "trust", "tsa", vendors=(VENDOR, "other.example")),
        bare(KEYS[0]),
        bare(KEYS[1], "tsa", vendors=("tsa.example",)),
        threshold=2,
        epoch=7,
        floors=Floors(5, 1793577600),
    )
    data = sign(wanted, OLD.key, NEW.key, KEYS[0])
    assert verify_update(ENROLLED, data) == wanted
    assert decode_update(data) == wanted
    assert decode_trust(encode_trust(wanted.trust)) == wanted.trust
    assert [one.spki for one in wanted.trust.anchors_for("tsa")] == [
        wanted.trust.anchors[0].anchor.spki,
        wanted.trust.anchors[2].anchor.spki,
    ]


def test_a_kid_says_nothing() -> None:
    protected = cbor.encode({1: -9, 4: b"anyone"})
    signed = signed_bytes(FIRST)
    blocks = [make_block(signed, key, protected=protected) for key in (OLD.key, NEW.key)]
    assert verify_update(ENROLLED, sign(FIRST, blocks=blocks)) == FIRST


def test_blocks_of_nobody_are_not_counted() -> None:
    unknown = Block(cbor.encode({1: -99}), -99, b"signature")
    junk = [encode_block(unknown), make_block(signed_bytes(FIRST), STRANGER.key)]
    assert verify_update(ENROLLED, sign(FIRST, OLD.key, NEW.key, blocks=junk)) == FIRST


def test_dates_and_crls_are_not_consulted() -> None:
    expired = make_ca("Expired", days=(-20, -10))
    data = sign(FIRST, expired.key, NEW.key)
    assert verify_update(state(0, root(expired)), data) == FIRST


# --- chains ---------------------------------------------------------------------------------


def test_a_device_two_generations_behind_catches_up_from_one_file() -> None:
    data = split_updates(ONE + TWO)
    assert data == (ONE, TWO)
    assert apply_chain(ENROLLED, data) == SECOND
    assert apply_chain(FIRST.trust, data) == SECOND
    assert apply_chain(SECOND.trust, data) == SECOND


def test_a_replayed_older_update_is_refused() -> None:
    words = ("this device has list 2 already",)
    with refused("unsuitable.rollback", *words):
        apply_chain(SECOND.trust, [ONE])
    for trust in (FIRST.trust, SECOND.trust):
        with refused("unsuitable.rollback"):
            verify_update(trust, ONE)


def test_a_skipped_number_is_refused() -> None:
    with refused("unsuitable.trust-gap", "trust update 2 does not follow list 0"):
        apply_chain(ENROLLED, [TWO])


def test_updates_in_the_wrong_order_are_refused() -> None:
    with refused("unsuitable.trust-gap"):
        apply_chain(ENROLLED, [TWO, ONE])


def test_of_two_lists_with_one_number_the_first_counts() -> None:
    fork = update(1, root(NEW), bare(KEYS[0], "release"))
    other = sign(fork, OLD.key, NEW.key)
    assert verify_update(ENROLLED, other) == fork
    with refused("unsuitable.conflict", "another list 1"):
        apply_chain(FIRST.trust, [other])
    with refused("unsuitable.conflict"):
        apply_chain(ENROLLED, [ONE, other])


def test_a_fork_is_healed_by_a_list_that_both_sides_sign() -> None:
    left, right = (update(1, root(one)) for one in (NEW, NEXT))
    healed = sign(update(2, root(STRANGER)), NEW.key, NEXT.key, STRANGER.key)
    for fork in (left, right):
        assert verify_update(fork.trust, healed).trust.number == 2
    with refused("untrusted.signers"):
        verify_update(right.trust, sign(update(2, root(STRANGER)), NEW.key, STRANGER.key))


def test_the_same_number_from_strangers_is_not_trusted() -> None:
    with refused("untrusted.signers"):
        apply_chain(FIRST.trust, [sign(FIRST, STRANGER.key)])


def test_no_update_at_all_is_refused() -> None:
    with refused("unsuitable.rollback"):
        apply_chain(ENROLLED, [])
    with refused("malformed.cbor"):
        split_updates(b"")


def test_a_chain_has_a_limit() -> None:
    with refused("malformed.size", str(MAX_UPDATES)):
        apply_chain(ENROLLED, [ONE] * (MAX_UPDATES + 1))
    with refused("malformed.size"):
        split_updates(bytes(MAX_ENVELOPE_SIZE + 1))
    with refused("malformed.cbor", "items in all"):  # and not 32 million bytes objects
        split_updates(bytes(MAX_ENVELOPE_SIZE))
    with refused("malformed.size"):
        decode_update(bytes(MAX_UPDATE_SIZE + 1))


def test_one_wrong_update_stops_the_chain() -> None:
    with refused("untrusted.signers"):
        apply_chain(ENROLLED, [ONE, sign(SECOND, NEXT.key)])


# --- who signed -----------------------------------------------------------------------------


def test_an_update_signed_by_too_few_is_refused() -> None:
    strict = state(0, root(OLD), bare(KEYS[0]), bare(KEYS[1]), threshold=2)
    with refused("untrusted.signers", "needs 2 of the 3 trust keys of list 0, found 1"):
        verify_update(strict, ONE)
    assert verify_update(strict, sign(FIRST, OLD.key, NEW.key, KEYS[1])) == FIRST


def test_an_update_that_its_own_list_did_not_sign_is_refused() -> None:
    with refused("untrusted.signers", "needs 1 of the 1 trust keys of its own list, found 0"):
        verify_update(ENROLLED, sign(FIRST, OLD.key))
    many = update(1, root(NEW), bare(KEYS[0]), threshold=2)
    with refused("untrusted.signers", "its own list, found 1"):
        verify_update(ENROLLED, sign(many, OLD.key, NEW.key))


def test_an_update_signed_by_retired_anchors_is_refused() -> None:
    with refused("untrusted.signers", "list 1, found 0"):
        verify_update(FIRST.trust, sign(SECOND, OLD.key, NEXT.key))


def test_a_release_key_signing_a_trust_update_is_refused() -> None:
    pinned = state(0, root(OLD), bare(KEYS[0], "release"))
    with refused("untrusted.signers", "1 of the 1 trust keys of list 0, found 0"):
        verify_update(pinned, sign(FIRST, KEYS[0], NEW.key))
    leaf = make_leaf(OLD)
    with refused("untrusted.signers"):
        verify_update(ENROLLED, sign(FIRST, leaf.key, NEW.key))


def test_a_certificate_below_an_anchor_signs_no_trust_update() -> None:
    leaf = make_leaf(OLD)
    block = make_block(signed_bytes(FIRST), leaf.key, [leaf.der])
    with refused("malformed.header", "without certificates"):
        verify_update(ENROLLED, sign(FIRST, OLD.key, NEW.key, blocks=[block]))


def test_a_time_stamp_in_a_trust_update_is_refused() -> None:
    block = make_block(signed_bytes(FIRST), OLD.key, token=b"token")
    with refused("malformed.header"):
        verify_update(ENROLLED, sign(FIRST, NEW.key, blocks=[block]))


def test_an_anchor_for_releases_alone_signs_no_trust_update() -> None:
    for role in ("release", "tsa"):
        with refused("untrusted.signers", "0 trust keys of list 0"):
            verify_update(state(0, root(OLD, role)), ONE)


def test_the_same_key_twice_counts_once() -> None:
    strict = state(0, root(OLD), bare(KEYS[0]), threshold=2)
    with refused("untrusted.signers", "found 1"):
        verify_update(strict, sign(FIRST, OLD.key, OLD.key, NEW.key))
    doubled = state(0, root(OLD), bare(OLD.key), threshold=2)
    with refused("untrusted.signers", "found 1"):
        verify_update(doubled, ONE)


def test_an_algorithm_of_another_kind_of_key_does_not_count() -> None:
    signature = Block(protected_header(-19), -19, bytes(64))
    with refused("untrusted.signers"):
        verify_update(ENROLLED, sign(FIRST, NEW.key, blocks=[encode_block(signature)]))


def test_a_key_too_small_to_sign_does_not_count() -> None:
    small = rsa_key(2048)
    block = Block(protected_header(-37), -37, bytes(256))
    with refused("untrusted.signers"):
        verify_update(state(0, bare(small)), sign(FIRST, NEW.key, blocks=[encode_block(block)]))


# --- whose ----------------------------------------------------------------------------------


def test_another_vendors_update_is_refused() -> None:
    theirs = sign(update(1, root(NEW), vendor="other.example"), OLD.key, NEW.key)
    with refused("unsuitable.vendor", f'this device is "{VENDOR}"'):
        verify_update(ENROLLED, theirs)


def test_another_products_update_is_refused() -> None:
    theirs = sign(update(1, root(NEW), product="other"), OLD.key, NEW.key)
    with refused("unsuitable.product", f'this device is "{PRODUCT}"'):
        verify_update(ENROLLED, theirs)
    with refused("unsuitable.product"):
        apply_chain(state(1, root(NEW)), [theirs])


def test_a_list_of_another_product_than_its_manifest_is_refused() -> None:
    content = encode_content(update(1, root(NEW), product="other"))
    with refused("malformed.trust", "another product than its manifest"):
        verify_update(ENROLLED, wrapped(content))


# --- lists that lock out --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("no anchor for releases", update(1, root(NEW, "trust"))),
        ("a threshold of 1 of 0 trust keys", update(1, root(NEW, "release"))),
        (
            "no anchor for releases",
            update(1)._replace(trust=ENROLLED._replace(anchors=(), number=1)),
        ),
        ("a threshold of 2 of 1 trust keys", update(1, root(NEW), threshold=2)),
        ("a threshold of 0", update(1, root(NEW), threshold=0)),
        ("at most 4", update(1, root(NEW), *map(bare, KEYS[:5]), threshold=5)),
        ("one key twice", update(1, root(NEW), bare(NEW.key))),
        ("of a kind or size that cannot sign", update(1, root(NEW), bare(rsa_key(2048)))),
        ("of a kind or size that cannot sign", update(1, root(NEW), bare(new_key("p521")))),
        ("numbers begin with 1", update(0, root(NEW))),
    ],
)
def test_a_list_that_empties_its_own_trust_is_refused(words: str, wrong: Update) -> None:
    with refused("malformed.trust", words):
        check_update(wrong)
    with refused("malformed.trust", words):
        make_update(wrong)
    if wrong.trust.number:
        with refused("malformed.trust", words):
            verify_update(ENROLLED, sign(wrong, OLD.key, NEW.key, *KEYS[:5]))


def test_published_example_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from fwsign.trust import lists as trust_list  # to take one key for an example

    spki = root(NEW).anchor.spki
    monkeypatch.setattr(trust_list, "EXAMPLE_SPKI", frozenset({spki}))
    with refused("untrusted.example-key"):
        verify_update(ENROLLED, ONE)


# --- epochs and floors ----------------------------------------------------------------------


def test_only_a_raised_epoch_brings_floors() -> None:
    floors = Floors(sequence=3)
    with refused("unsuitable.epoch", "states floors, but the epoch stays 0"):
        verify_update(ENROLLED, sign(update(1, root(NEW), floors=floors), OLD.key, NEW.key))
    raised = update(1, root(NEW), epoch=1, floors=floors)
    assert verify_update(ENROLLED, sign(raised, OLD.key, NEW.key)) == raised


def test_an_epoch_never_goes_back() -> None:
    with refused("unsuitable.epoch", "takes the epoch from 2 back to 1"):
        verify_update(state(0, epoch=2), sign(update(1, root(NEW), epoch=1), OLD.key, NEW.key))


def test_floors_of_a_chain_add_up() -> None:
    chain = [
        sign(update(1, epoch=1, floors=Floors(9, 100)), OLD.key),
        sign(update(2, epoch=2, floors=Floors(sequence=4)), OLD.key),
        sign(update(3, epoch=2), OLD.key),
    ]
    assert apply_chain(ENROLLED, chain).floors == Floors(4, 100)
    assert apply_chain(state(1, epoch=1), chain).floors == Floors(4, None)
    assert apply_chain(state(2, epoch=2), chain).floors == Floors()


# --- releases are none ----------------------------------------------------------------------


def test_a_release_is_no_trust_update() -> None:
    release = sign_with(PKI)
    with refused("unsuitable.release", "this is a release, not a trust update"):
        verify_update(state(0, root(PKI.root)), release)
    assert not is_update(release)


def test_a_trust_update_is_no_release() -> None:
    block = make_block(signed_bytes(FIRST), PKI.leaf.key, [PKI.leaf.der, PKI.issuing.der])
    with refused("unsuitable.trust-update"):
        verify(sign(FIRST, blocks=[block]), [PKI.root])
    with refused("untrusted.no-anchor"):
        verify(ONE, [OLD, NEW])
    pinned = bare(OLD.key).anchor
    with refused("unsuitable.trust-update"):
        verify(ONE, [pinned])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ONE, True),
        (ONE + TWO, True),
        (b"", False),
        (b"text", False),
        (cbor.encode(Tag(107, {2: cbor.encode((b"",)), 3: b""})), False),
        (cbor.encode(Tag(107, {2: cbor.encode((b"",)), 3: cbor.encode({3: b"\xa0"})})), False),
        (cbor.encode(Tag(107, {2: cbor.encode((b"",)), 3: cbor.encode({3: b"\x01"})})), False),
        (cbor.encode(Tag(107, {2: cbor.encode((b"",)), 3: cbor.encode(3)})), False),
    ],
)
def test_what_a_file_begins_with(data: bytes, expected: bool) -> None:
    assert is_update(data) is expected


# --- bytes ----------------------------------------------------------------------------------


def wrapped(content: bytes, change: Callable[[dict[Any, Any]], Any] = lambda _: None) -> bytes:
    """Sign any list, and any manifest: `change` gets its members."""
    image = Digest(-16, digest(-16, content))
    component = Component((b"trust",), image, len(content), "#trust")
    ids = identifiers.vendor_id(VENDOR), identifiers.class_id(VENDOR, PRODUCT)
    members = dict(cbor.decode(suit.encode_manifest(suit.Manifest(1, *ids, (component,)))))
    change(members)
    manifest = cbor.encode(members)
    head = cbor.byte_string_head(len(manifest))
    signed = cbor.encode((-16, digest(-16, head, manifest)))
    blocks = tuple(make_block(signed, key) for key in (OLD.key, NEW.key))
    return encode_envelope(Envelope(signed, blocks, manifest, None, {"#trust": content}))


CONTENT = encode_content(FIRST)


def common(**more: Any) -> Callable[[dict[Any, Any]], Any]:
    """Replace identifiers or the shared sequence."""

    def change(members: dict[Any, Any]) -> None:
        found = dict(cbor.decode(members[3]))
        found.update({{"ids": 2, "shared": 4}[name]: value for name, value in more.items()})
        members[3] = cbor.encode(found)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update({2: True}),
        lambda m: m.update({2: -1}),
        lambda m: m.update({2: 2**53}),
        lambda m: m.update({2: "1"}),
        lambda m: m.update({3: 1}),
        lambda m: m.update({6: cbor.encode((1,))}),
        lambda m: m.update({7: cbor.encode(())}),
        common(shared=cbor.encode(())),
        common(shared=cbor.encode((20, {1: b"", 2: b"", 3: cbor.encode((-16, bytes(31))), 14: 1}))),
    ],
)
def test_a_manifest_off_the_template_is_refused(change: Callable[[dict[Any, Any]], Any]) -> None:
    assert verify_update(ENROLLED, wrapped(CONTENT)) == FIRST
    with refused("malformed.profile"):
        verify_update(ENROLLED, wrapped(CONTENT, change))


@pytest.mark.parametrize(
    "more",
    [
        {"use_before": 2_000_000_000},
        {"version": (1, 0)},
        {"text_digest": Digest(-16, bytes(32))},
        {"uri": "#list"},
        {"uri": "https://acme.example/trust"},
        {"uri": 1},
        {"uri": None},
    ],
    ids=str,
)
def test_what_only_releases_have_is_refused(more: dict[str, Any]) -> None:
    """Each is a manifest that reads and writes alike; only the template of updates lacks it."""

    def change(members: dict[Any, Any]) -> None:
        manifest = suit.decode_manifest(cbor.encode(members), kind="trust-update")
        component = manifest.components[0]
        own = component._replace(uri=more.get("uri", component.uri))
        fields = {name: value for name, value in more.items() if name != "uri"}
        other = manifest._replace(components=(own,), **fields)
        members.update(cbor.decode(suit.encode_manifest(other)))

    words = "a manifest of a trust update with more or other than its template has"
    with refused("malformed.profile", words):
        verify_update(ENROLLED, wrapped(CONTENT, change))


@pytest.mark.parametrize(("field", "code"), [("vendor_id", "vendor"), ("class_id", "product")])
def test_every_byte_of_an_identifier_counts(field: str, code: str) -> None:
    def change(members: dict[Any, Any]) -> None:
        manifest = suit.decode_manifest(cbor.encode(members), kind="trust-update")
        own = getattr(manifest, field)
        other = manifest._replace(**{field: own[:-1] + bytes([own[-1] ^ 1])})
        members.update(cbor.decode(suit.encode_manifest(other)))

    with refused(f"unsuitable.{code}"):
        verify_update(ENROLLED, wrapped(CONTENT, change))


def test_a_trust_update_with_a_payload_beside_is_no_trust_update() -> None:
    ids = ((b"trust",), (b"file", b"build.bin"))
    with refused("unsuitable.release"):
        verify_update(ENROLLED, wrapped(CONTENT, common(ids=ids)))


def rest_of(data: bytes, **more: Any) -> bytes:
    return encode_envelope(decode_envelope(data)._replace(**more))


def test_what_rides_along_is_refused() -> None:
    with refused("malformed.profile", "more than wrapper, manifest and list"):
        verify_update(ENROLLED, rest_of(ONE, text=b"text"))
    more = {"#trust": CONTENT, "#more": b""}
    with refused("malformed.profile"):
        verify_update(ENROLLED, rest_of(ONE, integrated=more))
    envelope = dict(cbor.decode(ONE).value)
    with refused("malformed.profile"):
        verify_update(ENROLLED, cbor.encode(Tag(107, {**envelope, 14: b""})))


def test_a_list_that_was_exchanged_or_taken_out_is_refused() -> None:
    other = encode_content(update(1, root(STRANGER)))
    with refused("tampered.payload-digest"):
        verify_update(ENROLLED, rest_of(ONE, integrated={"#trust": other}))
    with refused("tampered.payload-absent"):
        verify_update(ENROLLED, rest_of(ONE, integrated={}))


def test_an_exchanged_manifest_is_refused() -> None:
    with refused("tampered.manifest"):
        verify_update(ENROLLED, rest_of(ONE, manifest=decode_envelope(TWO).manifest))


def listed(**more: Any) -> bytes:
    """Encode a list with other members."""
    names = {"vendor": 1, "product": 2, "epoch": 3, "threshold": 4, "anchors": 5, "floors": 6}
    content = dict(cbor.decode(CONTENT))
    content.update({names.get(name, name): value for name, value in more.items()})
    return cbor.encode(content)


SPKI, CERTIFICATE = der(NEW.key.public_key()), NEW.der
RT = ("release", "trust")
POINT = der(KEYS[0].public_key())
COMPRESSED = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + (
    bytes([2 + (POINT[-1] & 1)]) + POINT[27:59]
)


@pytest.mark.parametrize(
    "content",
    [
        cbor.encode(()),
        cbor.encode({1: VENDOR}),
        listed(vendor="Acme.example"),
        listed(vendor=b"acme.example"),
        listed(product=""),
        listed(product="a\nb"),
        listed(product="x" * 254),
        listed(epoch=True),
        listed(epoch=-1),
        listed(epoch=2**53),
        listed(threshold=MAX_ANCHORS + 1),
        listed(threshold="1"),
        listed(floors=None),
        listed(floors={}),
        listed(floors={1: None}),
        listed(floors={1: -1}),
        listed(floors={2: suit.MAX_TIME + 1}),
        listed(floors={3: 1}),
        listed(anchors={}),
        listed(anchors=(1,)),
        listed(anchors=({2: CERTIFICATE},)),
        listed(anchors=({1: (), 2: CERTIFICATE},)),
        listed(anchors=({1: ("trust", "release"), 2: CERTIFICATE},)),
        listed(anchors=({1: ("trust", "trust"), 2: CERTIFICATE},)),
        listed(anchors=({1: ("trust", "admin"), 2: CERTIFICATE},)),
        listed(anchors=({1: RT},)),
        listed(anchors=({1: RT, 2: "text"},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 3: SPKI},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 4: ()},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 4: VENDOR},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 4: (1,)},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 4: ("*.acme.example",)},)),
        listed(anchors=({1: RT, 2: CERTIFICATE, 5: 1},)),
        listed(anchors=({1: RT, 3: COMPRESSED},)),
        cbor.encode({**cbor.decode(CONTENT), 7: 1}),
    ],
)
def test_a_list_off_the_template_is_refused(content: bytes) -> None:
    with refused("malformed.trust"):
        decode_content(content, 1)
    with refused("malformed.trust"):
        verify_update(ENROLLED, wrapped(content))


def test_a_compressed_point_is_the_same_key() -> None:
    assert Anchor.from_public_key(COMPRESSED).spki == bare(KEYS[0]).anchor.spki


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("malformed.certificate", listed(anchors=({1: RT, 2: b"no"},))),
        ("malformed.certificate", listed(anchors=({1: RT, 3: b"no"},))),
        ("malformed.size", listed(anchors=({1: RT, 2: bytes(16385)},))),
        ("malformed.size", listed(anchors=({1: RT, 3: bytes(16385)},))),
        ("malformed.size", listed(anchors=({1: RT, 3: SPKI},) * (MAX_ANCHORS + 1))),
        (
            "malformed.size",
            listed(anchors=({1: RT, 3: SPKI, 4: (VENDOR,) * (MAX_VENDORS + 1)},)),
        ),
        ("malformed.cbor", b"\xff"),
    ],
)
def test_anchors_that_are_none_are_refused(code: str, content: bytes) -> None:
    with refused(code):
        decode_content(content, 1)


@pytest.mark.parametrize("data", [b"\x01", cbor.encode((1,)), cbor.encode(("1", b""))])
def test_what_is_no_kept_list_is_refused(data: bytes) -> None:
    with refused("malformed.trust", "as it is kept"):
        decode_trust(data)


def test_any_flipped_bit_is_refused() -> None:
    for at in range(len(ONE)):
        flipped = ONE[:at] + bytes([ONE[at] ^ 1 << at % 8]) + ONE[at + 1 :]
        with pytest.raises(FwsignError) as caught:
            verify_update(ENROLLED, flipped)
        assert caught.value.code in CODES


def test_any_cut_is_refused() -> None:
    for end in range(len(ONE)):
        with pytest.raises(FwsignError):
            apply_chain(ENROLLED, split_updates(ONE[:end]))


@pytest.mark.parametrize("seed", range(300))
def test_random_changes_never_end_in_another_error(seed: int) -> None:
    dice = Dice(seed)
    data = bytearray(ONE)
    for _ in range(1 + dice.below(4)):
        at = dice.below(len(data))
        data[at : at + dice.below(3)] = dice.bytes(4)
    try:
        found = apply_chain(ENROLLED, split_updates(bytes(data)))
    except FwsignError as error:
        assert error.code in CODES  # noqa: PT017 - no other may leave
    else:
        assert found == FIRST


def test_updates_are_what_the_cddl_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "profile.cddl"
    validator: Any = import_module("cddl_verifier").Validator(page)  # it has no type hints
    whole = update(
        1,
        root(NEW, vendors=(VENDOR,)),
        bare(KEYS[0], "release", "trust", "tsa"),
        epoch=1,
        floors=Floors(1, 2),
    )
    for data in (ONE, TWO, sign(whole), sign(whole._replace(floors=Floors(time=1)), OLD.key)):
        assert validator.validate(data, root_type="trust-update").errors == ()
        assert not validator.validate(data, root_type="envelope").valid
    for other in (sign_with(PKI), rest_of(ONE, text=b"text"), wrapped(listed(floors={}))):
        assert not validator.validate(other, root_type="trust-update").valid


# --- signing --------------------------------------------------------------------------------


def test_people_sign_one_after_another() -> None:
    wanted = update(1, root(NEW), bare(KEYS[0]), threshold=2)
    data = make_update(wanted)
    trusted = wanted.trust.anchors_for("trust")
    assert signers(trusted, data) == ()
    for count, key in enumerate((OLD.key, NEW.key, KEYS[0])):
        assert len(signers(trusted, data)) == max(0, count - 1)
        data = make_update(wanted, [FileSigner(key)], signed=data)
    assert verify_update(ENROLLED, data) == wanted


def test_nobody_signs_twice() -> None:
    with refused("key.mismatch", "has signed already"):
        make_update(FIRST, [FileSigner(OLD.key)], signed=ONE)


def test_one_envelope_takes_eight_signatures() -> None:
    with refused("malformed.size"):
        make_update(FIRST, [FileSigner(key) for key in KEYS])


def test_another_update_than_the_one_that_was_signed_is_not_written() -> None:
    with refused("key.failed", "does not read as it was written"):
        make_update(FIRST, signed=TWO)


def test_a_signature_covers_what_every_block_covers() -> None:
    structure = sig_structure(protected_header(-9), signed_bytes(FIRST))
    assert cbor.decode(structure)[0] == "Signature1"
    assert len(structure) <= 95
