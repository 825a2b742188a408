"""Signatures on files that are no release: COSE hash envelopes and minisign's."""

import base64
import hashlib
import io
from importlib import import_module
from typing import Any

import pytest

from fwsign.errors import FwsignError
from fwsign.format import cbor, cose, hash_envelope, minisig
from fwsign.format.payload import digest
from fwsign.keys.file import FileSigner
from fwsign.signing.any_file import minisign_key, sign_hash_envelope, sign_minisig
from fwsign.signing.envelope import Identity
from fwsign.verify import any_file
from fwsign.verify.any_file import VerifiedFile, verify_hash_envelope, verify_minisig
from fwsign.verify.policy import DevicePolicy, Slot
from fwsign.verify.rule import Members
from fwsign.verify.signer_policy import Role, SignerPolicy
from fwsign.x509.anchor import Anchor
from support import (
    DAY,
    NOW,
    VENDOR,
    Pki,
    der,
    make_crl,
    make_manifest,
    make_pki,
    new_key,
    refused,
    require_package,
    sign_with,
)

FILE = b"any file at all" * 1000
NAME = "notes.txt"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def quick() -> Any:
    return new_key("ed25519")


def identity(pki: Pki, *, crls: bool = True) -> Identity:
    chain = (pki.leaf.der, pki.issuing.der)
    return Identity(FileSigner(pki.leaf.key), chain, pki.crls if crls else ())


def signed(pki: Pki, *, crls: bool = True, name: str | None = NAME) -> bytes:
    who = identity(pki, crls=crls)
    return sign_hash_envelope(io.BytesIO(FILE), name, who, [pki.root.anchor], at=NOW)


def verify(data: bytes, pki: Pki, **policy: Any) -> VerifiedFile:
    return verify_hash_envelope(data, [pki.root.anchor], DevicePolicy(**policy), at=NOW)


def bare(key: Any, header: dict[Any, Any], value: Any = None, **more: Any) -> bytes:
    """Sign a hash envelope with a bare key; every part can be made wrong."""
    signer = FileSigner(key)
    protected = cbor.encode({cose.ALG: signer.algorithm, 258: -16, **header})
    value = hashlib.sha256(FILE).digest() if value is None else value
    signature = signer.sign(cose.sig_structure(protected, value))
    unprotected = more.get("unprotected", {})
    return cbor.encode(cbor.Tag(18, (protected, unprotected, value, signature)))


def minisigned(key: Any, **more: Any) -> bytes:
    return sign_minisig(io.BytesIO(FILE), NAME, FileSigner(key), at=NOW, **more)


# --- hash envelopes -------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519", "ml-dsa-65"])
def test_a_file_is_signed_and_verified(alg: str) -> None:
    own = make_pki(alg)
    found = verify(signed(own), own)
    assert (found.name, found.comment, found.unchecked, found.notes) == (NAME, None, (), ())
    assert found.signer is not None
    assert found.signer.path is not None
    assert found.signer.path.name == "release"
    assert found.check(io.BytesIO(FILE)) == len(FILE)


def test_another_file_is_refused(pki: Pki) -> None:
    found = verify(signed(pki), pki)
    with refused("tampered.payload-digest", "the signed one is") as caught:
        found.check(io.BytesIO(FILE + b"x"))
    assert caught.value.step == 10
    assert caught.value.expected == hashlib.sha256(FILE).hexdigest()


def test_no_flipped_bit_is_accepted(pki: Pki) -> None:
    data = signed(pki)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(FwsignError):
            verify(bytes(changed), pki).check(io.BytesIO(FILE))


def test_no_shortened_envelope_is_accepted(pki: Pki) -> None:
    data = signed(pki)
    for size in range(0, len(data), 7):
        with pytest.raises(FwsignError):
            verify(data[:size], pki)
    with refused("malformed.cbor"):
        verify(data + b"\0", pki)


def test_without_crls_revocation_is_unchecked_and_may_be_demanded(pki: Pki) -> None:
    data = signed(pki, crls=False)
    assert verify(data, pki).unchecked == ("revocation",)
    with refused("stale.crl-missing"):
        verify(data, pki, revocation="require")


def test_a_revoked_signer_is_refused(pki: Pki) -> None:
    gone = make_crl(pki.issuing, revoked=[pki.leaf])
    with refused("untrusted.revoked") as caught:
        verify(signed(pki), pki, crls=(gone, make_crl(pki.root)))
    assert caught.value.step == 5


def test_a_certificate_that_has_expired_is_refused(pki: Pki) -> None:
    with refused("stale.certificate"):
        verify_hash_envelope(signed(pki, crls=False), [pki.root.anchor], at=NOW + 400 * DAY)


