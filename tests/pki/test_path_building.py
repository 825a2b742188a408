"""A path is found wherever there is one, and no pool makes the search long."""

import random
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.format.cose import MAX_CHAIN
from fwsign.pki.paths import build as path_building
from fwsign.pki.paths.build import MAX_NAMESAKES, MAX_STEPS, find_paths, in_order, leaf_of
from fwsign.pki.paths.purpose import AcceptedPath, judge_pool
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import signature_valid
from fwsign.x509.chain import check_link, validate_path
from lint_kit import codes, crls, fill
from support import (
    DAY,
    NOW,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    der,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    name,
    new_key,
    parts,
    refused,
    resign,
    tlv,
    with_serial,
)

ROOT, OTHER = make_ca(), make_ca("Other Root")
ISSUING = make_ca("Issuing", ROOT, path_length=0)
LEAF = make_leaf(ISSUING)


def cross(
    entity: Entity, by: Entity, *, days: tuple[int, int] = (-10, 3650), **more: Any
) -> Entity:
    """Certify the name and key of a CA again, by another one."""
    own = more.pop("extensions", None) or ca_extensions(**more)
    return certify(entity.key, entity.certificate.subject, by, own, days=days)


def found(
    leaf: Entity, pool: Iterable[Entity], anchors: Sequence[Entity | Anchor], **more: Any
) -> tuple[bytes, ...] | None:
    """Return the first chain, which the validator must take."""
    pinned = [one.anchor if isinstance(one, Entity) else one for one in anchors]
    paths = find_paths(
        leaf.der, [one.der for one in pool], pinned, **{"use": "codeSigning", **more}
    )
    first = next(paths, None)
    if first is None:
        return None
    assert validate_path(first.chain, pinned, use=more.get("use", "codeSigning")) == first.path
    return first.chain


def ders(*entities: Entity) -> tuple[bytes, ...]:
    return tuple(one.der for one in entities)


def judged(leaf: Entity, pool: Iterable[Entity], *anchors: Entity, **more: Any) -> Any:
    how = {"purpose": "codesign", "at": NOW, **more}
    return judge_pool(leaf.der, [one.der for one in pool], [one.anchor for one in anchors], **how)


# --- cross-certificates ---------------------------------------------------------------------


def test_either_root_is_reached_through_a_cross_certificate() -> None:
    crossed = cross(ROOT, OTHER)
    for pool in permutations((ISSUING, crossed, ROOT, OTHER)):
        assert found(LEAF, pool, [ROOT]) == ders(LEAF, ISSUING)
        assert found(LEAF, pool, [OTHER]) == ders(LEAF, ISSUING, crossed)
        assert found(LEAF, pool, [OTHER, ROOT]) == ders(LEAF, ISSUING)


def test_an_issuing_ca_of_two_roots_leads_to_the_one_that_is_pinned() -> None:
    other = cross(ISSUING, OTHER, path_length=0)
    for pool in permutations((ISSUING, other)):
        assert found(LEAF, pool, [ROOT]) == ders(LEAF, ISSUING)
        assert found(LEAF, pool, [OTHER]) == ders(LEAF, other)


def test_the_shortest_path_is_preferred() -> None:
    middle = make_ca("Middle", ROOT)
    longer = cross(ISSUING, middle)
    for pool in permutations((middle, longer, ISSUING)):
        assert found(LEAF, pool, [ROOT]) == ders(LEAF, ISSUING)


def test_of_equal_paths_the_first_in_the_pool_is_preferred() -> None:
    again = cross(ISSUING, ROOT, path_length=0)
    assert found(LEAF, [ISSUING, again], [ROOT]) == ders(LEAF, ISSUING)
    assert found(LEAF, [again, ISSUING], [ROOT]) == ders(LEAF, again)


WRONG: dict[str, dict[str, Any]] = {
    "not a CA": {"extensions": leaf_extensions()},
    "not allowed to issue for code signing": {
        "extensions": [
            *ca_extensions(),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True),
        ]
    },
    "limited to other names": {"permitted": ["other.example"]},
    "without key usage": {"extensions": ca_extensions()[:1]},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_variant_that_may_not_stand_there_is_passed_by(case: str) -> None:
    wrong = cross(ISSUING, ROOT, **WRONG[case])
    for pool in permutations((wrong, ISSUING)):
        assert found(LEAF, pool, [ROOT]) == ders(LEAF, ISSUING)
    assert found(LEAF, [wrong], [ROOT]) is None


