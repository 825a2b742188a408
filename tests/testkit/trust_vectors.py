"""Trust updates: the list that a device has, and what it is given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fwsign.trust.envelope import encode_update
from fwsign.trust.lists import Floors, Role, TrustAnchor, TrustState, Update
from fwsign.x509.anchor import Anchor
from support import (
    PRODUCT,
    VENDOR,
    Entity,
    der,
    make_block,
    make_ca,
    make_leaf,
    new_key,
    sign_with,
    signed_bytes,
)
from testkit.fixed import shared
from testkit.vector import pki


class TrustVector(NamedTuple):
    """A name, what it shows, the list's number after it or the code, and the function that makes
    the list that a device has and the updates that it is given.
    """

    name: str
    says: str
    expected: Mapping[str, Any]
    make: Callable[[], tuple[TrustState, Sequence[bytes]]]


@shared
def ca(name: str) -> Entity:
    """Return a root by its name, the same one each time."""
    return make_ca(name)


@shared
def key(name: str) -> Any:
    """Return a private key by its name, the same one each time."""
    del name
    return new_key()


def root(name: str, *roles: Role) -> TrustAnchor:
    """Pin a root."""
    return TrustAnchor(ca(name).anchor, roles or ("release", "trust"))


def bare(name: str, *roles: Role) -> TrustAnchor:
    """Pin a bare key."""
    pinned = Anchor.from_public_key(der(key(name).public_key()))
    return TrustAnchor(pinned, roles or ("trust",))


def state(number: int, *anchors: TrustAnchor, **more: Any) -> TrustState:
    """Make the list that a device has; it is threshold 1, epoch 0."""
    return TrustState(VENDOR, PRODUCT, number, 0, 1, anchors)._replace(**more)


def update(number: int, name: str, *by: Any, floors: Floors | None = None, **more: Any) -> bytes:
    """Make an update to one root, signed by private keys."""
    wanted = Update(state(number, root(name), **more), floors or Floors())
    signed = signed_bytes(wanted)
    return encode_update(wanted, [make_block(signed, one) for one in by])


def given(has: TrustState, *updates: bytes) -> tuple[TrustState, Sequence[bytes]]:
    """Say what a vector consists of."""
    return has, updates


def old(number: int = 0, **more: Any) -> TrustState:
    """Return the list with the old root."""
    return state(number, root("old"), **more)


def first(*by: str, **more: Any) -> bytes:
    """Return update 1, from the old root to the new one; `by` names who signs."""
    return update(1, "new", *(ca(name).key for name in by or ("old", "new")), **more)


def second() -> bytes:
    """Return update 2, from the new root to the next one."""
    return update(2, "next", ca("new").key, ca("next").key)


def accepted(number: int) -> dict[str, Any]:
    """Expect the list of a number."""
    return {"verdict": "accepted", "number": number}


def refused(code: str) -> dict[str, Any]:
    """Expect a refusal."""
    return {"verdict": "refused", "code": code}


VECTORS = (
    TrustVector(
        "good",
        "an update signed by the old and the new list",
        accepted(1),
        lambda: given(old(), first()),
    ),
    TrustVector(
        "chain",
        "two updates in one go",
        accepted(2),
        lambda: given(old(), first(), second()),
    ),
    TrustVector(
        "chain-behind",
        "updates that the device is past are left out",
        accepted(2),
        lambda: given(state(1, root("new")), first(), second()),
    ),
    TrustVector(
        "same-again",
        "an update to the list that the device has",
        accepted(1),
        lambda: given(state(1, root("new")), first()),
    ),
    TrustVector(
        "replayed",
        "an update older than the device's list",
        refused("unsuitable.rollback"),
        lambda: given(state(2, root("next")), first()),
    ),
    TrustVector(
        "skipped",
        "a number was left out",
        refused("unsuitable.trust-gap"),
        lambda: given(old(), second()),
    ),
    TrustVector(
        "fork",
        "another list 1 than the device has",
        refused("unsuitable.conflict"),
        lambda: given(state(1, root("new")), first(epoch=1)),
    ),
    TrustVector(
        "too-few",
        "one of two trust keys signed, and two must",
        refused("untrusted.signers"),
        lambda: given(state(0, root("old"), bare("second"), threshold=2), first()),
    ),
    TrustVector(
        "same-key-twice",
        "one trust key in two blocks is one of two",
        refused("untrusted.signers"),
        lambda: given(
            state(0, root("old"), bare("second"), threshold=2), first("old", "old", "new")
        ),
    ),
    TrustVector(
        "not-its-own",
        "no key of the new list signed",
        refused("untrusted.signers"),
        lambda: given(old(), first("old")),
    ),
    TrustVector(
        "retired",
        "signed by an anchor of the list before the device's",
        refused("untrusted.signers"),
        lambda: given(state(1, root("new")), update(2, "next", ca("old").key, ca("next").key)),
    ),
    TrustVector(
        "release-key",
        "signed by a pinned key that may sign releases only",
        refused("untrusted.signers"),
        lambda: given(
            state(0, root("old"), bare("release", "release")),
            update(1, "new", key("release"), ca("new").key),
        ),
    ),
    TrustVector(
        "leaf",
        "signed by a signer below an anchor",
        refused("untrusted.signers"),
        lambda: given(old(), update(1, "new", make_leaf(ca("old")).key, ca("new").key)),
    ),
    TrustVector(
        "other-vendor",
        "an update for another vendor",
        refused("unsuitable.vendor"),
        lambda: given(old(), first(vendor="other.example")),
    ),
    TrustVector(
        "other-product",
        "an update for another product",
        refused("unsuitable.product"),
        lambda: given(old(), first(product="other")),
    ),
    TrustVector(
        "threshold",
        "more must sign than there are trust keys",
        refused("malformed.trust"),
        lambda: given(old(), first(threshold=2)),
    ),
    TrustVector(
        "floors",
        "floors without a raised epoch",
        refused("unsuitable.epoch"),
        lambda: given(old(), first(floors=Floors(1))),
    ),
    TrustVector(
        "epoch-back",
        "the epoch goes back",
        refused("unsuitable.epoch"),
        lambda: given(old(epoch=1), first()),
    ),
    TrustVector(
        "reset",
        "floors with a raised epoch",
        accepted(1),
        lambda: given(old(), first(epoch=1, floors=Floors(1, 2))),
    ),
    TrustVector(
        "floor-beyond",
        "a floor that JSON does not hold exactly",
        refused("malformed.trust"),
        lambda: given(old(), first(epoch=1, floors=Floors(2**53, 2))),
    ),
    TrustVector(
        "release",
        "a release given as an update",
        refused("unsuitable.release"),
        lambda: given(old(), sign_with(pki())),
    ),
)
