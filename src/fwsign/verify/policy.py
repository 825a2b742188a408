# SPDX-License-Identifier: Apache-2.0
"""A device's demands: the signers, the device that the release is for, and its freshness."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed, Untrusted
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.verify.seats import Way, Ways, reach
from fwsign.verify.signer_policy import SignerPolicy, signers_fault
from fwsign.verify.signers import judge_signers
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath
from fwsign.x509.constraints import dns_names, is_domain, permits, within_domain
from fwsign.x509.crl import HeldCrl
from fwsign.x509.revocation import CrlReader
from fwsign.x509.roles import Profile

Revocation: TypeAlias = Literal["if-present", "require", "off"]

UNPROVEN: Final = "freshness unproven: the clock is behind"
"""The note where the clock is behind a time that is known to have passed."""
_NO_PINS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class Slot(NamedTuple):
    """A place that a signer must fill.

    A block fills only the slot nearest to its leaf, so that one CA cannot fill both its own slot
    and that of the root above it.

    Args:
        name: for people.
        spki: the SHA-256 of the SubjectPublicKeyInfo, in hex, of a leaf, a CA or an anchor.
    """

    name: str
    spki: str


class Recorded(NamedTuple):
    """A release that the device has accepted at its sequence floor.

    Args:
        manifest_digest: the digest that was signed.
        components: the identifiers of its components.
    """

    manifest_digest: bytes
    components: tuple[tuple[bytes, ...], ...]


class DevicePolicy(NamedTuple):
    """A device's demands on a release; a demand that is None is listed as not checked.

    Args:
        vendor: the vendor's domain.
        product: the product's name within the vendor's.
        min_sequence: the sequence floor, the lowest number still accepted.
        recorded: the releases accepted at the floor; only these, and releases that share no
            component with them, are accepted at it again.
        threshold: how many distinct signers, or how many slots if there are any, must be there;
            by default one signer, or all slots.
        slots: the places that signers must fill.
        signers: who must sign, by roles; beside the threshold and the slots, if they are given.
        profile: `strict`, or `compat` for PKIs that older tools made.
        revocation: "if-present" judges revocation if any CRL is at hand, "require" always.
        allow_stale: how long after its next update a CRL is still used, with a note.
        crls: the caller's CRLs, in DER; those that belong to no issuer are not used.
        held: CRLs from the device's memory, each used only for the issuer with its key.
        time_floor: the latest time that the device knows to have passed.
        pinned_vendors: SPKI SHA-256 in hex -> vendors, for bare keys and for leaves without
            dNSName; the key may be the leaf's or one above it, and the nearest counts.
        require_token: demand a proof of the signing time.
        tsa_anchors: the anchors of the time-stamping authorities that prove a time.
        allow_example_keys: accept the published keys of keys.example.
        permitted: the digest of the one manifest that may be below the floor, by a permit.
    """

    vendor: str | None = None
    product: str | None = None
    min_sequence: int | None = None
    recorded: tuple[Recorded, ...] = ()
    threshold: int | None = None
    slots: tuple[Slot, ...] = ()
    profile: Profile = "strict"
    revocation: Revocation = "if-present"
    crls: tuple[bytes, ...] = ()
    held: tuple[HeldCrl, ...] = ()
    time_floor: datetime | None = None
    pinned_vendors: Mapping[str, tuple[str, ...]] = _NO_PINS
    require_token: bool = False
    allow_example_keys: bool = False
    tsa_anchors: tuple[Anchor, ...] = ()
    allow_stale: timedelta = timedelta(0)
    signers: SignerPolicy | None = None
    permitted: bytes | None = None

    def crl_reader(self) -> CrlReader:
        """Return a reader of the CRLs at hand, for one verification; of none if it is "off"."""
        if self.revocation == "off":
            return CrlReader(self.profile, off=True)
        return CrlReader(self.profile, self.crls, self.held)

    def judges_revocation(self, *, at_hand: bool) -> bool:
        """Tell whether this policy judges revocation when CRLs are, or are not, at hand."""
        return self.revocation == "require" or (self.revocation == "if-present" and at_hand)

    @property
    def needed(self) -> int:
        """The number of signers or slots that must be there."""
        return self.threshold if self.threshold is not None else max(1, len(self.slots))

    @property
    def one_ca_suffices(self) -> bool:
        """Whether a single CA could meet this policy by issuing several leaves."""
        needed = max(self.needed, self.signers.needed if self.signers else 0)
        pinned = bool(self.slots) or not (self.signers is None or self.signers.one_ca_suffices)
        return needed > 1 and not pinned

    def vendors_of(self, path: CertificationPath) -> tuple[str, ...]:
        """The vendors that a signer may sign for: the leaf's own, else those pinned for its key.

        A CA's pin also covers the leaves below it, as far as the CAs between them permit its names.
        """
        own = bool(path.certificates) and dns_names(path.certificates[0])
        named = path.vendors if own else self._pinned_for(path)
        limits = path.anchor.vendors
        return tuple(
            name
            for name in named
            if not limits or any(within_domain(name, limit) for limit in limits)
        )

    def _pinned_for(self, path: CertificationPath) -> tuple[str, ...]:
        for above, key in enumerate(path.keys):
            if key in self.pinned_vendors:
                between = path.certificates[1:above]
                names = self.pinned_vendors[key]
                return tuple(one for one in names if all(permits(ca, one) for ca in between))
        return ()


def check_policy(policy: DevicePolicy) -> None:
    """Refuse a policy that contradicts itself or demands nothing.

    Raises:
        Failed: `state.policy`, `state.clock`.
    """
    _demand(policy.product is None or policy.vendor is not None, "a product without a vendor")
    vendors = [*([policy.vendor] if policy.vendor is not None else [])]
    for vendor in (*vendors, *(name for names in policy.pinned_vendors.values() for name in names)):
        _demand(is_domain(vendor), f'vendor "{vendor}" is not a lower-case domain')
    product = policy.product or ""
    _demand(product.isprintable(), f"a product {product!r}, which is not printable text")
    most = len(policy.slots)
    _demand(policy.needed >= 1, f"a threshold of {policy.needed}")
    _demand(not most or policy.needed <= most, f"{policy.needed} of only {most} slots")
    _demand(_distinct([slot.spki for slot in policy.slots]), "one key in two slots")
    _demand(_distinct([slot.name for slot in policy.slots]), "two slots of one name")
    _demand(policy.min_sequence is None or policy.min_sequence >= 0, "a floor below 0")
    _demand(
        policy.min_sequence is not None or not policy.recorded, "recorded releases but no floor"
    )
    _demand(policy.profile in ("strict", "compat"), f'profile "{policy.profile}"')
    _demand(
        policy.revocation in ("if-present", "require", "off"), f'revocation "{policy.revocation}"'
    )
    _demand(policy.allow_stale >= timedelta(0), "CRLs that go stale before their time")
    limited = any(anchor.vendors for anchor in policy.tsa_anchors)
    _demand(not limited, "a time-stamping authority's anchor that is limited to vendors")
    fault = signers_fault(policy.signers) if policy.signers is not None else None
    _demand(fault is None, str(fault))
    if policy.time_floor is not None and policy.time_floor.utcoffset() is None:
        raise Failed("state.clock", "the time floor has no time zone")


def pins_for(
    anchors: Sequence[Anchor], profile: Profile, vendor: str
) -> dict[str, tuple[str, ...]]:
    """Pin enrolled vendors for keys whose certificates name none: bare keys, `compat` PKIs."""
    silent = [one for one in anchors if one.certificate is None or profile == "compat"]
    return {one.spki: (vendor,) for one in silent}


def refuse_example(policy: DevicePolicy, path: CertificationPath) -> None:
    """Refuse a path with a published key, unless the policy accepts it.

    Raises:
        Untrusted: `untrusted.example-key`.
    """
    if not policy.allow_example_keys and not EXAMPLE_SPKI.isdisjoint(path.keys):
        raise Untrusted(
            "untrusted.example-key",
            f'the path of "{path.name}" has a published example key, which anyone can use',
        )


def enough_signers(policy: DevicePolicy, paths: Sequence[CertificationPath]) -> bool:
    """Tell whether the signers that count meet a policy: by their number, slots and roles."""
    demands = judge_signers(policy.signers, paths) if policy.signers else ()
    return missing_signers(policy, paths) is None and all(one.met for one in demands)


def missing_signers(policy: DevicePolicy, paths: Sequence[CertificationPath]) -> str | None:
    """Describe the signers that are missing among those that count, or return None; without roles.

    Each leaf key counts once, however many certificates it has.
    """
    keys = [path.keys[0] for path in paths]
    if policy.slots:
        return _empty_slots(policy, paths)
    if len(set(keys)) < policy.needed:
        return f"{policy.needed} distinct signers, found {len(set(keys))}"
    return None


def _empty_slots(policy: DevicePolicy, paths: Sequence[CertificationPath]) -> str | None:
    """Describe the slots that nobody fills; the search is that for roles."""
    pinned = {slot.spki: slot.name for slot in policy.slots}
    options: dict[str, Ways] = {slot.name: {} for slot in policy.slots}
    for number, path in enumerate(paths):
        nearest = next((pinned[key] for key in path.keys if key in pinned), None)
        if nearest is not None:
            same = sum(path.keys[0] == one.keys[0] and 1 << at for at, one in enumerate(paths))
            way = Way(1 << number, same, ((0, nearest, number),))
            options[nearest][way.used] = way
    reached = reach(len(options), options.values())
    best = [next(iter(ways.values())) for ways in reached if ways][-1]
    filled = [name for _, name, _ in best.fills]
    if len(filled) >= policy.needed:
        return None
    empty = ", ".join(slot.name for slot in policy.slots if slot.name not in filled)
    return f"{policy.needed} of {len(policy.slots)} slots, found {len(filled)}; empty: {empty}"


def _distinct(items: Sequence[str]) -> bool:
    return len(set(items)) == len(items)


def _demand(fine: bool, what: str) -> None:
    if not fine:
        raise Failed("state.policy", f"the policy has {what}", found=what)
