"""Attacks on what a device remembers: CRLs and times that a foreigner or a co-signer brings."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fwsign.memory import crls as state_crls
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy, Slot
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import EARLIEST, MAX_CRL_LEAD, Verifier
from fwsign.x509.crl import HeldCrl, parse_crl
from hostile import refused_at, spki
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Entity,
    Pki,
    ca_extensions,
    certify,
    key_usage,
    leaf_extensions,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    name,
    new_key,
    sign_with,
)

BASE = DevicePolicy(vendor=VENDOR, product=PRODUCT)
BOARD = "mac:a0b765c1d2e3"
YEAR_9990 = (datetime(9990, 1, 1, tzinfo=UTC) - NOW).days
OLD = datetime.fromtimestamp(0, UTC)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "boards.db", create=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def take(
    state: State, envelope: bytes, *anchors: Entity, at: datetime = NOW, base: DevicePolicy = BASE
) -> VerifiedRelease:
    """Verify by what the memory says, and remember."""
    policy, floor = state.policy(base, BOARD)
    release = Verifier([one.anchor for one in anchors], policy).verify(envelope, at=at)
    state.accept(BOARD, release, floor)
    return release


def held(state: State) -> list[bytes]:
    return [one.data for one in state.policy(BASE, BOARD)[0].held]


def impostor(of: Entity, above: Entity, *, vendors: list[str]) -> tuple[Pki, tuple[bytes, ...]]:
    """Make a CA below `above` with the name and the key identifier of another; and its CRLs."""
    key = new_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(of.key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key())
    own = [*ca_extensions(permitted=vendors), (identifier, False), (issuer, False)]
    fake = certify(key, of.certificate.subject, above, own, identifiers=False, days=(-10, 3650))
    leaf_issuer = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
    mine = make_leaf(fake, "mine", vendors=vendors)
    extensions = [(one.value, one.critical) for one in mine.certificate.extensions]
    extensions = [one for one in extensions if not isinstance(one[0], x509.AuthorityKeyIdentifier)]
    leaf = certify(
        mine.key, name("mine"), fake, [*extensions, (leaf_issuer, False)], identifiers=False
    )
    crl = make_crl(of, number=99, signer=fake)
    return Pki(above, fake, leaf), (crl, make_crl(above))


def with_foreign_block(pki: Pki, foreign: Pki, crls: tuple[bytes, ...], number: int) -> bytes:
    """Make a genuine release, to which someone has added a block of his own."""
    genuine = (pki.leaf, [pki.issuing], pki.crls)
    return make_envelope(
        make_manifest(sequence_number=number), [genuine, (foreign.leaf, [foreign.issuing], crls)]
    )


# --- held CRLs ------------------------------------------------------------------------------


@pytest.mark.parametrize("vendors", [["other.example"], [VENDOR]], ids=["limited", "unlimited"])
def test_a_foreign_crl_under_our_name_and_key_identifier_stops_nothing(
    pki: Pki, state: State, vendors: list[str]
) -> None:
    """Whoever runs a CA below any anchor could otherwise end a device's updates for good."""
    other = make_ca("Other root")
    foreign, crls = impostor(pki.issuing, other, vendors=vendors)
    assert parse_crl(crls[0]).authority_key == parse_crl(pki.crls[0]).authority_key
    release = take(state, with_foreign_block(pki, foreign, crls, 100), pki.root, other)
    counts = [one.refusal is None for one in release.signers]
    assert counts == [True, vendors == [VENDOR]]
    for number in (101, 102):
        envelope = sign_with(pki, make_manifest(sequence_number=number))
        assert take(state, envelope, pki.root, other).manifest.sequence_number == number


def test_a_block_for_another_vendor_teaches_nothing(pki: Pki, state: State) -> None:
    other = make_ca("Other root")
    foreign, crls = impostor(pki.issuing, other, vendors=["other.example"])
    take(state, with_foreign_block(pki, foreign, crls, 100), pki.root, other)
    assert len(held(state)) == 2
    assert not {*crls} & {*held(state)}


