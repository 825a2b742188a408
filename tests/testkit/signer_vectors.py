"""Steps 6 and 8: enough of the right signers, each for this vendor."""

from collections.abc import Callable, Sequence
from typing import Any

from fwsign.format import cbor
from fwsign.verify.policy import Slot
from hostile import block_of, close, encoded, spki
from support import (
    VENDOR,
    Entity,
    Pki,
    make_block,
    make_ca,
    make_leaf,
    make_pki,
    new_key,
    sign_with,
    signed_digest,
)
from testkit.fixed import shared
from testkit.vector import Case, Vector, accepted, case, pki, refused

ONE_CA = "a single CA could meet this policy alone: no slots are pinned"


@shared
def second() -> Pki:
    """Return a PKI of another team."""
    return make_pki(common="Second ")


@shared
def quantum() -> Pki:
    """Return a post-quantum PKI."""
    return make_pki("ml-dsa-65", common="Quantum ")


def sibling() -> Pki:
    """Return the shared PKI with another leaf."""
    return pki()._replace(leaf=make_leaf(pki().issuing, "other"))


def signed(*signers: Callable[[], Pki], junk: Sequence[bytes] = (), **policy: Any) -> Case:
    """Sign with several; all roots are pinned."""
    content = encoded()
    blocks = [block_of(signer(), content) for signer in signers]
    roots = [pki().root, second().root, quantum().root]
    return case(close(content, *blocks, *junk), *roots, **policy)


def slot(entity: Entity, name: str) -> Slot:
    """Pin an entity's key as a slot."""
    return Slot(name, spki(entity.key))


def slots(*signers: Callable[[], Pki], **more: Any) -> Callable[[], Case]:
    """Demand a block under the root and one under the second root."""
    return lambda: signed(
        *signers, slots=(slot(pki().root, "ours"), slot(second().root, "theirs")), **more
    )


def hybrid(*signers: Callable[[], Pki]) -> Callable[[], Case]:
    """Demand a classic and a post-quantum block."""
    return lambda: signed(
        *signers, slots=(slot(pki().root, "classic"), slot(quantum().root, "post-quantum"))
    )


def nearest() -> Case:
    """Demand a block of the CA and one of the root above it; one leaf cannot be both."""
    pins = (slot(pki().issuing, "team"), slot(pki().root, "company"))
    return signed(pki, slots=pins)


def one_ca_twice() -> Case:
    """Let one CA issue two leaves for the same two slots."""
    pins = (slot(pki().issuing, "team"), slot(pki().root, "company"))
    return signed(pki, sibling, slots=pins)


def one_key_twice() -> Case:
    """Certify one key under two CAs."""
    middle = make_ca("Second Issuing 2", second().root)
    again = Pki(second().root, middle, make_leaf(middle, key=pki().leaf.key))
    return signed(pki, lambda: again, threshold=2)


def unknown_block() -> bytes:
    """Make a block of an algorithm that nobody knows."""
    return cbor.encode(cbor.Tag(18, (cbor.encode({1: -999}), {}, None, b"x")))


def stranger_block() -> bytes:
    """Make a block of a PKI that nobody pinned."""
    return block_of(make_pki(common="Strange "), encoded())


def leaf_for(vendors: Sequence[str], **policy: Any) -> Callable[[], Case]:
    """Sign with a leaf for other vendors."""
    return lambda: case(
        sign_with(pki()._replace(leaf=make_leaf(pki().issuing, vendors=vendors))), **policy
    )


def pinned_leaf(*, to: str) -> Case:
    """Sign with a leaf without dNSName whose key is pinned to a vendor."""
    leaf = make_leaf(pki().issuing, vendors=())
    pins = {spki(leaf.key): (to,)}
    return case(sign_with(pki()._replace(leaf=leaf)), pinned_vendors=pins)


def bare_junk() -> Case:
    """Put a bare block beside a good one, where no bare key is pinned."""
    content = encoded()
    junk = make_block(signed_digest(content), new_key())
    return case(close(content, block_of(pki(), content), junk))


def one_vendor_short() -> Case:
    """Let one of two signers be for another vendor."""
    other = pki()._replace(leaf=make_leaf(pki().issuing, vendors=["other.example"]))
    return signed(pki, lambda: other, threshold=2)


FEW = refused(6, "untrusted.signers")
EMPTY = refused(6, "untrusted.slot")
VENDORS = refused(8, "untrusted.vendor")

