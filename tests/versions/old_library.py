"""A plugin of pytest: tests make their certificates with an old version of cryptography, too.

What such a version lacks for making them is put in its place or left out; ML-DSA is skipped.
Nothing that the verify path reads is changed.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import asymmetric
from cryptography.hazmat.primitives.asymmetric import ec


class Absent:
    """A key of ML-DSA, which is not there."""

    @classmethod
    def generate(cls) -> Any:
        """Skip the test that wants one."""
        pytest.skip("this version of cryptography has no ML-DSA")

    @classmethod
    def from_seed_bytes(cls, _: bytes) -> Any:
        """Skip the test that wants one."""
        cls.generate()


class OldEcdsa(ec.ECDSA):
    """ECDSA, whatever its nonces."""

    def __init__(self, algorithm: Any, *, deterministic_signing: bool = False) -> None:
        del deterministic_signing
        super().__init__(algorithm)


def signing(sign: Any) -> Any:
    """Return a builder's method that takes no notice of deterministic nonces."""

    def signed(self: Any, key: Any, algorithm: Any, **more: Any) -> Any:
        more.pop("ecdsa_deterministic", None)
        return sign(self, key, algorithm, **more)

    return signed


mldsa: Any = ModuleType("cryptography.hazmat.primitives.asymmetric.mldsa")
for size in ("44", "65", "87"):
    for half in ("PrivateKey", "PublicKey"):
        setattr(mldsa, f"MLDSA{size}{half}", type(f"MLDSA{size}{half}", (Absent,), {}))
asymmetric.mldsa = mldsa
sys.modules[mldsa.__name__] = mldsa
ec.ECDSA = OldEcdsa  # type: ignore[assignment,misc]
for builder in (x509.CertificateBuilder, x509.CertificateRevocationListBuilder):
    builder.sign = signing(builder.sign)  # type: ignore[method-assign]
