"""The protected header of a hash envelope (RFC 9995), byte by byte."""

import hashlib

import cbor2

from fwsign.format import hash_envelope

LEAF = b"a certificate"


def test_a_header_has_what_is_stated_and_no_more() -> None:
    thumbprint = [-16, hashlib.sha256(LEAF).digest()]
    for leaf, name, more in (
        (None, None, {}),
        (LEAF, None, {34: thumbprint}),
        (None, "build.bin", {260: "build.bin"}),
        (LEAF, "build.bin", {34: thumbprint, 260: "build.bin"}),
    ):
        header = hash_envelope.protected_header(leaf, -9, name)
        assert cbor2.loads(header) == {1: -9, 258: -16, **more}