def test_another_root_is_refused(pki: Pki) -> None:
    with refused("untrusted.no-anchor"):
        verify_hash_envelope(signed(pki), [make_pki(common="X ").root.anchor], at=NOW)


def test_a_vendor_has_to_be_one_of_the_signer(pki: Pki) -> None:
    assert verify(signed(pki), pki, vendor=VENDOR).name == NAME
    with refused("untrusted.vendor", f"{VENDOR}, expected other.example") as caught:
        verify(signed(pki), pki, vendor="other.example")
    assert (caught.value.step, caught.value.found) == (8, VENDOR)
    silent = make_pki(vendors=())
    with refused("untrusted.vendor", "may sign for no vendor"):
        verify(signed(silent), silent, vendor=VENDOR)


def test_a_policy_of_two_signers_is_not_met(pki: Pki) -> None:
    with refused("untrusted.signers", "2 distinct signers", "has one signature"):
        verify(signed(pki), pki, threshold=2)
    with refused("untrusted.signers", "empty: other"):
        verify(signed(pki), pki, slots=(Slot("other", "00" * 32),))
    with refused("state.policy"):
        verify(signed(pki), pki, threshold=0)


def test_a_policy_about_roles_holds_for_files_too(pki: Pki) -> None:
    roles = (Role("team", below=pki.issuing.anchor.spki), Role("other", keys=("0" * 64,)))
    verify(signed(pki), pki, signers=SignerPolicy(roles, Members(1, "team")))
    for policy, words in (
        (SignerPolicy(roles, Members(1, "other")), 'policy "signers": other, found none'),
        (SignerPolicy((), None, ("post-quantum",)), "post-quantum, found none"),
    ):
        with refused("untrusted.signers", words, "; a hash envelope has one signature"):
            verify(signed(pki), pki, signers=policy)


def test_a_bare_key_is_pinned() -> None:
    key = new_key()
    anchor = Anchor.from_public_key(der(key.public_key()))
    found = verify_hash_envelope(bare(key, {260: NAME, 259: "text/plain"}), [anchor], at=NOW)
    assert (found.name, found.comment) == (NAME, "text/plain")
    assert found.check(io.BytesIO(FILE)) == len(FILE)
    found = verify_hash_envelope(bare(key, {259: 65535}), [anchor], at=NOW)
    assert (found.name, found.comment) == (None, "65535")
    with refused("untrusted.no-anchor"):
        verify_hash_envelope(bare(key, {}), [make_pki().root.anchor], at=NOW)
    with refused("tampered.signature"):
        verify_hash_envelope(bare(new_key(), {}), [anchor], at=NOW)
    with refused("untrusted.algorithm", "COSE algorithm -999"):
        verify_hash_envelope(bare(key, {1: -999}), [anchor], at=NOW)


@pytest.mark.parametrize("algorithm", [-43, -44])
def test_longer_digests_are_accepted(algorithm: int) -> None:
    key = new_key()
    anchor = Anchor.from_public_key(der(key.public_key()))
    data = bare(key, {258: algorithm}, digest(algorithm, FILE))
    assert verify_hash_envelope(data, [anchor], at=NOW).check(io.BytesIO(FILE)) == len(FILE)


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ({258: -15}, None, "payload hash algorithm -15, expected SHA-256 (-16)"),
        ({258: True}, None, "payload hash algorithm True"),
        ({258: None}, None, "payload hash algorithm None"),
        ({258: {}}, None, "payload hash algorithm {}, expected SHA-256 (-16)"),
        ({258: (-16, {})}, None, "payload hash algorithm (-16, {}), expected SHA-256 (-16)"),
        ({258: "x" * 99}, None, f"payload hash algorithm {'x' * 40}, expected SHA-256 (-16)"),
        ({258: -43}, None, "a payload of 32 bytes, expected 48 bytes"),
        ({}, b"", "a payload of 0 bytes, expected 32 bytes"),
        ({259: -1}, None, "preimage content type is not printable text"),
        ({259: 65536}, None, "preimage content type is not printable text"),
        ({259: True}, None, "preimage content type is not printable text"),
        ({259: None}, None, "preimage content type is not printable text"),
        ({260: 1}, None, "payload location is not printable text"),
        ({260: ""}, None, "payload location is not printable text"),
        ({260: "a\n"}, None, "payload location is not printable text"),
        ({3: "text/plain"}, None, "protected labels are none of"),
        ({2: (258,)}, None, "protected labels are none of"),
    ],
)
def test_headers_outside_the_closed_list_are_refused(
    header: dict[Any, Any], value: bytes | None, words: str
) -> None:
    with refused("malformed.header", words):
        hash_envelope.decode(bare(new_key(), header, value))


