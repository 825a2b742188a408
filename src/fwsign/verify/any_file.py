# SPDX-License-Identifier: Apache-2.0
"""Verify signatures on files that are no release: hash envelopes and minisign's.

Neither says for which device the file is, or which one is newer. So the result is a `VerifiedFile`,
which `install` and `flash` do not take. No file, socket, environment or clock is read here.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fwsign.errors import Tampered, Untrusted, check_limit
from fwsign.format import hash_envelope, minisig
from fwsign.format.algorithms import DIGESTS
from fwsign.format.cose import verify_signature
from fwsign.format.payload import CHUNK_SIZE, PayloadSource
from fwsign.verify.block import BlockVerifier, step
from fwsign.verify.policy import DevicePolicy, check_policy, missing_signers
from fwsign.verify.sealed import Sealed, make
from fwsign.verify.signers import judge_signers
from fwsign.verify.verified import VerifiedSigner
from fwsign.verify.verifier import utc
from fwsign.x509.anchor import Anchor

MAX_LEGACY: Final = 64 * 1024 * 1024
"""Bytes of a file that minisign signed without hashing it first: it has to be in memory."""
_ED25519: Final = -19


@final
class VerifiedFile(Sealed, made_by="verify_hash_envelope and verify_minisig"):
    """A signature that was verified; `check` compares the file with it, and has to be called.

    Attributes:
        name: the file's name as it was signed; None if the signature states none.
        comment: minisign's trusted comment, or the file's media type; None if there is none.
        signer: the verdict on the signature; None for minisign's, which has no certificates.
        unchecked: "revocation", or nothing.
        notes: notes for the caller.
    """

    __slots__ = ("_check", "comment", "name", "notes", "signer", "unchecked")
    name: str | None
    comment: str | None
    signer: VerifiedSigner | None
    unchecked: tuple[str, ...]
    notes: tuple[str, ...]
    _check: Callable[[PayloadSource], int]

    def check(self, source: PayloadSource) -> int:
        """Read the file to its end, and check that it is the one that was signed.

        Args:
            source: the file, open at its start.

        Returns:
            Its size in bytes.

        Raises:
            Tampered: `tampered.payload-digest`: another file; `tampered.signature`: the same of a
                file that minisign signed.
            Malformed: `malformed.size`: minisign signed it without hashing, and it is too large.
            OSError: the source's own.
        """
        with step(10):
            return self._check(source)


def verify_hash_envelope(
    data: bytes, anchors: Iterable[Anchor], policy: DevicePolicy | None = None, *, at: datetime
) -> VerifiedFile:
    """Verify a COSE hash envelope (RFC 9995): steps 1 and 3 to 6 of a release.

    Args:
        data: the envelope.
        anchors: what is pinned.
        policy: whom to trust; a vendor has to be one that the signer's certificate lists.
        at: the clock's time, with a zone.

    Raises:
        FwsignError: with the code and the step at which it was refused.
    """
    policy = policy if policy is not None else DevicePolicy()
    check_policy(policy)
    with step(1):
        found = hash_envelope.decode(data)
    verifier = BlockVerifier(tuple(anchors), policy, utc(at), "codeSigning")
    signer = verifier.verify(found.block, found.value)
    if signer.refusal is not None or signer.path is None:
        raise signer.refusal or Untrusted("untrusted.no-anchor", "the envelope has no path")
    with step(6):
        if (missing := missing_signers(policy, [signer.path])) is not None:
            words = f"the policy demands {missing}; a hash envelope has one signature"
            raise Untrusted("untrusted.signers", words, expected=missing, found="1 signature")
        for demand in judge_signers(policy.signers, [signer.path]) if policy.signers else ():
            if not demand.met:
                words = f"{demand}; a hash envelope has one signature"
                wanted = demand.wanted
                raise Untrusted("untrusted.signers", words, expected=wanted, found=demand.there)
    with step(8):
        _check_vendor(policy, signer)
    name = DIGESTS[found.algorithm].function

    def matches(digest: bytes) -> None:
        if digest != found.value:
            raise Tampered(
                "tampered.payload-digest",
                f"the file's digest is {digest.hex()}, the signed one is {found.value.hex()}",
                expected=found.value.hex(),
                found=digest.hex(),
            )

    kind = found.content_type
    return make(
        VerifiedFile,
        name=found.name,
        comment=str(kind) if kind is not None else None,
        signer=signer,
        unchecked=() if signer.revocation_checked else ("revocation",),
        notes=signer.notes,
        _check=lambda source: _hashed(source, name, matches),
    )


def verify_minisig(data: bytes, keys: Sequence[minisig.MinisignKey]) -> VerifiedFile:
    """Verify the trusted comment of a minisign signature; `VerifiedFile.check` verifies the file's.

    Args:
        data: the signature's text.
        keys: the keys that are trusted.

    Raises:
        Malformed: `malformed.envelope`, `malformed.size`.
        Untrusted: `untrusted.no-anchor`: by none of these keys.
        Tampered: `tampered.signature`.
    """
    with step(1):
        found = minisig.decode(data)
    with step(3):
        key = next((one for one in keys if one.key_id == found.key_id), None)
        if key is None:
            known = ", ".join(_named(one.key_id) for one in keys) or "none"
            raise Untrusted(
                "untrusted.no-anchor",
                f"the signature is by key {_named(found.key_id)}, trusted is {known}",
                expected=known,
                found=_named(found.key_id),
            )
        public = Ed25519PublicKey.from_public_bytes(key.raw)
        message = minisig.comment_message(found.signature, found.comment)
        verify_signature(_ED25519, public, message, found.comment_signature)

    def matches(message: bytes) -> None:
        verify_signature(_ED25519, public, message, found.signature)

    return make(
        VerifiedFile,
        name=found.name,
        comment=found.comment,
        signer=None,
        unchecked=(),
        notes=() if found.prehashed else ("signed in minisign's old format",),
        _check=lambda source: _hashed(source, "blake2b" if found.prehashed else None, matches),
    )


def _check_vendor(policy: DevicePolicy, signer: VerifiedSigner) -> None:
    """Refuse a signer that may not sign for the policy's vendor."""
    if policy.vendor is None or signer.path is None:
        return
    allowed = policy.vendors_of(signer.path)
    if policy.vendor not in allowed:
        words = ", ".join(allowed) or "no vendor"
        raise Untrusted(
            "untrusted.vendor",
            f'"{signer.path.name}" may sign for {words}, expected {policy.vendor}',
            expected=policy.vendor,
            found=words,
        )


def _hashed(source: PayloadSource, name: str | None, matches: Callable[[bytes], None]) -> int:
    """Hash a file, or load it where there is no digest; return its size once it matches."""
    hasher = hashlib.new(name) if name else None
    parts: list[bytes] = []
    size = 0
    while data := source.read(CHUNK_SIZE):
        size += len(data)
        if hasher is not None:
            hasher.update(data)
        else:
            check_limit(size, MAX_LEGACY, f"a file of {size} bytes that was signed unhashed")
            parts.append(data)
    matches(hasher.digest() if hasher is not None else b"".join(parts))
    return size


def _named(key_id: bytes) -> str:
    """Return a key's identifier as minisign writes it."""
    return key_id[::-1].hex().upper()
