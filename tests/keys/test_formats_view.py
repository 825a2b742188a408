"""Public halves of private keys for viewers: quick, and damage still shows."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.keys import asn1, unlock
from fwsign.keys.formats import read_any, read_opened
from fwsign.keys.items import FileItem
from support import new_key

KEY = new_key("rsa2048")
NUMBERS = KEY.private_numbers()
PLAIN = NoEncryption()


def numbers(**other: int) -> list[int]:
    """Return the numbers of PKCS#1, some of them changed."""
    own = {
        "version": 0,
        "n": NUMBERS.public_numbers.n,
        "e": 65537,
        "d": NUMBERS.d,
        "p": NUMBERS.p,
        "q": NUMBERS.q,
        "dp": NUMBERS.dmp1,
        "dq": NUMBERS.dmq1,
        "qi": NUMBERS.iqmp,
    }
    return [*(own | other).values()]


def pkcs1(**other: int) -> bytes:
    return asn1.sequence(*map(asn1.integer, numbers(**other)))


def jwk(**other: int) -> bytes:
    _, *values = numbers(**other)
    names = ("n", "e", "d", "p", "q", "dp", "dq", "qi")
    texts = {name: text(value) for name, value in zip(names, values, strict=True)}
    return json.dumps({"kty": "RSA", **texts}).encode()


def text(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def only(data: bytes) -> FileItem:
    (found,) = read_opened(data, None)
    return found


@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa2048", "ml-dsa-65"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_view_has_the_public_half_alone(alg: str, encoding: Encoding) -> None:
    key = KEY if alg == "rsa2048" else new_key(alg)
    data = key.private_bytes(encoding, PrivateFormat.PKCS8, PLAIN)
    found = only(data)
    assert (found.key, found.public_key) == (None, key.public_key())
    (used,) = read_any(data)
    assert used.key is not None


@pytest.mark.parametrize("make", [pkcs1, jwk])
def test_rsa_in_other_forms(make: Callable[..., bytes]) -> None:
    assert only(make()).public_key == KEY.public_key()
    data = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, PLAIN)
    assert only(data).public_key == KEY.public_key()


@pytest.mark.parametrize("make", [pkcs1, jwk])
@pytest.mark.parametrize(
    "other",
    [
        {"d": NUMBERS.d ^ 4},
        {"p": NUMBERS.p + 2},
        {"n": NUMBERS.public_numbers.n ^ 4},
        {"p": NUMBERS.q, "q": NUMBERS.p + 2},
        {"p": 1, "q": NUMBERS.public_numbers.n},
        {"p": NUMBERS.public_numbers.n, "q": 1},
    ],
)
def test_numbers_that_do_not_belong_together_show(
    make: Callable[..., bytes], other: dict[str, int]
) -> None:
    found = only(make(**other))
    assert (found.public_key, found.key) == (None, None)
    assert found.detail is not None


def test_what_does_not_belong_together_is_said() -> None:
    class Odd:
        def __init__(self, **parts: Any) -> None:
            self.parts = parts

        def private_numbers(self) -> Any:
            return NUMBERS if not self.parts else type("Numbers", (), self.parts)

    own = {"p": NUMBERS.p, "q": NUMBERS.q, "d": NUMBERS.d, "public_numbers": NUMBERS.public_numbers}
    unlock.check_rsa(Odd())  # type: ignore[arg-type]
    for changed, words in (("p", "numbers"), ("d", "exponents")):
        odd: Any = Odd(**own | {changed: own[changed] + 2})
        with pytest.raises(ValueError, match=f"the {words} of the RSA key do not belong together"):
            unlock.check_rsa(odd)


def test_a_view_does_not_test_primes() -> None:
    big = new_key("rsa4096").private_bytes(Encoding.DER, PrivateFormat.PKCS8, PLAIN)
    start = time.process_time()
    for _ in range(10):
        only(big)
    viewed = time.process_time() - start
    start = time.process_time()
    read_any(big)
    assert viewed < time.process_time() - start