def test_a_label_in_the_wrong_bucket_is_refused() -> None:
    for label, held in ((258, -16), (260, "x"), (259, "x")):
        with refused("malformed.header", f"unprotected label {label} is not allowed"):
            hash_envelope.decode(bare(new_key(), {}, unprotected={label: held}))


def test_a_long_name_is_refused() -> None:
    with refused("malformed.size", "payload location of 1025 bytes"):
        hash_envelope.decode(bare(new_key(), {260: "x" * 1025}))


def test_other_things_are_no_hash_envelope(pki: Pki) -> None:
    block = cbor.Tag(18, (b"", {}, None, b""))
    with refused("malformed.envelope", "without a payload"):
        hash_envelope.decode(cbor.encode(block))
    for other in (cbor.encode(()), sign_with(pki, make_manifest())):
        with refused("malformed.envelope", "not a tagged COSE_Sign1"):
            hash_envelope.decode(other)


def test_a_hash_envelope_is_no_block_of_a_release(pki: Pki) -> None:
    """Neither signature can be passed off as the other: their protected headers differ."""
    with refused("malformed.envelope", "with an attached payload"):
        cose.decode_block(signed(pki))
    found = hash_envelope.decode(signed(pki))
    with refused("malformed.header", "protected labels are none of"):
        cose.decode_block(cose.encode_block(found.block))
    header = cbor.decode(found.block.protected)
    assert isinstance(header, dict)
    assert header.keys() == {1, 34, 258, 260}


def test_a_key_of_another_certificate_is_refused(pki: Pki) -> None:
    wrong = identity(pki)._replace(signer=FileSigner(new_key()))
    with refused("key.mismatch", 'the key is not that of certificate "release"'):
        sign_hash_envelope(io.BytesIO(FILE), NAME, wrong, [pki.root.anchor], at=NOW)


def test_only_verification_makes_a_verified_file(pki: Pki) -> None:
    with pytest.raises(TypeError, match="only verify_hash_envelope"):
        VerifiedFile()
    found = verify(signed(pki), pki)
    with pytest.raises(AttributeError, match="does not change: name"):
        found.name = "x"


@pytest.mark.external
def test_another_library_checks_ours_and_we_check_its() -> None:
    require_package("pycose")
    messages, headers = import_module("pycose.messages"), import_module("pycose.headers")
    algorithms, keys = import_module("pycose.algorithms"), import_module("pycose.keys")

    own = make_pki("rsa3072")
    numbers = own.leaf.key.private_numbers()
    size = numbers.public_numbers.n.bit_length() // 8
    # Its own decode() does not know the frozen lists and maps of newer cbor2.
    tagged = import_module("cbor2").loads(signed(own))
    assert tagged.tag == 18
    protected, unprotected, *rest = tagged.value
    items = [protected, dict(unprotected), *rest]
    whole = messages.Sign1Message.from_cose_obj(items, allow_unknown_attributes=True)
    modulus = numbers.public_numbers.n.to_bytes(size, "big")
    whole.key = keys.RSAKey(n=modulus, e=numbers.public_numbers.e.to_bytes(3, "big"))
    assert whole.payload == hashlib.sha256(FILE).digest()
    assert whole.verify_signature()

    key = new_key()
    secret, public = key.private_numbers(), key.public_key().public_numbers()
    theirs = messages.Sign1Message(
        phdr={headers.Algorithm: algorithms.Es256, 258: -16, 260: NAME},
        payload=hashlib.sha256(FILE).digest(),
    )
    theirs.key = keys.EC2Key(
        crv="P_256",
        x=public.x.to_bytes(32, "big"),
        y=public.y.to_bytes(32, "big"),
        d=secret.private_value.to_bytes(32, "big"),
    )
    anchor = Anchor.from_public_key(der(key.public_key()))
    found = verify_hash_envelope(theirs.encode(), [anchor], at=NOW)
    assert (found.name, found.check(io.BytesIO(FILE))) == (NAME, len(FILE))


# --- minisign -------------------------------------------------------------------------------


def test_a_file_is_signed_as_minisign_does(quick: Any) -> None:
    data = minisigned(quick)
    key = minisign_key(FileSigner(quick))
    found = verify_minisig(data, [minisign_key(FileSigner(new_key("ed25519"))), key])
    assert (found.name, found.signer, found.unchecked, found.notes) == (NAME, None, (), ())
    assert found.comment == f"timestamp:{int(NOW.timestamp())}\tfile:{NAME}\thashed"
    assert found.check(io.BytesIO(FILE)) == len(FILE)
    assert minisigned(quick) == data, "not the same bytes again"


def test_another_file_is_no_minisigned_one(quick: Any) -> None:
    found = verify_minisig(minisigned(quick), [minisign_key(FileSigner(quick))])
    with refused("tampered.signature", "Ed25519 signature does not verify") as caught:
        found.check(io.BytesIO(FILE[:-1]))
    assert caught.value.step == 10


