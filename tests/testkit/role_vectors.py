"""Steps 6 and 8: signers by their roles, and kinds of algorithms."""

from collections.abc import Callable, Sequence
from typing import Any

from fwsign.verify.signer_policy import SignerPolicy
from hostile import close, encoded
from people_kit import block, key, person, policy
from support import Entity, make_ca, make_leaf
from testkit.fixed import shared
from testkit.signer_vectors import second
from testkit.vector import Case, Vector, accepted, case, pki, refused

ONE_CA = "a single CA could meet this policy alone: its roles name no two CAs"
RULE = "2 of (alice, bob, carol) and 1 of release-approvers"
APPROVERS = "release-approvers"


@shared
def leaf(common: str, unit: str = "", alg: str = "p256") -> Entity:
    """Return a person below the shared issuing CA."""
    return person(pki().issuing, common, *([unit] if unit else ()), alg=alg)


def signs(one: Entity) -> bytes:
    """Sign with a person below the shared issuing CA."""
    return block(one, pki().issuing, root=pki().root)


def people(*names: str) -> list[bytes]:
    """Sign with people, each by name, or by name and unit."""
    return [signs(leaf(*one.split("/"))) for one in names]


def below() -> dict[str, str]:
    """Return what roles below the shared issuing CA have."""
    return {"below": key(pki().issuing)}


def named(*names: str) -> dict[str, Any]:
    """Return a role for each name."""
    return {one: {"name": one, **below()} for one in names}


def issue() -> SignerPolicy:
    """Demand two of three people, and an approver."""
    approvers = {"unit": APPROVERS, **below()}
    return policy(RULE, release_approvers=approvers, **named("alice", "bob", "carol"))


def made(wanted: SignerPolicy, blocks: Sequence[bytes]) -> Case:
    """Make a case of blocks; the shared root and the second one are pinned."""
    return case(close(encoded(), *blocks), pki().root, second().root, signers=wanted)


def by(*names: str) -> Callable[[], Case]:
    """Sign with people for `issue`."""
    return lambda: made(issue(), people(*names))


def group(*names: str) -> Callable[[], Case]:
    """Sign with people where two of all below a CA are wanted."""
    return lambda: made(policy("2 of dev", dev=below()), people(*names))


def two_keys() -> Case:
    """Let a person sign with two keys."""
    old, new = person(pki().issuing, "alice old"), person(pki().issuing, "alice new")
    roles: dict[str, dict[str, Any]] = {
        "alice": {"keys": (key(old), key(new))},
        "dev": below(),
    }
    return made(policy("alice and dev", **roles), [signs(old), signs(new)])


def forged(ca: Callable[[], Entity], *, rooted: bool) -> Case:
    """Let another CA issue alice's name, below the same root or another."""
    root = pki().root if rooted else second().root
    other = ca()
    signed = block(person(other, "alice"), other, root=root)
    return made(policy("alice", **named("alice")), [signed])


def two_cas(*, third: bool) -> Case:
    """Let one key have the certificates of two CAs, each of which is a role."""
    middle = make_ca("Release CA", pki().root, path_length=0)
    alice = person(pki().issuing, "alice")
    again = person(middle, "bob", key=alice.key)
    blocks = [signs(alice), block(again, middle, root=pki().root)]
    roles = {"dev": below(), "release": {"below": key(middle)}}
    return made(policy("dev and release", **roles), [*blocks, *(people("carol") * third)])


def above() -> Case:
    """Let one CA issue two leaves for its own role and that of its root."""
    roles = {"team": below(), "company": {"below": key(pki().root)}}
    return made(policy("team and company", **roles), people("alice", "bob"))


def hybrid(*kinds: str, wanted: Sequence[str]) -> Callable[[], Case]:
    """Sign with keys of some kinds, where others are wanted."""

    def make() -> Case:
        algorithms = {"classic": "p256", "post-quantum": "ml-dsa-65"}
        leaves = [leaf("release", "", algorithms[kind]) for kind in kinds]
        return made(policy(None, *wanted), [signs(one) for one in leaves])

    return make


def halves() -> Case:
    """Let one person have both roles of a hybrid."""
    roles = {
        one: {**below(), "algorithm": kind}
        for one, kind in (("old", "classic"), ("new", "post-quantum"))
    }
    both = [leaf("release"), leaf("release", "", "ml-dsa-65")]
    return made(policy("old and new", **roles), [signs(one) for one in both])


def stranger() -> Case:
    """Let someone without a role make the post-quantum signature."""
    blocks = [signs(leaf("alice")), signs(leaf("release", "", "ml-dsa-65"))]
    return made(policy("alice", "classic", "post-quantum", **named("alice")), blocks)


def other_vendor() -> Case:
    """Let a person of the role sign who may not sign for this vendor."""
    one = make_leaf(pki().issuing, "alice", vendors=["other.example"])
    return made(policy("alice", **named("alice")), [signs(one)])


