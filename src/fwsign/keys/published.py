# SPDX-License-Identifier: Apache-2.0
"""Keys whose private halves are published, so that anyone can sign with them.

An entry is the SHA-256 of a SubjectPublicKeyInfo. To add one, give the output of `openssl pkey
-pubout -outform DER | sha256sum` for the key, and the place where its private half is published.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fwsign.errors import Untrusted
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.x509.certificate import key_digest

_UMH: Final = "United Manufacturing Hub's"

PUBLISHED: Final[Mapping[str, str]] = MappingProxyType(
    {
        # github.com/mcu-tools/mcuboot: root-rsa-2048.pem, which its manual signs with
        "a14bcb1bf9bb821146ba32838217e476f5412621320534ffe490a1890c994660": "MCUboot's RSA-2048",
        # github.com/mcu-tools/mcuboot: root-ec-p384.pem
        "6bcd1e16d80e5fe13a5307e6f1de8344c7e50e537d9962ce35ef6db5e642fae8": "MCUboot's P-384",
        # draft-ietf-suit-manifest: the key pair of its examples
        "ade2dad611717e910e295db3ba086fc40490b0daacfc23aace9348077b839b17": "SUIT draft's example",
        # github.com/rauc/rauc: test/openssl-ca/root/private/ca.key.pem
        "0034f8fe5adc3b0dfe642407275d144de2398c68cc9a86dd6703d7151116b44e": "RAUC's test root",
        # github.com/rauc/rauc: test/openssl-ca/dev/private/ca.key.pem
        "1ba83e4383192b3cdc72681247c8ae1955a3490f046f5f6f584492c766975dbd": "RAUC's test CA",
        # github.com/united-manufacturing-hub/united-manufacturing-hub:
        # deployment/factorycube-server/developmentCertificates, a PKI of easy-rsa with its keys
        "a1b33e9d0af23ee1f8a0e2f8ef5737957e46045b953f58a2568d90bbfc661c62": f"{_UMH} CA",
        "e5f110685aadb7703489a8541f41effb2d7f49bf1a6e2525804b143485f5a569": f"{_UMH} client",
        "f33cc7e32a119d399f1f1e834653e97e3f1bc9a082f70234308e02f317103c03": f"{_UMH} broker",
    }
)
"""SPKI SHA-256 in hexadecimal -> the key's owner; keys.example has its own list."""


def is_published(spki: str) -> str | None:
    """Return the owner of a published key, or None for any other key.

    Args:
        spki: the SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    """
    if spki in EXAMPLE_SPKI:
        return "a key of fwsign's keys.example"
    name = PUBLISHED.get(spki)
    return f"{name} key" if name else None


def refuse_published(key: Any, what: object, hint: str = "make your own PKI: fwsign init") -> None:
    """Refuse a key that anyone can use.

    Args:
        key: the public half, or the SHA-256 of its SubjectPublicKeyInfo in hexadecimal.
        what: the holder of the key, for the refusal.
        hint: the next action.

    Raises:
        Untrusted: `untrusted.example-key`.
    """
    spki = key if isinstance(key, str) else key_digest(key)
    if whose := is_published(spki):
        raise Untrusted(
            "untrusted.example-key",
            f"{what} has {whose}, whose private half is published",
            expected="a key that only its owner has",
            found=spki,
            hint=hint,
        )