def test_a_revoked_block_for_another_vendor_teaches_nothing(pki: Pki, state: State) -> None:
    other = make_pki(vendors=["other.example"], common="Other ")
    lists = (make_crl(other.issuing, [other.leaf], number=7), make_crl(other.root))
    release = take(state, with_foreign_block(pki, other, lists, 100), pki.root, other.root)
    refusal = release.signers[1].refusal
    assert refusal is not None
    assert (refusal.code, release.signers[1].for_vendor) == ("untrusted.revoked", False)
    assert not {*lists} & {*held(state)}


def test_a_held_crl_that_does_not_verify_is_not_used(pki: Pki) -> None:
    forged = make_crl(pki.issuing, [pki.leaf], number=9, signer=pki.root)
    base = BASE._replace(min_sequence=0, held=(HeldCrl(spki(pki.issuing.key), forged),))
    release = Verifier([pki.root.anchor], base).verify(sign_with(pki), at=NOW)
    assert [len(one.crls) for one in release.signers[0].issued] == [1, 1]


def test_a_given_crl_of_another_key_is_not_used_and_noted(pki: Pki) -> None:
    """A standby root, or a CA's key of before: same name, another key."""
    forged = make_crl(pki.issuing, [pki.leaf], number=9, signer=pki.root)
    base = BASE._replace(min_sequence=0, crls=(forged,))
    release = Verifier([pki.root.anchor], base).verify(sign_with(pki), at=NOW)
    assert release.notes == ('a CRL of "Issuing" that was given is of another key, and not used',)


def test_a_revoked_signer_stays_revoked_beside_a_foreign_crl(pki: Pki, state: State) -> None:
    """What is held by key still outranks the older CRL that is replayed."""
    good = make_leaf(pki.issuing, "good")
    revoking = (make_crl(pki.issuing, [pki.leaf], number=7), make_crl(pki.root))
    take(state, sign_with(Pki(pki.root, pki.issuing, good), crls=revoking), pki.root)
    other = make_ca("Other root")
    foreign, crls = impostor(pki.issuing, other, vendors=[VENDOR])
    envelope = make_envelope(
        make_manifest(sequence_number=101), [(foreign.leaf, [foreign.issuing], crls)]
    )
    take(state, envelope, pki.root, other)
    with refused_at(5, "untrusted.revoked", '"release" revoked'):
        take(state, sign_with(pki, make_manifest(sequence_number=102)), pki.root, other)


def test_another_certificate_for_our_ca_does_not_hide_what_it_revoked(
    pki: Pki, state: State
) -> None:
    """A foreign CA certifies our CA's key and name, without cRLSign: the list counts anyway."""
    good = make_leaf(pki.issuing, "good")
    revoking = (make_crl(pki.issuing, [pki.leaf], number=7), make_crl(pki.root))
    take(state, sign_with(Pki(pki.root, pki.issuing, good), crls=revoking), pki.root)
    other = make_ca("Other root")
    usage = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (key_usage("key_cert_sign"), True),
    ]
    again = certify(pki.issuing.key, name("Issuing"), other, usage)
    manifest = make_manifest(sequence_number=101)
    for lists in ((), (make_crl(other),)):
        envelope = make_envelope(manifest, [(pki.leaf, [again], lists)])
        with refused_at(5, "untrusted.revoked", '"release" revoked'):
            take(state, envelope, pki.root, other)


def test_a_revocation_is_learned_from_the_block_that_it_makes_not_count(
    pki: Pki, state: State
) -> None:
    """Else the same signer comes back with the CRL of before."""
    second = make_pki(common="Second ")
    revoking = (make_crl(pki.issuing, [pki.leaf], number=7), make_crl(pki.root))
    blocks = [
        (pki.leaf, [pki.issuing], revoking),
        (second.leaf, [second.issuing], second.crls),
    ]
    anchors = (pki.root, second.root)
    take(state, make_envelope(make_manifest(), blocks), *anchors)
    assert revoking[0] in held(state)
    with refused_at(5, "untrusted.revoked"):
        take(state, sign_with(pki, make_manifest(sequence_number=101)), *anchors)


