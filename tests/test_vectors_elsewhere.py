"""Some facts of the vectors, read with cbor2 and cryptography alone: others can use them too.

Nothing of fwsign or its tests is imported here, and no rule of trust is judged: only whether bytes
are signed by the key that their certificate has, and whether digests are those that are stated.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

FOLDER = Path(__file__).parent.parent / "vectors"
ALG, X5CHAIN = 1, 33
SET_INDEX, PARAMETERS, DIGEST = 12, 20, 3
CIPHERTEXT = [b"encrypted", b"\0"]
HASH = {-16: "sha256", -43: "sha384", -44: "sha512"}
ECDSA = {-7: hashes.SHA256(), -9: hashes.SHA256(), -51: hashes.SHA384()}
PS256 = -37
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def everyone() -> list[dict[str, Any]]:
    paths = sorted(FOLDER.glob("release/*.json"))
    assert len(paths) >= 266
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


VECTORS = everyone()


def named(*words: str, code: str | None = None) -> list[Any]:
    """Return vectors by their verdict or code, each as a parameter."""
    found = [
        one
        for one in VECTORS
        if one["expected"].get("code", one["expected"]["verdict"]) == (code or "accepted")
        and all(word in one["name"] for word in words)
    ]
    assert found
    return [pytest.param(one, id=one["name"]) for one in found]


def data(given: Any) -> bytes:
    """Read bytes as vectors/README.md says."""
    if isinstance(given, str):
        return base64.b64decode(given)
    if "file" in given:
        return (FOLDER / str(given["file"])).read_bytes()
    repeated: bytes = base64.b64decode(given["repeat"])
    return repeated * int(given["times"])


class Opened(NamedTuple):
    """An envelope: its digest as signed, its blocks, its manifest, and all members."""

    digest: bytes
    blocks: list[Any]
    manifest: bytes
    members: dict[Any, Any]


def opened(vector: dict[str, Any]) -> Opened:
    members = cbor2.loads(data(vector["envelope"])).value
    digest, *blocks = cbor2.loads(members[2])
    return Opened(digest, [cbor2.loads(one).value for one in blocks], members[3], dict(members))


def keys_for(vector: dict[str, Any], block: Any) -> list[Any]:
    """Return the key of the block's leaf, or every bare key that is pinned."""
    chain = block[1].get(X5CHAIN)
    if chain is not None:
        leaf = chain if isinstance(chain, bytes) else chain[0]
        return [x509.load_der_x509_certificate(leaf).public_key()]
    bare = (data(one["public_key"]) for one in vector["anchors"] if "public_key" in one)
    return [serialization.load_der_public_key(one) for one in bare]


def is_signed(key: Any, block: Any, digest: bytes) -> bool:
    """Tell whether a key has signed a digest (RFC 9052 section 4.4)."""
    protected, _, _, signature = block
    alg = cbor2.loads(protected)[ALG]
    message = cbor2.dumps(["Signature1", protected, b"", digest])
    try:
        if alg in ECDSA:
            half = len(signature) // 2
            r, s = (int.from_bytes(one, "big") for one in (signature[:half], signature[half:]))
            encoded = utils.encode_dss_signature(r, s)
            key.verify(encoded, message, ec.ECDSA(ECDSA[alg]))
        elif alg == PS256:
            key.verify(signature, message, PSS, hashes.SHA256())
        else:  # Ed25519, ML-DSA
            key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def signed(vector: dict[str, Any]) -> list[bool]:
    """Tell of each block whether its signature is valid."""
    found = opened(vector)
    return [
        any(is_signed(key, block, found.digest) for key in keys_for(vector, block))
        for block in found.blocks
        if cbor2.loads(block[0])[ALG] != -999
    ]


def is_manifest_signed(vector: dict[str, Any]) -> bool:
    """Tell whether the manifest, as a byte string, has the digest that is signed."""
    found = opened(vector)
    algorithm, digest = cbor2.loads(found.digest)
    return bool(hashlib.new(HASH[algorithm], cbor2.dumps(found.manifest)).digest() == digest)


def digests(commands: list[Any]) -> dict[int, bytes]:
    """Return the digest of each component, by its index; one alone is not chosen."""
    found, chosen = {}, 0
    for command, given in zip(commands[::2], commands[1::2], strict=True):
        if command == SET_INDEX and given is not True:
            chosen = given
        elif command == PARAMETERS and DIGEST in given:
            found[chosen] = given[DIGEST]
    return found


def payload_fits(vector: dict[str, Any]) -> bool:
    """Tell whether the payload of the first component has the digest in the manifest.

    What is delivered of an encrypted payload is its ciphertext, which has a digest of its own.
    """
    found = opened(vector)
    common = cbor2.loads(cbor2.loads(found.manifest)[3])
    components: list[Any] = common[2]
    name = components[0][-1].decode()
    delivered = components.index(CIPHERTEXT) if CIPHERTEXT in components else 0
    algorithm, digest = cbor2.loads(digests(cbor2.loads(common[4]))[delivered])
    inside = found.members.get(f"#{name}")
    payload = data(vector["payloads"][name]) if inside is None else inside
    return bool(hashlib.new(HASH[algorithm], payload).digest() == digest)


@pytest.mark.parametrize("vector", named())
def test_what_is_accepted_is_signed(vector: dict[str, Any]) -> None:
    assert any(signed(vector))
    assert is_manifest_signed(vector)
    assert payload_fits(vector)


@pytest.mark.parametrize("vector", named("path-signature", code="tampered.signature"))
def test_what_has_a_bad_signature_has_one(vector: dict[str, Any]) -> None:
    assert not any(signed(vector))
    assert is_manifest_signed(vector)


CASES: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
    ("tampered.manifest", is_manifest_signed),
    ("tampered.payload-digest", payload_fits),
]


@pytest.mark.parametrize(
    ("vector", "fits"),
    [
        pytest.param(*one.values, fits, id=str(one.id))
        for code, fits in CASES
        for one in named(code=code)
    ],
)
def test_what_has_another_digest_is_signed(
    vector: dict[str, Any], fits: Callable[[dict[str, Any]], bool]
) -> None:
    assert all(signed(vector))
    assert not fits(vector)
