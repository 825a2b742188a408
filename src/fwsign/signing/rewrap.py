# SPDX-License-Identifier: Apache-2.0
"""Encrypt a release to other groups without encrypting its payloads, or signing it, again."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import Failed
from fwsign.format.blocks import decode_block_lists
from fwsign.format.component import keys_uri
from fwsign.format.decryption import decode_encryptions
from fwsign.format.envelope import check_manifest_digest, decode_envelope, encode_envelope
from fwsign.format.key_wrap import AgreementKey, unwrap
from fwsign.format.opening import decode_content
from fwsign.signing.encrypting import wrap_for


def rewrap(
    envelope: bytes,
    own: Sequence[AgreementKey],
    keys: Sequence[ec.EllipticCurvePublicKey],
) -> bytes:
    """Wrap the content keys of a release for other groups; return the envelope.

    Nothing that is signed changes, so whoever verifies it finds the same release. A group that is
    left out cannot open this envelope; it may have kept an earlier one.

    Args:
        envelope: the envelope, which the caller has verified: wrapped keys of another release may
            have been put into it.
        own: keys of groups that can open it now.
        keys: the public keys of all groups that shall open it.

    Raises:
        Malformed, Tampered, Unsuitable: as steps 1, 2 and 7 of `Verifier.verify`, and step 10.
        Failed: `state.policy`: nothing is encrypted, or too many groups.
    """
    decoded = decode_envelope(envelope)
    check_manifest_digest(decoded)
    manifest, _ = decode_content(decoded)
    lists = decode_block_lists(manifest, decoded.integrated)
    recipients = decode_encryptions(manifest.components, decoded.integrated, lists)
    members = dict(decoded.integrated)
    for index, component in enumerate(manifest.components):
        if component.encrypted is not None:
            found = recipients[component.name]
            content_key = unwrap(component, component.encrypted, found, own)
            members[keys_uri(index)] = wrap_for(content_key, component.encrypted.nonce, keys)
    if not recipients:
        raise Failed(
            "state.policy",
            "nothing in this release is encrypted",
            expected="an encrypted payload",
            found="none",
        )
    return encode_envelope(decoded._replace(integrated=members))
