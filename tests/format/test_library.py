"""What differs between versions of cryptography, with the oldest of them played."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.format import library
from fwsign.format.algorithms import KEYS, KeyKind
from fwsign.format.library import ecdsa, major, require, types, utc
from support import refused

NAIVE = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as old versions give them


def test_times_have_their_zone() -> None:
    new = SimpleNamespace(last_update_utc=NAIVE.replace(tzinfo=UTC), last_update=None)
    assert utc(new, "last_update") == NAIVE.replace(tzinfo=UTC)
    assert utc(SimpleNamespace(last_update=NAIVE), "last_update") == NAIVE.replace(tzinfo=UTC)
    assert utc(SimpleNamespace(next_update=None), "next_update") is None
    assert utc(SimpleNamespace(next_update_utc=None), "next_update") is None


def test_kinds_of_keys_that_are_not_there_have_no_type(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {kind.name for _, kind in types()} == {"Ed25519", "RSA", "ML-DSA-65", "ML-DSA-87"}
    lacking = KeyKind("New", "ML-DSA", "nothing.New", {})
    assert lacking.imported("PublicKey") is None
    assert KeyKind("New", "ML-DSA", "ec.New", {}).imported("PublicKey") is None
    monkeypatch.setattr(library, "KEYS", (lacking, *KEYS[:3]))
    assert [kind.name for _, kind in types()] == ["Ed25519"]


def test_what_needs_a_newer_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    require(major(), "this")
    monkeypatch.setattr("cryptography.__version__", "43.0.0")
    require(43, "this")
    with refused("state.library", "a PKI needs cryptography 48 or newer, found 43.0.0") as caught:
        require(48, "a PKI")
    assert (caught.value.expected, caught.value.found) == ("cryptography 48 or newer", "43.0.0")


@pytest.mark.parametrize("error", [TypeError, UnsupportedAlgorithm])
def test_ecdsa_without_deterministic_nonces(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ecdsa(hashes.SHA256()).deterministic_signing

    def old(hashed: Any, **more: Any) -> Any:
        if more:
            raise error("no")
        return hashed

    monkeypatch.setattr(ec, "ECDSA", old)
    assert isinstance(ecdsa(hashes.SHA384()), hashes.SHA384)
