"""Vectors that this project did not write: SUIT drafts, COSE and Wycheproof."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fwsign.errors import FwsignError, Tampered
from fwsign.format import cbor
from fwsign.format.algorithms import ALGORITHMS, CERTIFICATE_ALGORITHMS
from fwsign.format.cbor import Tag
from fwsign.format.cose import ALG, decode_block, sig_structure, verify_signature
from fwsign.format.envelope import Envelope, decode_envelope
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import signature_valid
from fwsign.x509.der import Signed
from support import NOW, refused, stride, vectors

VECTORS = vectors()
pytestmark = pytest.mark.external


def read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def load(name: str) -> Any:
    return json.loads(read(name))


# --- the envelopes of the SUIT draft --------------------------------------------------------

DRAFT = VECTORS / "suit-draft-37"
ENVELOPES = sorted(path.name for path in DRAFT.glob("*.suit"))
SIGNED = [one for one in ENVELOPES if ".signed" in one]
UNSIGNED = [one for one in ENVELOPES if ".unsigned" in one]


def draft_verifier() -> Verifier:
    return Verifier([Anchor.from_pem(read("suit-draft-37/trust_anchor.pub.pem"))], DevicePolicy())


def test_the_drafts_envelopes_are_all_there() -> None:
    assert (len(SIGNED), len(UNSIGNED)) == (7, 6)


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_envelope_passes_steps_1_to_6_and_is_outside_our_profile(name: str) -> None:
    with pytest.raises(FwsignError) as caught:
        draft_verifier().verify((DRAFT / name).read_bytes(), at=NOW)
    assert caught.value.step == 7
    assert caught.value.code in {"malformed.profile", "malformed.component"}


@pytest.mark.parametrize("name", UNSIGNED)
def test_an_unsigned_envelope_is_refused_at_step_6(name: str) -> None:
    with refused("untrusted.signers", "1 distinct signers, found 0") as caught:
        draft_verifier().verify((DRAFT / name).read_bytes(), at=NOW)
    assert caught.value.step == 6


def flips(data: bytes) -> Iterator[bytes]:
    for at in range(0, 8 * len(data), stride(3)):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        yield bytes(changed)


def is_signed_part_whole(changed: bytes, original: Envelope) -> bool:
    """Tell whether the flip hit only what a signature does not cover: severable members."""
    try:
        found = decode_envelope(changed)
    except FwsignError:
        return False
    return (found.digest, found.blocks, found.manifest) == original[:3]


@pytest.mark.parametrize("name", SIGNED)
def test_every_flipped_bit_is_refused_before_the_manifest_is_read(name: str) -> None:
    data = (DRAFT / name).read_bytes()
    verifier, original = draft_verifier(), decode_envelope(data)
    late = 0
    for changed in flips(data):
        with pytest.raises(FwsignError) as caught:
            verifier.verify(changed, at=NOW)
        assert caught.value.step is not None
        if is_signed_part_whole(changed, original):
            assert caught.value.step == 7
            late += 1
        else:
            assert caught.value.step < 7
    assert (late > 0) is bool(original.other or original.text or original.integrated)


# --- COSE_Sign1 -----------------------------------------------------------------------------

COSE = sorted(path.name for path in (VECTORS / "cose-sign1").glob("*.json"))


def cose_vector(name: str) -> tuple[Any, Any, bytes]:
    """Return a vector, its key, and its COSE_Sign1."""
    vector = load(f"cose-sign1/{name}")
    found = vector["input"]["sign0"]["key"]
    x, y = (int.from_bytes(base64.urlsafe_b64decode(found[part] + "=")) for part in "xy")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return vector, key, bytes.fromhex(vector["output"]["cbor"])


def verify_attached(data: bytes, key: Any) -> None:
    """Verify a COSE_Sign1 with its payload inside, which our blocks never have."""
    protected, unprotected, payload, signature = cbor.decode(data).value
    inside = cbor.decode(protected) if protected else {}
    header = {**inside, **unprotected}
    if header[ALG] not in ALGORITHMS:
        raise Tampered("tampered.signature", "no such algorithm")
    signed = protected if inside else b""  # RFC 9052 section 4.4: an empty map is no bytes
    verify_signature(header[ALG], key, sig_structure(signed, payload), signature)


def test_the_cose_vectors_are_all_there() -> None:
    passing = [one for one in COSE if "pass" in one]
    assert (len(passing), len(COSE)) == (2, 6)


def test_sig_structure_is_that_of_the_vectors() -> None:
    for name in ("sign-pass-01.json", "sign-fail-02.json", "sign-fail-03.json"):
        vector, _, _ = cose_vector(name)
        protected = b"" if "pass" in name else bytes.fromhex("a10126")
        wanted = bytes.fromhex(vector["intermediates"]["ToBeSign_hex"])
        assert sig_structure(protected, b"This is the content.") == wanted


def test_a_cose_signature_verifies() -> None:
    _, key, data = cose_vector("sign-pass-01.json")
    verify_attached(data, key)


@pytest.mark.parametrize("name", [one for one in COSE if "fail" in one])
def test_cose_signatures_that_must_fail_do(name: str) -> None:
    _, key, data = cose_vector(name)
    with pytest.raises(FwsignError):
        verify_attached(data, key)


def test_a_signature_with_external_data_does_not_verify_without_it() -> None:
    vector, key, data = cose_vector("sign-pass-02.json")
    with refused("tampered.signature"):
        verify_attached(data, key)
    message = bytes.fromhex(vector["intermediates"]["ToBeSign_hex"])
    verify_signature(-7, key, message, cbor.decode(data).value[3])


@pytest.mark.parametrize("name", COSE)
def test_no_cose_vector_is_a_block_of_ours(name: str) -> None:
    _, _, data = cose_vector(name)
    code = "malformed.cbor" if name == "sign-fail-01.json" else "malformed.envelope"
    words = "tag 998" if name == "sign-fail-01.json" else "COSE_Sign1 with an attached payload"
    with refused(code, words):
        decode_block(data)


def test_a_detached_cose_vector_is_outside_the_closed_list_of_headers() -> None:
    for name in COSE[1:]:
        protected, unprotected, _, signature = cbor.decode(cose_vector(name)[2]).value
        with pytest.raises(FwsignError) as caught:
            decode_block(cbor.encode(Tag(18, (protected, unprotected, None, signature))))
        assert caught.value.code in {"malformed.header", "malformed.cbor"}


def ml_dsa_vector() -> tuple[Any, bytes, bytes, bytes]:
    vector = load("cose-ml-dsa/ML_DSA_65.cose.json")
    key = mldsa.MLDSA65PublicKey.from_public_bytes(bytes.fromhex(vector["raw_public_key"]))
    message, signature = bytes.fromhex(vector["raw_to_be_signed"]), vector["raw_signature"]
    return key, message, bytes.fromhex(signature), bytes.fromhex(vector["sign1"])


def test_an_ml_dsa_signature_verifies() -> None:
    key, message, signature, data = ml_dsa_vector()
    protected, _, payload, inside = cbor.decode(data).value
    assert cbor.decode(protected)[ALG] == -49
    assert (sig_structure(protected, payload), inside) == (message, signature)
    verify_signature(-49, key, message, signature)


def test_an_ml_dsa_signature_of_something_else_does_not_verify() -> None:
    key, message, signature, _ = ml_dsa_vector()
    for wrong in ((message + b"\0", signature), (message, signature[:-1] + b"\xff")):
        with refused("tampered.signature", "ML-DSA-65 signature does not verify"):
            verify_signature(-49, key, *wrong)


# --- Wycheproof -----------------------------------------------------------------------------

ECDSA, ED25519 = (
    next(own for own, kind in CERTIFICATE_ALGORITHMS.items() if kind == wanted)
    for wanted in (("ECDSA", "SHA-256"), ("Ed25519", ""))
)


def wycheproof(name: str) -> Iterator[tuple[Any, bytes, bytes, bool, str]]:
    """Return key, message, signature, whether it is valid, and what it is about."""
    for group in load(f"wycheproof/{name}_test.json")["testGroups"]:
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        for test in group["tests"]:
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            about = f"{test['tcId']} {test['comment']}"
            yield key, message, signature, test["result"] == "valid", about


def is_valid(algorithm: int, key: Any, message: bytes, signature: bytes) -> bool:
    try:
        verify_signature(algorithm, key, message, signature)
    except Tampered:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "algorithm", "valid", "invalid"),
    [("ecdsa_secp256r1_sha256", ECDSA, 174, 310), ("ed25519", ED25519, 88, 63)],
)
def test_wycheproof_as_signatures_of_certificates(
    name: str, algorithm: bytes, valid: int, invalid: int
) -> None:
    counts: Counter[bool] = Counter()
    wrong = []
    for key, message, signature, expected, about in wycheproof(name):
        counts[expected] += 1
        if signature_valid(Signed(message, algorithm, signature), key) is not expected:
            wrong.append(about)
    assert wrong == []
    assert (counts[True], counts[False]) == (valid, invalid)


def test_wycheproof_ed25519_as_cose_signatures() -> None:
    vectors = list(wycheproof("ed25519"))
    assert [one[4] for one in vectors if is_valid(-19, *one[:3]) is not one[3]] == []
    assert len(vectors) == 151


@pytest.mark.parametrize("algorithm", [-9, -7])
def test_wycheproof_ecdsa_as_cose_signatures(algorithm: int) -> None:
    """Those whose DER can be read and whose numbers fit 32 bytes each, as r and s."""
    counts: Counter[bool] = Counter()
    wrong = []
    for key, message, signature, expected, about in wycheproof("ecdsa_secp256r1_sha256"):
        try:
            numbers = decode_dss_signature(signature)
            raw = b"".join(number.to_bytes(32, "big") for number in numbers)
        except (ValueError, OverflowError):
            assert not expected
            continue
        counts[expected] += 1
        if is_valid(algorithm, key, message, raw) is not expected:
            wrong.append(about)
    assert wrong == []
    assert counts[True] == 174
    assert counts[False] > 50