def test_a_flood_of_crls_lets_go_of_the_flood_alone(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sub-CAs without end, each with a CRL; ours, which revokes, has to stay."""
    monkeypatch.setattr(state_crls, "MAX_HELD_SIZE", 12 * state_crls.ROW_SIZE)
    good = make_leaf(pki.issuing, "good")
    revoking = (make_crl(pki.issuing, [pki.leaf], number=7), make_crl(pki.root))
    take(state, sign_with(Pki(pki.root, pki.issuing, good), crls=revoking), pki.root)
    flooder = make_ca("Flooder", pki.root)  # below the same root, and with a limit of no kind
    for number in range(101, 113):
        chain = [flooder]
        for depth in range(3):
            chain.insert(0, make_ca(f"Sub {depth}", chain[0]))
        leaf = make_leaf(chain[0])
        lists = [make_crl(one) for one in (*chain, pki.root)]
        manifest = make_manifest(sequence_number=number)
        take(state, make_envelope(manifest, [(leaf, chain, lists)]), pki.root)
    assert len(held(state)) <= 11
    assert {*revoking} <= {*held(state)}
    with refused_at(5, "untrusted.revoked"):
        take(state, sign_with(pki, make_manifest(sequence_number=200)), pki.root)


def test_a_foreign_path_to_our_key_does_not_move_our_part(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flooder certifies our CA's key too: our list then stands below both, and stays."""
    monkeypatch.setattr(state_crls, "MAX_HELD_SIZE", 12 * state_crls.ROW_SIZE)
    flooder = make_ca("Flooder", pki.root)
    ours = make_crl(pki.issuing, number=7)
    take(state, sign_with(pki, crls=(ours, make_crl(pki.root))), pki.root)
    again = certify(pki.issuing.key, name("Issuing"), flooder, ca_extensions())
    lists = (ours, make_crl(flooder), make_crl(pki.root))
    for number in range(101, 116):
        sub = make_ca("Sub", flooder)
        manifest = make_manifest(sequence_number=number)
        blocks = [
            (pki.leaf, [again, flooder], lists),
            (make_leaf(sub), [sub, flooder], [make_crl(sub), *lists[1:]]),
        ]
        take(state, make_envelope(manifest, blocks), pki.root)
    keys = [one.key for one in state.policy(BASE, BOARD)[0].held]
    assert spki(pki.issuing.key) in keys
    assert len(keys) <= 11


def test_a_ca_lets_go_of_its_own_lists_too(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gives many lists one number, or signs its own CAs again and again."""
    monkeypatch.setattr(state_crls, "MAX_HELD_SIZE", 4 * state_crls.ROW_SIZE)
    many = [make_crl(pki.issuing, days=(-1, 30 + day)) for day in range(5)]
    take(state, sign_with(pki, crls=[*many, make_crl(pki.root)]), pki.root)
    assert len(held(state)) == 3
    assert set(held(state)[:2]) <= set(many)


def test_a_full_memory_is_not_written_again_and_again(pki: Pki, state: State) -> None:
    release = take(state, sign_with(pki), pki.root)
    assert state.knows(release)
    high = [make_crl(one, number=9) for one in (pki.issuing, pki.root)]
    take(state, sign_with(pki, make_manifest(sequence_number=101), crls=high), pki.root)
    assert state.knows(release)  # it has lower ones, which are not held
    assert not State.knows(state, verified(make_pki(common="Third ")))


def test_a_release_with_more_crls_than_fit_is_not_written_again_and_again(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign block with too many: a gateway that polls would wear its disk out."""
    monkeypatch.setattr(state_crls, "MAX_HELD_SIZE", 6 * state_crls.ROW_SIZE)
    flooder = make_ca("Flooder", pki.root)
    subs = [make_ca(f"Sub {number}", flooder) for number in range(4)]
    signers = [
        (make_leaf(sub), [sub, flooder], [make_crl(sub), make_crl(sub, days=(-1, 31))])
        for sub in subs
    ]
    envelope = make_envelope(make_manifest(), [(pki.leaf, [pki.issuing], pki.crls), *signers])
    release = take(state, envelope, pki.root)
    before = held(state)
    assert len(before) == 5
    for _ in range(2):
        assert state.knows(release)
        take(state, envelope, pki.root)
        assert held(state) == before


def verified(pki: Pki) -> VerifiedRelease:
    return Verifier([pki.root.anchor], BASE).verify(sign_with(pki), at=NOW)


# --- times ----------------------------------------------------------------------------------


def far(pki: Pki, days: int = YEAR_9990) -> list[bytes]:
    return [make_crl(one, days=(days, days + 365)) for one in (pki.issuing, pki.root)]


def forever(common: str = "Second ") -> Pki:
    """Make a PKI whose certificates outlive every calendar."""
    days = (-10, YEAR_9990 + 3000)
    root = make_ca(f"{common}Root", days=days)
    issuing = make_ca(f"{common}Issuing", root, path_length=0, days=days)
    return Pki(root, issuing, make_leaf(issuing, f"{common}release", days=days))


def cosigned(pki: Pki, second: Pki, lists: list[bytes], number: int = 100, **more: Any) -> bytes:
    blocks = [(pki.leaf, [pki.issuing], pki.crls), (second.leaf, [second.issuing], lists)]
    return make_envelope(make_manifest(sequence_number=number, **more), blocks)


@pytest.mark.parametrize("at", [NOW, OLD], ids=["clock right", "clock in 1970"])
@pytest.mark.parametrize("threshold", [1, 2])
def test_one_of_two_signers_does_not_move_the_time(
    pki: Pki, state: State, at: datetime, threshold: int
) -> None:
    """A CRL of the year 9990 would make every later release stale."""
    second = forever()
    base = BASE._replace(threshold=threshold)
    anchors = (pki.root, second.root)
    release = take(state, cosigned(pki, second, far(second)), *anchors, at=at, base=base)
    assert [one.refusal for one in release.signers] == [None, None]
    assert release.known_time == NOW - DAY
    assert state.policy(BASE, BOARD)[0].time_floor == NOW - DAY
    take(state, sign_with(pki, make_manifest(sequence_number=101)), *anchors, at=at)


def test_the_far_time_counts_for_its_own_path(pki: Pki, state: State) -> None:
    second = forever()
    anchors = (pki.root, second.root)
    take(state, cosigned(pki, second, far(second)), *anchors)
    release = take(state, cosigned(pki, second, list(second.crls), 101), *anchors)
    assert [one.now.year for one in release.signers] == [2026, 9989]


def test_a_single_signer_does_not_move_a_time_that_the_clock_denies(state: State) -> None:
    only = forever()
    release = take(state, sign_with(only, crls=far(only)), only.root)
    assert (release.known_time, state.policy(BASE, BOARD)[0].time_floor) == (None, None)


def test_a_single_signer_does_not_move_the_time_in_two_steps(state: State) -> None:
    """First by the day that is believed, so that the clock is behind; then to any year."""
    only = forever()
    take(state, sign_with(only, crls=far(only, 1)), only.root)
    assert state.policy(BASE, BOARD)[0].time_floor == NOW + DAY
    lists = [make_crl(one, number=9, days=(300, 400)) for one in (only.issuing, only.root)]
    take(state, sign_with(only, make_manifest(sequence_number=101), crls=lists), only.root)
    assert state.policy(BASE, BOARD)[0].time_floor == NOW + DAY


@pytest.mark.parametrize(
    ("days", "known"), [(0, True), (1, True), (1.00002, False), (30, False)], ids=str
)
def test_a_crl_may_be_ahead_of_the_clock_by_a_day(
    pki: Pki, state: State, days: float, known: bool
) -> None:
    assert MAX_CRL_LEAD == DAY
    at = NOW - DAY - days * DAY  # the CRLs are a day old
    release = take(state, sign_with(pki), pki.root, at=at)
    assert release.known_time == (NOW - DAY if known else None)
    assert state.policy(BASE, BOARD)[0].time_floor == release.known_time


def test_a_clock_from_before_this_program_learns_from_crls(pki: Pki, state: State) -> None:
    for at in (OLD, EARLIEST - DAY):
        assert take(state, sign_with(pki), pki.root, at=at).known_time == NOW - DAY
    assert state.policy(BASE, BOARD)[0].time_floor == NOW - DAY
    assert take(state, sign_with(pki), pki.root, at=EARLIEST).known_time == NOW - DAY


def test_a_clock_behind_the_floor_learns_from_crls(pki: Pki, state: State) -> None:
    take(state, sign_with(pki), pki.root)
    later = [make_crl(one, number=9, days=(50, 90)) for one in (pki.issuing, pki.root)]
    behind = NOW - 3 * DAY
    manifest = make_manifest(sequence_number=101)
    release = take(state, sign_with(pki, manifest, crls=later), pki.root, at=behind)
    assert release.known_time == NOW + 50 * DAY


def test_with_a_wrong_clock_all_signers_have_to_know_the_time(pki: Pki, state: State) -> None:
    second = make_pki(common="Second ")
    anchors = (pki.root, second.root)
    near = [make_crl(one, number=9, days=(5, 60)) for one in (second.issuing, second.root)]
    assert take(state, cosigned(pki, second, near), *anchors, at=OLD).known_time == NOW - DAY
    third = make_pki(common="Third ")
    silent = cosigned(pki, third, [], 101)  # it says nothing about the time
    assert take(state, silent, pki.root, third.root, at=OLD).known_time is None


def test_vendors_that_share_a_memory_have_times_of_their_own(pki: Pki, state: State) -> None:
    """One vendor's CRLs could otherwise make another's boards refuse everything."""
    theirs = "other.example"
    other = make_pki(vendors=[theirs], common="Other ")
    ahead = [make_crl(one, days=(300, 400)) for one in (other.issuing, other.root)]
    manifest = make_manifest(vendor=theirs)
    base = DevicePolicy(vendor=theirs, product=PRODUCT)
    take(state, sign_with(other, manifest, crls=ahead), other.root, at=OLD, base=base)
    assert state.policy(base, BOARD)[0].time_floor == NOW + 300 * DAY
    for policy in (BASE, DevicePolicy()):
        assert state.policy(policy, BOARD)[0].time_floor is None
    assert take(state, sign_with(pki), pki.root).now == NOW
    assert state.policy(base, BOARD)[0].time_floor == NOW + 300 * DAY


def test_a_slot_is_not_filled_by_a_revoked_signer_after_a_flood(
    pki: Pki, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One signer of two floods, so that the stolen key of the other counts again."""
    monkeypatch.setattr(state_crls, "MAX_HELD_SIZE", 9 * state_crls.ROW_SIZE)
    insider = make_ca("Insider")
    slots = (Slot("ours", spki(pki.root.key)), Slot("insider", spki(insider.key)))
    base = BASE._replace(slots=slots)
    good = make_leaf(pki.issuing, "good")
    revoking = (make_crl(pki.issuing, [pki.leaf], number=7), make_crl(pki.root))
    anchors = (pki.root, insider)

    def envelope(number: int, *ours: Any) -> bytes:
        sub = make_ca("Sub", insider)
        theirs = (make_leaf(sub), [sub], [make_crl(sub), make_crl(insider)])
        return make_envelope(make_manifest(sequence_number=number), [ours, theirs])

    for number in range(100, 112):
        release = envelope(number, good, [pki.issuing], revoking)
        take(state, release, *anchors, base=base)
    with refused_at(5, "untrusted.revoked"):
        take(state, envelope(200, pki.leaf, [pki.issuing], pki.crls), *anchors, base=base)


def place(name_: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(f"http://acme.example/{name_}.crl")]


def part(issuer: Entity, name_: str, *revoked: Entity, number: int) -> bytes:
    """Make a part of a split list, which says where it is found."""
    point = x509.IssuingDistributionPoint(
        full_name=place(name_),
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    return make_crl(issuer, revoked, number=number, extensions=[(point, True)])


def listed_in(issuer: Entity, name_: str) -> Entity:
    point = x509.DistributionPoint(place(name_), None, None, None)
    own = [*leaf_extensions(), (x509.CRLDistributionPoints([point]), False)]
    return make_leaf(issuer, f"of {name_}", extensions=own)


def test_parts_of_a_split_list_do_not_push_each_other_out(pki: Pki, state: State) -> None:
    one, two = (listed_in(pki.issuing, name_) for name_ in "ab")
    top = make_crl(pki.root)

    def signed(leaf: Entity, number: int, *lists: bytes) -> bytes:
        return sign_with(
            Pki(pki.root, pki.issuing, leaf),
            make_manifest(sequence_number=number),
            crls=[*lists, top],
        )

    take(state, signed(two, 100, part(pki.issuing, "b", number=50)), pki.root)
    both = (part(pki.issuing, "a", one, number=9), part(pki.issuing, "b", number=51))
    take(state, signed(two, 101, *both), pki.root)  # its own part has the higher number
    assert {*both} <= {*held(state)}
    with refused_at(5, "untrusted.revoked", '"of a" revoked'):
        take(state, signed(one, 102, part(pki.issuing, "a", number=8)), pki.root)
    other = listed_in(pki.issuing, "a")
    take(state, signed(other, 102, both[0]), pki.root)  # 51 is not for it, and does not stop it
    with refused_at(5, "untrusted.crl", "/b.crl", 'certificate "of c" names http'):
        take(state, signed(listed_in(pki.issuing, "c"), 103, both[1]), pki.root)


def test_a_newer_part_does_not_hide_a_revocation_from_a_signer_that_names_none(
    pki: Pki, state: State
) -> None:
    """Each part has numbers of its own; the signer's certificate says nothing of parts."""
    good, top = make_leaf(pki.issuing, "good"), make_crl(pki.root)
    revoking = part(pki.issuing, "a", pki.leaf, number=7)
    take(state, sign_with(Pki(pki.root, pki.issuing, good), crls=[revoking, top]), pki.root)
    manifest = make_manifest(sequence_number=101)
    for lists in ([part(pki.issuing, "b", number=8)], [make_crl(pki.issuing, number=6)], []):
        with refused_at(5, "untrusted.revoked", '"release" revoked'):
            take(state, sign_with(pki, manifest, crls=[*lists, top]), pki.root)
    whole = make_crl(pki.issuing, number=8)  # one that is no part replaces every part
    take(state, sign_with(pki, manifest, crls=[whole, top]), pki.root)


def test_a_held_crl_without_number_revokes_in_strict_too(pki: Pki, state: State) -> None:
    """A memory from times of compat; an older list that has a number must not hide it."""
    good, top = make_leaf(pki.issuing, "good"), make_crl(pki.root)
    revoking = make_crl(pki.issuing, [pki.leaf], number=None)
    compat = BASE._replace(profile="compat")
    envelope = sign_with(Pki(pki.root, pki.issuing, good), crls=[revoking, top])
    take(state, envelope, pki.root, base=compat)
    manifest = make_manifest(sequence_number=101)
    for lists in ([make_crl(pki.issuing, number=99, days=(-5, 30)), top], [top], []):
        with refused_at(5, "untrusted.revoked", '"release" revoked'):
            take(state, sign_with(pki, manifest, crls=lists), pki.root)
    newer = make_crl(pki.issuing, number=1, days=(0, 30))
    take(state, sign_with(pki, manifest, crls=[newer, top]), pki.root)