def test_every_changed_byte_of_a_minisig_is_refused_or_is_no_part_of_it(quick: Any) -> None:
    data = minisigned(quick)
    keys = [minisign_key(FileSigner(quick))]
    free = data.index(b"\n")  # the untrusted comment
    accepted = []
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            verify_minisig(bytes(changed), keys).check(io.BytesIO(FILE))
        except FwsignError:
            continue
        accepted.append(at)
    assert accepted == list(range(len("untrusted comment: "), free))


def test_a_comment_of_another_signature_is_refused(quick: Any) -> None:
    key = minisign_key(FileSigner(quick))
    mine = minisig.decode(minisigned(quick))
    other = minisig.decode(
        sign_minisig(io.BytesIO(b"other"), "other.txt", FileSigner(quick), at=NOW)
    )
    mixed = mine._replace(comment=other.comment, comment_signature=other.comment_signature)
    with refused("tampered.signature") as caught:
        verify_minisig(minisig.encode(mixed, "x"), [key])
    assert caught.value.step == 3


def test_a_key_that_is_not_trusted_is_named(quick: Any) -> None:
    own = minisign_key(FileSigner(quick)).key_id[::-1].hex().upper()
    with refused("untrusted.no-anchor", f"by key {own}, trusted is none"):
        verify_minisig(minisigned(quick), [])
    liar = minisign_key(FileSigner(quick))._replace(raw=bytes(32))
    with refused("tampered.signature"):
        verify_minisig(minisigned(quick), [liar])


def test_minisigns_old_format_is_read_up_to_a_limit(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = minisign_key(FileSigner(quick))
    signature = quick.sign(FILE)
    first = base64.b64encode(b"Ed" + key.key_id + signature).decode()
    last = base64.b64encode(quick.sign(signature + b"old")).decode()
    data = f"untrusted comment: x\r\n{first}\r\ntrusted comment: old\r\n{last}\r\n".encode()
    found = verify_minisig(data, [key])
    assert (found.name, found.comment) == (None, "old")
    assert found.notes == ("signed in minisign's old format",)
    assert found.check(io.BytesIO(FILE)) == len(FILE)
    with refused("tampered.signature"):
        found.check(io.BytesIO(FILE[1:]))
    monkeypatch.setattr(any_file, "MAX_LEGACY", 100)
    with refused("malformed.size", f"a file of {len(FILE)} bytes that was signed unhashed"):
        verify_minisig(data, [key]).check(io.BytesIO(FILE))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:3], "expected 4 lines, found 3"),
        (lambda lines: [*lines, b""], "expected 4 lines, found 5"),
        (lambda lines: [b"x", *lines[1:]], 'expected "untrusted comment: ..."'),
        (lambda lines: [*lines[:2], b"x", lines[3]], 'expected "trusted comment: ..."'),
        (lambda lines: [lines[0], b"!", *lines[2:]], "expected base64, found other text"),
        (lambda lines: [lines[0], b"RUQ=", *lines[2:]], "expected 74 bytes, found 2"),
        (lambda lines: [*lines[:3], b"RUQ="], "expected 64 bytes, found 2"),
        (lambda lines: [lines[0], b"QUFB" + lines[1][4:], *lines[2:]], "expected ED or Ed"),
        (lambda lines: [b"untrusted comment: \xff", *lines[1:]], "expected UTF-8"),
    ],
)
def test_a_text_that_is_no_minisig_is_refused(change: Any, words: str, quick: Any) -> None:
    lines = minisigned(quick).splitlines()
    with refused("malformed.envelope", words):
        minisig.decode(b"\n".join(change(lines)) + b"\n")
    with refused("malformed.size"):
        minisig.decode(bytes(minisig.MAX_SIZE + 1))


def test_keys_of_minisign_are_read(quick: Any) -> None:
    key = minisign_key(FileSigner(quick))
    assert minisig.decode_key(minisig.encode_key(key)) == key
    assert minisig.decode_key(minisig.key_line(key).encode()) == key
    line = base64.b64encode(b"ED" + key.key_id + key.raw)
    with refused("malformed.envelope", "expected Ed"):
        minisig.decode_key(line)
    with refused("malformed.envelope", "expected 42 bytes"):
        minisig.decode_key(b"RWQ=")
    with refused("malformed.size"):
        minisig.decode_key(bytes(minisig.MAX_SIZE + 1))


def test_minisign_has_keys_of_ed25519_alone() -> None:
    with refused("key.unsupported", "of Ed25519 alone, this key is P-256"):
        sign_minisig(io.BytesIO(FILE), NAME, FileSigner(new_key()), at=NOW)
