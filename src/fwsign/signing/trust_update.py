# SPDX-License-Identifier: Apache-2.0
"""Sign trust updates with keys of anchors; several people may sign one after another."""

from collections.abc import Iterable

from fwsign.errors import Failed
from fwsign.format.cose import Block, encode_block, protected_header, sig_structure
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.keys import Signer
from fwsign.signing.checked import sign_message
from fwsign.trust.envelope import decode_update, encode_update
from fwsign.trust.lists import Update, check_update
from fwsign.trust.update import signers
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import key_digest


def make_update(update: Update, keys: Iterable[Signer] = (), *, signed: bytes = b"") -> bytes:
    """Sign a trust update, and check that it reads back unchanged.

    `verify_update` tells whether enough keys have signed for the devices' present list.

    Args:
        update: the list; `fwsign.trust.lists.check_update` has accepted it.
        keys: the keys that sign it now; at most eight in all.
        signed: the same update with the signatures of others.

    Raises:
        Malformed: `malformed.trust`, `malformed.size` for too many signatures.
        Untrusted: `untrusted.example-key`.
        Failed: `key.*`; `key.mismatch` for a key that has signed already.
    """
    check_update(update)
    made = signed or encode_update(update)
    for key in keys:
        made = _add(made, key)
    if encode_update(decode_update(made)) != encode_update(update):
        raise Failed("key.failed", "the trust update does not read as it was written")
    return made


def _add(data: bytes, key: Signer) -> bytes:
    envelope = decode_envelope(data)
    spki = key_digest(key.public_key)
    if signers([Anchor(key.public_key, spki)], data):
        raise Failed("key.mismatch", f"the key {spki[:16]} has signed already", found=spki)
    protected = protected_header(key.algorithm)
    signature = sign_message(key, sig_structure(protected, envelope.digest))
    block = encode_block(Block(protected, key.algorithm, signature))
    return encode_envelope(envelope._replace(blocks=(*envelope.blocks, block)))