def test_a_path_length_chooses_the_variant() -> None:
    middle = make_ca("Middle", ROOT)
    below = make_ca("Below", middle)
    leaf = make_leaf(below)
    narrow = cross(middle, ROOT, path_length=0)
    for pool in permutations((below, narrow, middle)):
        assert found(leaf, pool, [ROOT]) == ders(leaf, below, middle)
    assert found(leaf, [below, narrow], [ROOT]) is None


def test_name_constraints_above_choose_the_path() -> None:
    crossed = cross(ROOT, OTHER, permitted=["other.example"])
    third = make_ca("Third")
    wide = cross(ROOT, third)
    for pool in permutations((ISSUING, crossed, wide)):
        assert found(LEAF, pool, [OTHER]) is None
        assert found(LEAF, pool, [OTHER, third]) == ders(LEAF, ISSUING, wide)


def test_a_ca_is_reached_again_where_fewer_names_are_below_it() -> None:
    """The short way to Top brings a name that it excludes; the long way does not."""
    names = x509.NameConstraints(None, [x509.DirectoryName(name("Short"))])
    top_key = new_key()
    top = certify(top_key, name("Top"), ROOT, [*ca_extensions(), (names, True)])
    short, long = make_ca("Short", top), make_ca("Long", top)
    between, own = make_ca("Between", long), make_ca("Own", short)
    via_long = cross(own, between)
    leaf = make_leaf(own)
    pool = [own, short, top, via_long, between, long]
    assert found(leaf, pool, [ROOT]) == ders(leaf, via_long, between, long, top)


def test_cycles_end() -> None:
    one, two = make_ca("One"), make_ca("Two")
    pool = [cross(one, two), cross(two, one), cross(one, one), cross(two, two)]
    leaf = make_leaf(one)
    assert found(leaf, pool, [ROOT]) is None
    way_out = cross(two, ROOT)
    assert found(leaf, [*pool, way_out], [ROOT]) == ders(leaf, pool[0], way_out)


def test_cas_of_one_name_are_told_apart_by_key_identifier_and_signature() -> None:
    namesake = make_ca("Issuing", ROOT)
    liar = certify(
        new_key(),
        ISSUING.certificate.subject,
        ROOT,
        [
            *ca_extensions(),
            (x509.SubjectKeyIdentifier.from_public_key(ISSUING.key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT.key.public_key()), False),
        ],
        identifiers=False,
    )
    for pool in permutations((namesake, liar, ISSUING)):
        assert found(LEAF, pool, [ROOT]) == ders(LEAF, ISSUING)


def test_two_roots_of_one_name() -> None:
    twin = make_ca()
    leaf = make_leaf(make_ca("Issuing", twin))
    assert found(LEAF, [ISSUING], [twin, ROOT]) == ders(LEAF, ISSUING)
    assert found(leaf, [ISSUING], [ROOT, twin]) is None


def test_a_bare_key_ends_a_path() -> None:
    bare = Anchor.from_public_key(der(ROOT.key.public_key()))
    assert found(LEAF, [ROOT, ISSUING], [bare]) == ders(LEAF, ISSUING)


def test_a_path_is_as_long_as_an_envelope_takes() -> None:
    cas = [make_ca("CA 0", ROOT)]
    for number in range(1, MAX_CHAIN):
        cas.append(make_ca(f"CA {number}", cas[-1]))
    longest, too_long = make_leaf(cas[-2]), make_leaf(cas[-1])
    assert found(longest, cas, [ROOT]) == ders(longest, *reversed(cas[:-1]))
    assert found(too_long, cas, [ROOT]) is None