VECTORS = (
    Vector("signers-none", "the envelope has no block", FEW, signed),
    Vector(
        "signers-two",
        "two of two signers are there",
        accepted(ONE_CA),
        lambda: signed(pki, second, threshold=2),
    ),
    Vector(
        "signers-stripped", "one of two signers is there", FEW, lambda: signed(pki, threshold=2)
    ),
    Vector(
        "signers-twice",
        "one signer twice is one signer of two",
        FEW,
        lambda: signed(pki, pki, threshold=2),
    ),
    Vector(
        "signers-one-key", "one key under two certificates is one signer of two", FEW, one_key_twice
    ),
    Vector("slots-all", "both slots are filled", accepted(), slots(pki, second)),
    Vector(
        "slots-other-order",
        "both slots are filled, in the other order",
        accepted(),
        slots(second, pki),
    ),
    Vector("slots-stripped", "the block of one slot is taken out", EMPTY, slots(pki)),
    Vector(
        "slots-one-of-two", "one of two slots is enough", accepted(), slots(second, threshold=1)
    ),
    Vector("slots-sibling", "two leaves of one CA fill one slot", EMPTY, slots(pki, sibling)),
    Vector(
        "slots-nearest",
        "one leaf fills not both the slot of its CA and that of the root above it",
        EMPTY,
        nearest,
    ),
    Vector(
        "slots-one-ca",
        "two leaves of one CA fill not both its slot and that of the root above it",
        EMPTY,
        one_ca_twice,
    ),
    Vector(
        "hybrid",
        "a classic and a post-quantum block for two slots",
        accepted(),
        hybrid(pki, quantum),
    ),
    Vector(
        "hybrid-stripped",
        "of a classic and a post-quantum block, the post-quantum one is gone",
        EMPTY,
        hybrid(pki),
    ),
    Vector(
        "hybrid-classic-stripped",
        "of a classic and a post-quantum block, the classic one is gone",
        EMPTY,
        hybrid(quantum),
    ),
    Vector(
        "junk-algorithm",
        "beside the good block, one of an unknown algorithm",
        accepted(),
        lambda: signed(pki, junk=[unknown_block()]),
    ),
    Vector(
        "junk-stranger",
        "beside the good block, one of a stranger",
        accepted(),
        lambda: case(
            close(content := encoded(), block_of(pki(), content), block_of(second(), content))
        ),
    ),
    Vector(
        "junk-bare-key", "beside the good block, one of an unknown bare key", accepted(), bare_junk
    ),
    Vector(
        "junk-does-not-count",
        "a stranger's block is no second signer",
        refused(3, "untrusted.no-anchor"),
        lambda: case(
            close(content := encoded(), block_of(pki(), content), block_of(second(), content)),
            threshold=2,
        ),
    ),
    Vector("vendor-other", "a leaf for another vendor", VENDORS, leaf_for(["other.example"])),
    Vector(
        "vendor-below",
        "a leaf for a subdomain of the vendor's",
        VENDORS,
        leaf_for([f"eu.{VENDOR}"]),
    ),
    Vector(
        "vendor-above", "a leaf for the domain above the vendor's", VENDORS, leaf_for(["example"])
    ),
    Vector("vendor-wildcard", "a leaf for a wildcard", VENDORS, leaf_for(["*.example"])),
    Vector(
        "vendor-upper-case",
        "a leaf for the vendor in other case",
        VENDORS,
        leaf_for(["ACME.example"]),
    ),
    Vector(
        "vendor-dot",
        "a leaf for the vendor with a dot at the end",
        VENDORS,
        leaf_for([f"{VENDOR}."]),
    ),
    Vector("vendor-none", "a leaf without dNSName", VENDORS, leaf_for([])),
    Vector(
        "vendor-several",
        "a leaf for several vendors, of which this is one",
        accepted(),
        leaf_for(["other.example", VENDOR]),
    ),
    Vector(
        "vendor-pinned",
        "a leaf without dNSName, pinned to the vendor by policy",
        accepted(),
        lambda: pinned_leaf(to=VENDOR),
    ),
    Vector(
        "vendor-pinned-other",
        "a leaf without dNSName, pinned to another vendor",
        VENDORS,
        lambda: pinned_leaf(to="other.example"),
    ),
    Vector(
        "vendor-one-of-two", "one of two signers is for another vendor", VENDORS, one_vendor_short
    ),
)
