"""Attacks on channels: each is refused, with a code and a message."""

import pytest

from channel_kit import (
    channel_pki,
    forged,
    make_channel,
    signed,
    verify_channel,
)
from fwsign.verify.channel import SeenChannel
from hostile import refused_at
from support import NOW, Pki, make_pki, sign_with, verify


@pytest.fixture(scope="module")
def pki() -> Pki:
    return channel_pki()


def test_a_channel_is_verified(pki: Pki) -> None:
    found = verify_channel(signed(pki), [pki.root], name="stable", seen=SeenChannel(6, b"x"))
    assert found.channel == make_channel()
    assert found.unchecked == ()
    assert found.now == NOW
    assert [one.path.name for one in found.signers if one.path] == ["rollout"]


def test_a_channel_signed_by_a_release_key_is_refused() -> None:
    pki = make_pki()
    with refused_at(3, "untrusted.eku", "expected configSigning alone"):
        verify_channel(forged(pki), [pki.root])


def test_a_release_signed_by_a_channel_key_is_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.eku", "expected codeSigning"):
        verify(sign_with(pki), [pki.root])