def test_what_no_path_can_have_is_left_out_and_what_is_no_certificate_refused() -> None:
    fields = parts(parts(ISSUING.der)[0])
    fields[1] = tlv(2, b"\xff")  # a serial number below zero
    pool = [resign(fields, ROOT.key), ISSUING.der]
    paths = find_paths(LEAF.der, pool, [ROOT.anchor], use="codeSigning")
    assert [one.chain for one in paths] == [ders(LEAF, ISSUING)]
    for call in (
        lambda: next(find_paths(LEAF.der, [b"0"], [ROOT.anchor], use="codeSigning")),
        lambda: in_order(LEAF.der, [b"0"]),
    ):
        with refused("malformed.certificate", "not a certificate"):
            call()


# --- work -----------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the links whose signatures are looked at."""
    counted = [0]

    def check(*arguments: Any) -> None:
        counted[0] += 1
        check_link(*arguments)

    monkeypatch.setattr(path_building, "check_link", check)
    return counted


def test_200_cas_of_one_name_and_key_cost_one_step_each(steps: list[int]) -> None:
    pool = [cross(ISSUING, make_ca(f"Stranger {number}")) for number in range(199)]
    assert found(LEAF, [*pool, ISSUING], [ROOT]) == ders(LEAF, ISSUING)
    assert steps[0] == 200


def test_200_cas_of_one_name_with_keys_of_their_own(steps: list[int]) -> None:
    key = new_key()
    pool = [certify(new_key(), name("Issuing"), ROOT, ca_extensions()) for _ in range(199)]
    own = certify(key, name("Issuing"), ROOT, ca_extensions())
    leaf = make_leaf(own)
    assert found(leaf, [*pool, own], [ROOT]) == ders(leaf, own)
    assert steps[0] <= 400
    assert in_order(leaf.der, ders(*pool, own, ROOT)) == ders(leaf, own, ROOT)


def test_200_cas_that_have_all_issued_each_other(steps: list[int]) -> None:
    same = [cross(ISSUING, ISSUING) for _ in range(199)]
    assert found(LEAF, [*same, ISSUING], [ROOT]) == ders(LEAF, ISSUING)
    assert found(LEAF, same, [OTHER]) is None
    assert steps[0] <= 400


def test_a_mesh_of_cas_does_not_blow_up(steps: list[int]) -> None:
    cas = [make_ca(f"CA {number}") for number in range(15)]
    mesh = [cross(one, other) for one in cas for other in cas if one is not other]
    leaf = make_leaf(cas[0])
    assert len(mesh) == 210
    assert found(leaf, mesh, [ROOT]) is None
    assert steps[0] <= 210
    out = cross(cas[7], ROOT)
    chain = found(leaf, [*mesh, out], [ROOT])
    assert chain is not None
    assert (len(chain), chain[-1]) == (3, out.der)


def test_the_search_ends_at_its_limit(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_building, "MAX_STEPS", 10)
    same = [cross(ISSUING, OTHER) for _ in range(11)]
    assert found(LEAF, [*same, ISSUING], [ROOT]) is None
    assert steps[0] == 10
    assert MAX_STEPS == 2000


def test_where_no_path_validates_signatures_tell_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = [0]

    def valid(*arguments: Any) -> bool:
        calls[0] += 1
        return signature_valid(*arguments)

    monkeypatch.setattr(path_building, "signature_valid", valid)
    own = make_ca("Issuing")
    leaf = certify(new_key(), name("release"), own, leaf_extensions(), identifiers=False)
    others = [make_ca("Issuing", OTHER) for _ in range(MAX_NAMESAKES + 20)]
    assert in_order(leaf.der, ders(*others[:50], own)) == ders(leaf, own)
    calls[0] = 0
    assert in_order(leaf.der, ders(*others)) == ders(leaf, others[0])
    assert calls[0] == MAX_NAMESAKES


def test_signatures_of_an_algorithm_that_is_not_allowed_tell_nothing() -> None:
    own, other = make_ca("Issuing"), make_ca("Issuing")
    leaf = certify(new_key(), name("release"), own, leaf_extensions(), algorithm=hashes.SHA224())
    assert in_order(leaf.der, ders(other, own)) == ders(leaf, own)  # by its key identifier
    with refused("untrusted.algorithm", "signature algorithm 30"):
        raise judged(leaf, [], own).verdict


