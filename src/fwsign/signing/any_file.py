# SPDX-License-Identifier: Apache-2.0
"""Sign files that are no release: COSE hash envelopes (RFC 9995), and minisign's signatures."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Failed
from fwsign.format import hash_envelope, minisig
from fwsign.format.cose import Block, key_name, sig_structure
from fwsign.format.payload import CHUNK_SIZE, PayloadSource, measure
from fwsign.keys import Signer
from fwsign.signing.checked import check_key, sign_message
from fwsign.signing.envelope import Identity, known_time
from fwsign.verify.any_file import verify_hash_envelope, verify_minisig
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.crl import parse_crl


def sign_hash_envelope(
    source: PayloadSource,
    name: str | None,
    identity: Identity,
    anchors: Sequence[Anchor],
    *,
    at: datetime,
    allow_example_keys: bool = False,
) -> bytes:
    """Sign a file's SHA-256, and verify the envelope before it is returned.

    Args:
        source: the file, open at its start.
        name: its name, which is signed.
        identity: the signer, with its certificates and CRLs.
        anchors: what whoever checks the file pins; only the check uses them.
        at: the present time, with a zone.
        allow_example_keys: sign with the published keys of keys.example.

    Raises:
        FwsignError: a verifier would refuse it; `key.mismatch`, `key.failed`.
    """
    signer = identity.signer
    check_key(signer, parse_certificate(identity.chain[0]))
    value = measure(source)[0].value
    protected = hash_envelope.protected_header(identity.chain[0], signer.algorithm, name)
    signature = sign_message(signer, sig_structure(protected, value))
    block = Block(protected, signer.algorithm, signature, chain=identity.chain, crls=identity.crls)
    envelope = hash_envelope.encode(block, value)
    known = known_time(map(parse_crl, identity.crls), at)
    policy = DevicePolicy(profile="compat", allow_example_keys=allow_example_keys)
    verify_hash_envelope(envelope, anchors, policy, at=known)
    return envelope


def sign_minisig(source: PayloadSource, name: str, signer: Signer, *, at: datetime) -> bytes:
    """Sign a file as minisign does, and verify the signature before it is returned.

    Args:
        source: the file, open at its start.
        name: its name, for the trusted comment.
        signer: a signer with a key of Ed25519.
        at: the time in the trusted comment, with a zone.

    Raises:
        Failed: `key.unsupported`: a key of another kind; `key.failed`.
    """
    key = minisign_key(signer)
    hasher = hashlib.blake2b()
    while data := source.read(CHUNK_SIZE):
        hasher.update(data)
    signature = sign_message(signer, hasher.digest())
    comment = f"timestamp:{int(at.timestamp())}\tfile:{name}\thashed"
    last = sign_message(signer, minisig.comment_message(signature, comment))
    made = minisig.encode(
        minisig.Minisig(key.key_id, signature, comment, last), f"signature of {name} by fwsign"
    )
    verify_minisig(made, [key])
    return made


def minisign_key(signer: Signer) -> minisig.MinisignKey:
    """Return a signer's public key as minisign has it.

    Raises:
        Failed: `key.unsupported`: it is no key of Ed25519.
    """
    public = signer.public_key
    if not isinstance(public, Ed25519PublicKey):
        raise Failed(
            "key.unsupported",
            f"minisign's signatures are of Ed25519 alone, this key is {key_name(public)}",
            expected="Ed25519",
            found=key_name(public),
            hint="fwsign pki issue signer NAME --alg ed25519 makes a signer with such a key",
        )
    return minisig.key_of(public.public_bytes(Encoding.Raw, PublicFormat.Raw))