def with_threshold() -> Case:
    """Demand a role, and two keys."""
    one = made(policy("alice", **named("alice")), people("alice"))
    return one._replace(policy=one.policy._replace(threshold=2))


def expired() -> Case:
    """Let the certificate of one of two people have expired."""
    old = signs(person(pki().issuing, "bob", days=(-9, -2)))
    return made(policy("alice and bob", **named("alice", "bob")), [*people("alice"), old])


MISSING = refused(6, "untrusted.signers")
BOTH = ("classic", "post-quantum")
VECTORS = (
    Vector(
        "roles-met",
        "two people and an approver",
        accepted(ONE_CA),
        by("alice", "bob", "dora/" + APPROVERS),
    ),
    Vector(
        "roles-other-order",
        "two people of three and an approver, whose blocks stand in another order",
        accepted(ONE_CA),
        by("dora/" + APPROVERS, "bob", "alice"),
    ),
    Vector(
        "roles-stripped",
        "the second person is taken out",
        MISSING,
        by("alice", "dora/" + APPROVERS),
    ),
    Vector("roles-no-approver", "the approver is taken out", MISSING, by("alice", "bob")),
    Vector(
        "roles-duplicated",
        "one person's block is there twice",
        MISSING,
        by("alice", "alice", "dora/" + APPROVERS),
    ),
    Vector(
        "roles-two-places",
        "an approver who is one of the two is not both",
        MISSING,
        by("alice/" + APPROVERS, "bob"),
    ),
    Vector(
        "roles-searched",
        "three people, of whom the first could be either",
        accepted(ONE_CA),
        by("alice/" + APPROVERS, "bob", "carol"),
    ),
    Vector(
        "roles-two-approvers",
        "of two approvers, one is one of the two",
        accepted(ONE_CA),
        by("alice/" + APPROVERS, "bob", "dora/" + APPROVERS),
    ),
    Vector("roles-group", "two people of one role", accepted(ONE_CA), group("alice", "bob")),
    Vector(
        "roles-one-name",
        "one name with two keys is one person",
        MISSING,
        group("alice", "alice/qa"),
    ),
    Vector("roles-letter-case", "letter case tells nobody apart", MISSING, group("alice", "ALICE")),
    Vector("roles-two-keys", "two keys of one role are one person", MISSING, two_keys),
    Vector(
        "roles-other-name",
        "a name in other letter case is another name",
        MISSING,
        lambda: made(policy("alice", **named("alice")), people("Alice")),
    ),
    Vector(
        "roles-other-ca",
        "another CA below the same root gives the name",
        MISSING,
        lambda: forged(lambda: make_ca("Other CA", pki().root, path_length=0), rooted=True),
    ),
    Vector(
        "roles-other-root",
        "a CA below another root gives the name",
        MISSING,
        lambda: forged(lambda: second().issuing, rooted=False),
    ),
    Vector(
        "roles-rechained",
        "one key with the certificates of two CAs",
        MISSING,
        lambda: two_cas(third=False),
    ),
    Vector(
        "roles-rechained-met",
        "one key with the certificates of two CAs, and another person",
        accepted(),
        lambda: two_cas(third=True),
    ),
    Vector(
        "roles-nearest", "one CA fills not both its own role and that of its root", MISSING, above
    ),
    Vector(
        "roles-other-vendor",
        "the person may not sign for this vendor",
        refused(8, "untrusted.vendor"),
        other_vendor,
    ),
    Vector(
        "roles-expired",
        "the certificate of one of two people has expired",
        refused(4, "stale.certificate"),
        expired,
    ),
    Vector("roles-threshold", "the role is there, the second key is not", MISSING, with_threshold),
    Vector(
        "algorithms-both",
        "a classic and a post-quantum signature",
        accepted(),
        hybrid(*BOTH, wanted=BOTH),
    ),
    Vector(
        "algorithms-post-quantum-stripped",
        "the post-quantum signature is taken out",
        MISSING,
        hybrid("classic", wanted=BOTH),
    ),
    Vector(
        "algorithms-classic-stripped",
        "the classic signature is taken out",
        MISSING,
        hybrid("post-quantum", wanted=BOTH),
    ),
    Vector(
        "algorithms-classic-wanted",
        "a hybrid for a device that wants the classic signature",
        accepted(),
        hybrid(*BOTH, wanted=["classic"]),
    ),
    Vector(
        "algorithms-classic-left",
        "what is left of a hybrid, for a device that wants the classic signature",
        accepted(),
        hybrid("classic", wanted=["classic"]),
    ),
    Vector("algorithms-halves", "one person has both roles of a hybrid", accepted(ONE_CA), halves),
    Vector(
        "algorithms-without-role",
        "the post-quantum signature is of someone without a role",
        MISSING,
        stranger,
    ),
)