@pytest.mark.parametrize("seed", range(20))
def test_a_path_is_found_wherever_trying_all_orders_finds_one(seed: int) -> None:
    rng = random.Random(seed)  # a reproducible choice
    cas = [make_ca(f"CA {number}") for number in range(4)]
    pool = [
        cross(one, rng.choice([*cas, ROOT]), path_length=rng.choice([None, None, 0, 1]))
        for one in cas
        for _ in range(rng.choice([0, 1, 2]))
    ]
    leaf = make_leaf(rng.choice(cas))
    whole = any(_validates((leaf, *some)) for size in range(5) for some in permutations(pool, size))
    assert (found(leaf, pool, [ROOT]) is not None) == whole


def _validates(chain: Sequence[Entity]) -> bool:
    try:
        path = validate_path(ders(*chain), [ROOT.anchor])
    except FwsignError:
        return False
    return len(path.certificates) == len(chain)


# --- dates and revocation -------------------------------------------------------------------


def test_an_expired_variant_is_passed_by() -> None:
    expired = cross(ISSUING, ROOT, days=(-100, -1))
    for pool in permutations((expired, ISSUING)):
        chain, verdict = judged(LEAF, pool, ROOT)
        assert isinstance(verdict, AcceptedPath)
        assert chain == ders(LEAF, ISSUING)
        assert in_order(LEAF.der, ders(*pool, ROOT), NOW) == ders(LEAF, ISSUING, ROOT)
    chain, verdict = judged(LEAF, [expired], ROOT)
    assert (verdict.code, chain) == ("stale.certificate", ders(LEAF, expired))
    assert in_order(LEAF.der, ders(expired, ROOT), NOW) == ders(LEAF, expired, ROOT)


def test_a_revoked_variant_is_passed_by() -> None:
    middle = make_ca("Middle", ROOT)
    revoked, good = (cross(ISSUING, middle) for _ in range(2))
    lists = [make_crl(ROOT), make_crl(middle, [revoked]), make_crl(ISSUING)]
    for pool in permutations((revoked, good, middle)):
        chain, verdict = judged(LEAF, pool, ROOT, crls=lists)
        assert isinstance(verdict, AcceptedPath)
        assert chain == ders(LEAF, good, middle)
    chain, verdict = judged(LEAF, [revoked, middle], ROOT, crls=lists)
    assert (verdict.code, chain) == ("untrusted.revoked", ders(LEAF, revoked, middle))


def test_a_path_that_only_crls_refuse_leaves_the_next_one() -> None:
    crossed = cross(ISSUING, OTHER)
    lists = [make_crl(OTHER), make_crl(ISSUING)]  # none of Root, so that path lacks one
    for pool in permutations((ISSUING, crossed)):
        chain, verdict = judged(LEAF, pool, ROOT, OTHER, crls=lists)
        assert isinstance(verdict, AcceptedPath)
        assert chain == ders(LEAF, crossed)
    chain, verdict = judged(LEAF, [ISSUING], ROOT, crls=lists)
    assert (verdict.code, chain) == ("stale.crl-missing", ders(LEAF, ISSUING))


def test_what_cannot_be_read_is_the_verdict() -> None:
    assert judged(LEAF, [], ROOT, crls=[b"0"]).verdict.code == "malformed.crl"
    chain, verdict = judge_pool(LEAF.der, [b"0"], [ROOT.anchor], purpose="codesign", at=NOW)
    assert (verdict.code, chain) == ("malformed.certificate", (LEAF.der,))  # type: ignore[union-attr]


def test_without_a_path_the_refusal_is_that_of_the_chain() -> None:
    chain, verdict = judged(LEAF, [ISSUING, ROOT], OTHER)
    assert verdict.code == "untrusted.no-anchor"
    assert chain == ders(LEAF, ISSUING, ROOT)


# --- chains of bundles ----------------------------------------------------------------------


def test_a_bundle_is_put_in_order_up_to_its_root() -> None:
    namesake = make_ca("Issuing", ROOT)
    pool = ders(ROOT, LEAF, namesake, ISSUING, ISSUING)
    assert in_order(LEAF.der, pool) == ders(LEAF, ISSUING, ROOT)
    assert in_order(LEAF.der, []) == ders(LEAF)
    assert in_order(LEAF.der, ders(ISSUING)) == ders(LEAF, ISSUING)
    assert in_order(ROOT.der, ders(ROOT, OTHER)) == ders(ROOT)


