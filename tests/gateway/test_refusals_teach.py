"""A refusal teaches the CRL that made it, so that the same signer does not come back without it."""

from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.memory import crls as held
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from gateway.kit import Gateway, make_gateway, namesake, pki
from support import (
    DAY,
    NOW,
    VENDOR,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    refused,
    sign_with,
)

FILES = {"app.bin": b"application"}
REVOKING = (make_crl(pki().issuing, [pki().leaf], number=9), make_crl(pki().root, number=9))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def lists(gateway: Gateway) -> set[bytes]:
    with State.open(gateway.base / "state.db") as state:
        return {one.data for one in state.policy(DevicePolicy(), None)[0].held}


def test_a_revoked_signer_does_not_come_back_with_an_older_crl(gateway: Gateway) -> None:
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(1, FILES, crls=REVOKING))
    assert lists(gateway) == {*REVOKING}
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(2, FILES))  # the usual, older CRLs
    assert (gateway.installed, gateway.floor) == (None, None)
    good = make_leaf(pki().issuing, "good")
    signer = (good, [pki().issuing], REVOKING)
    assert gateway.install(gateway.release(3, FILES, signers=[signer])).verdict == "installed"


def test_neither_floor_nor_time_is_learned(gateway: Gateway) -> None:
    future = (
        make_crl(pki().issuing, [pki().leaf], number=9, days=(0, 30)),
        make_crl(pki().root, number=9, days=(0, 30)),
    )
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(10**9, FILES, crls=future))
    with State.open(gateway.base / "state.db") as state:
        policy, floor = state.policy(DevicePolicy(vendor=VENDOR, product="gateway-x1"), None)
    assert (floor, policy.time_floor) == (None, None)


def test_polls_with_the_same_refusal_do_not_write_again(gateway: Gateway) -> None:
    envelope = gateway.release(1, FILES, crls=REVOKING)
    for _ in range(2):
        with refused("untrusted.revoked"):
            gateway.install(envelope)
    before = (gateway.base / "state.db").read_bytes()
    with refused("untrusted.revoked"):
        gateway.install(envelope)
    assert (gateway.base / "state.db").read_bytes() == before


def test_a_dry_run_learns_nothing(gateway: Gateway) -> None:
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(1, FILES, crls=REVOKING), dry_run=True)
    assert lists(gateway) == set()


NEWER = (make_crl(pki().issuing, number=9), make_crl(pki().root, number=9))


@pytest.mark.parametrize(
    ("number", "more", "code", "words"),
    [
        (1, {}, "unsuitable.rollback", "sequence number 1 is below 2"),
        (2, {}, "unsuitable.conflict", "sequence number 2"),
        (
            *(3, {"use_before": int((NOW - DAY).timestamp())}),
            *("stale.release", "the release was to be used before"),
        ),
    ],
)
def test_a_release_that_is_refused_for_its_age_teaches_its_crls(
    gateway: Gateway, number: int, more: dict[str, int], code: str, words: str
) -> None:
    gateway.install(gateway.release(2, FILES))
    floor = gateway.floor
    envelope = gateway.release(number, {"app.bin": b"another"}, crls=NEWER, **more)
    with refused(code, words):
        gateway.install(envelope)
    assert lists(gateway) == {*NEWER}
    assert gateway.floor == floor
    before = (gateway.base / "state.db").read_bytes()
    with refused(code, words):
        gateway.install(envelope)
    assert (gateway.base / "state.db").read_bytes() == before


def test_a_revocation_on_an_old_release_counts_for_the_next_one(gateway: Gateway) -> None:
    gateway.install(gateway.release(2, FILES))
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(1, FILES, crls=REVOKING))
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(3, FILES))


def test_an_old_release_of_another_vendor_teaches_nothing(tmp_path: Path) -> None:
    other = make_pki(vendors=["other.example"], common="Other ")
    gateway = make_gateway(tmp_path, anchors=[pki().root.anchor, other.root.anchor])
    gateway.install(gateway.release(2, FILES))
    before = lists(gateway)
    newer = (make_crl(other.issuing, number=9), make_crl(other.root, number=9))
    with refused("untrusted.vendor"):
        signer = (other.leaf, [other.issuing], newer)
        gateway.install(gateway.release(1, FILES, signers=[signer]))
    assert lists(gateway) == before


