"""Lines from anywhere in a chain, and devices whose clock or key was not there from the start."""

from datetime import timedelta

import pytest
from cryptography import x509

from collect.kit import Chain, chain_of, device_leaf, devices_ca, devices_root
from fwsign.receipts.chain import judge_lines, line_digest
from fwsign.x509 import revocation
from fwsign.x509.crl import Crl, parse_crl
from gateway.server import LONG
from support import NOW, Entity, make_crl, refused

ANCHORS = (devices_root().anchor,)


def lists(*revoked: Entity) -> tuple[bytes, ...]:
    return make_crl(devices_ca(), revoked, days=LONG), make_crl(devices_root(), days=LONG)


def test_lines_after_a_known_one_are_judged() -> None:
    lines = chain_of("gw-1", 4).lines
    found = list(judge_lines(lines[2:], (), ANCHORS, after=line_digest(lines[1])))
    assert [one.signer for one in found] == ["gw-1", "gw-1"]
    with refused("tampered.receipt-chain", "receipt 1 names"):
        list(judge_lines(lines[2:], (), ANCHORS, after=line_digest(lines[0])))
    with refused("tampered.receipt-chain", "as the one before it, that is none"):
        list(judge_lines(lines[2:], (), ANCHORS))


def test_a_record_of_pruned_lines_is_one_at_the_beginning_alone() -> None:
    """Elsewhere it is a line like others: it cannot hide that lines are missing."""
    device = chain_of("gw-1", 3)
    gone = line_digest(device.lines[2])
    other = Chain("gw-1")
    other.lines = device.lines[:1]
    other.add(kind="pruned", pruned={"receipts": 2, "head": gone})
    other.add(previous=gone)
    with refused("tampered.receipt-chain", "receipt 2 names"):
        list(judge_lines(other.lines[1:], (), ANCHORS, after=line_digest(other.lines[0])))


def test_a_clock_of_1970_is_judged_unless_dates_do_not_count() -> None:
    device = Chain("gw-1")
    device.add(clock="1970-01-01T00:10:00+00:00")
    with refused("stale.not-yet-valid", "receipt 1: "):
        list(judge_lines(device.lines, (), ANCHORS, crls=lists()))
    (found,) = judge_lines(device.lines, (), ANCHORS, crls=lists(), dates=False)
    assert found.signer == "gw-1"


def test_revocation_counts_without_dates() -> None:
    device = Chain("gw-stolen")
    device.add(clock=(NOW - timedelta(days=100)).isoformat())
    with refused("untrusted.revoked", 'receipt 1: certificate "gw-stolen" revoked'):
        list(
            judge_lines(
                device.lines, (), ANCHORS, crls=lists(device_leaf("gw-stolen")), dates=False
            )
        )


def test_long_lists_are_read_once_for_all_lines_of_a_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device waits some seconds for an answer, and a list can be of tens of thousands."""
    read = list[bytes]()

    def counted(data: bytes) -> Crl:
        read.append(data)
        return parse_crl(data)

    monkeypatch.setattr(revocation, "parse_crl", counted)
    lines = chain_of("gw-1", 20).lines
    assert len(list(judge_lines(lines, (), ANCHORS, crls=lists(), dates=False))) == 20
    assert len(read) == 2


def test_each_line_of_a_device_that_was_taken_out_of_use_has_its_own_time() -> None:
    device = Chain("gw-1")
    for days in (3, 2, 0):
        device.add(clock=(NOW - timedelta(days=days)).isoformat())
    over = x509.ReasonFlags.cessation_of_operation
    both = (
        make_crl(devices_ca(), (device_leaf("gw-1"),), days=LONG, reason=over),
        make_crl(devices_root(), days=LONG),
    )
    judged = judge_lines(device.lines, (), ANCHORS, crls=both, dates=False)
    assert [next(judged).signer, next(judged).signer] == ["gw-1", "gw-1"]
    with refused("untrusted.revoked", 'receipt 3: certificate "gw-1" revoked'):
        next(judged)


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_line_without_a_signature_passes_only_where_that_was_said(unsigned: bool) -> None:
    device = Chain("gw-1")
    device.lines = chain_of("gw-1", 1, signed=False).lines
    device.add()
    judged = judge_lines(device.lines, (), ANCHORS, unsigned=unsigned)
    if unsigned:
        assert [one.signer for one in judged] == [None, "gw-1"]
        forged = [device.lines[0], device.lines[1].replace("installed", "committed")]
        with refused("tampered.signature", "receipt 2: "):
            list(judge_lines(forged, (), ANCHORS, unsigned=True))
    else:
        with refused("untrusted.receipt", "receipt 1: it is not signed"):
            list(judged)