def test_the_leaf_of_a_file_is_the_first_that_has_issued_no_other() -> None:
    other = make_leaf(ISSUING, "other")
    for order in permutations((ROOT, ISSUING, LEAF)):
        assert leaf_of(ders(*order)) == LEAF.der
    assert leaf_of(ders(ISSUING, other, LEAF)) == other.der
    assert leaf_of(ders(ISSUING, ROOT)) == ISSUING.der
    assert leaf_of((LEAF.der, b"0", ISSUING.der)) == LEAF.der
    assert leaf_of((b"0", LEAF.der, ISSUING.der)) == b"0"
    one, two = make_ca("One"), make_ca("Two")
    circle = ders(cross(one, two), cross(two, one))
    assert leaf_of(circle) == circle[0]


def test_a_bundle_with_cross_certificates_leads_to_the_root_that_is_in_it() -> None:
    crossed, stranger = cross(ROOT, OTHER), cross(ISSUING, make_ca("Stranger"))
    for pool in permutations(ders(stranger, ISSUING, crossed, OTHER)):
        assert in_order(LEAF.der, pool) == ders(LEAF, ISSUING, crossed, OTHER)
        assert in_order(LEAF.der, [*pool, ROOT.der]) == ders(LEAF, ISSUING, ROOT)


@pytest.mark.parametrize("usage", ["TIME_STAMPING", "SERVER_AUTH", "CLIENT_AUTH"])
def test_bundles_of_each_use_are_put_in_order(usage: str) -> None:
    leaf = make_leaf(ISSUING, usages=[getattr(ExtendedKeyUsageOID, usage)])
    stranger = cross(ISSUING, make_ca("Stranger"))
    pool = ders(stranger, ISSUING, ROOT)
    assert in_order(leaf.der, pool) == ders(leaf, ISSUING, ROOT)


def test_lint_does_not_refuse_a_signer_that_has_another_path(tmp_path: Path) -> None:
    issuing = make_ca("Issuing", ROOT, path_length=0, permitted=[VENDOR])
    wrong = cross(issuing, ROOT, path_length=0, permitted=["other.example"])
    leaf = make_leaf(issuing)
    for number, order in enumerate(permutations((wrong, issuing))):
        things: tuple[Entity | bytes, ...] = (ROOT, *order, leaf, *crls(ROOT, issuing))
        assert "refused" not in codes(fill(tmp_path / str(number), *things))
    alone: tuple[Entity | bytes, ...] = (ROOT, wrong, leaf, *crls(ROOT, issuing))
    assert "refused" in codes(fill(tmp_path / "alone", *alone))


def test_dates_are_judged_by_the_time_given() -> None:
    young = cross(ISSUING, ROOT, days=(5, 3650))
    old = cross(ISSUING, ROOT, days=(-10, 8))
    for pool in permutations((young, old)):
        assert in_order(LEAF.der, ders(*pool, ROOT), NOW) == ders(LEAF, old, ROOT)
        later = NOW + 9 * DAY
        assert in_order(LEAF.der, ders(*pool, ROOT), later) == ders(LEAF, young, ROOT)


# --- roots with serial number 0 -------------------------------------------------------------


def test_a_root_with_serial_number_0_is_put_in_order_and_pinned() -> None:
    zero = with_serial(ROOT, b"\0")
    for pool in permutations((zero, ISSUING.der)):
        assert in_order(LEAF.der, pool) == (LEAF.der, ISSUING.der, zero)
        anchors = [Anchor.from_certificate(zero)]
        found = judge_pool(LEAF.der, pool, anchors, purpose="codesign", at=NOW)
        assert isinstance(found.verdict, AcceptedPath)


def test_a_ca_in_the_path_with_serial_number_0_is_refused() -> None:
    zero = with_serial(ISSUING, b"\0", ROOT)
    found = judge_pool(LEAF.der, [zero, ROOT.der], [ROOT.anchor], purpose="codesign", at=NOW)
    assert isinstance(found.verdict, FwsignError)
    assert found.verdict.code == "untrusted.serial"