def test_a_good_signer_whose_release_does_not_suit_teaches_nothing(gateway: Gateway) -> None:
    gateway.install(gateway.release(2, FILES))
    before = lists(gateway)
    with refused("unsuitable.product"):
        gateway.install(gateway.release(3, FILES, crls=NEWER, product="sensor"))
    assert lists(gateway) == before


def test_a_foreign_ca_teaches_nothing(gateway: Gateway) -> None:
    """Its CRLs verify under no anchor of this device, whatever name the CA has."""
    fake = namesake(pki().issuing)
    leaf = make_leaf(fake)
    forged = (make_crl(fake, [pki().leaf], number=99), make_crl(pki().root, number=2))
    with pytest.raises(FwsignError):
        gateway.install(gateway.release(1, FILES, signers=[(leaf, [fake], forged)]))
    assert lists(gateway) == set()
    assert gateway.install(gateway.release(2, FILES)).verdict == "installed"


@pytest.mark.parametrize("by", ["root", "stranger"])
def test_a_forged_crl_teaches_nothing(gateway: Gateway, by: str) -> None:
    signer = pki().root if by == "root" else make_ca("Stranger")
    forged = make_crl(pki().issuing, [pki().leaf], number=99, signer=signer)
    with pytest.raises(FwsignError):
        gateway.install(gateway.release(1, FILES, crls=(forged, make_crl(pki().root))))
    assert lists(gateway) == set()
    assert gateway.install(gateway.release(2, FILES)).verdict == "installed"


def test_a_signer_for_another_vendor_teaches_nothing(tmp_path: Path) -> None:
    other = make_pki(vendors=["other.example"], common="Other ")
    gateway = make_gateway(tmp_path, anchors=[pki().root.anchor, other.root.anchor])
    revoking = (make_crl(other.issuing, [other.leaf], number=9), make_crl(other.root, number=9))
    signer = (other.leaf, [other.issuing], revoking)
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(1, FILES, signers=[signer]))
    assert lists(gateway) == set()


def test_a_block_of_a_revoked_signer_teaches_beside_a_foreign_one(gateway: Gateway) -> None:
    stranger = make_pki(common="Stranger ")
    first = (stranger.leaf, [stranger.issuing], stranger.crls)
    second = (pki().leaf, [pki().issuing], REVOKING)
    with refused("untrusted.no-anchor"):
        gateway.install(gateway.release(1, FILES, signers=[first, second]))
    assert lists(gateway) == {*REVOKING}


def test_a_flood_of_crls_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD_SIZE", 4 * held.ROW_SIZE + 4000)
    with refused("untrusted.revoked"):
        gateway.install(gateway.release(1, FILES, crls=REVOKING))
    hostile = make_ca("Hostile", pki().root)
    own = make_crl(hostile)
    for number in range(10):
        sub = make_ca(f"Sub {number}", hostile)
        leaf = make_leaf(sub)
        chain = (make_crl(sub, [leaf], number=1), own, REVOKING[1])
        with refused("untrusted.revoked"):
            signer = (leaf, [sub, hostile], chain)
            gateway.install(gateway.release(2 + number, FILES, signers=[signer]))
    found = lists(gateway)
    assert len(found) <= 4
    assert {*REVOKING} <= found  # who brings most loses its own


def test_a_bare_key_and_a_device_without_vendor_teach_nothing() -> None:
    revoked = sign_with(pki(), crls=REVOKING)
    anchors = [pki().root.anchor]
    assert Verifier(anchors, DevicePolicy()).teaching(revoked, at=NOW) == ()
    mine = Verifier(anchors, DevicePolicy(vendor=VENDOR))
    assert {crl.data for one in mine.teaching(revoked, at=NOW) for crl in one.crls} == {*REVOKING}
    stranger = sign_with(make_pki(common="Stranger "))
    assert mine.teaching(stranger, at=NOW) == ()


def test_what_does_not_read_teaches_nothing() -> None:
    verifier = Verifier([pki().root.anchor], DevicePolicy(vendor=VENDOR))
    with refused("malformed.cbor"):
        verifier.teaching(b"\xff", at=NOW)
    wrong = make_envelope(make_manifest(), [(pki().leaf, [pki().issuing], REVOKING)])
    broken = wrong.replace(b"build.bin", b"build.bim", 1)
    with refused("tampered.manifest"):
        verifier.teaching(broken, at=NOW)
    with refused("state.clock"):
        verifier.teaching(wrong, at=NOW.replace(tzinfo=None))
