# SPDX-License-Identifier: Apache-2.0
"""Names for the SUIT labels in our templates (draft-ietf-suit-manifest-37, section 11)."""

from typing import Final

ENVELOPE_TAG: Final = 107
ENVELOPE_HEAD: Final = b"\xd8\x6b"
"""The bytes of that tag; every envelope begins with them."""
REPORT: Final = 15  # all four reporting bits
MANIFEST_VERSION: Final = 1


class Member:
    """Members of an envelope."""

    WRAPPER, MANIFEST, TEXT = 2, 3, 23
    REGISTERED = frozenset({2, 3, 14, 15, 16, 18, 20, 23})


class Key:
    """Members of a manifest."""

    VERSION, SEQUENCE_NUMBER, COMMON, SET_VERSION, VALIDATE, INSTALL, TEXT = 1, 2, 3, 6, 7, 20, 23


class Common:
    """Members of a manifest's common part."""

    COMPONENTS, SHARED = 2, 4


class SuitCommand:
    """Commands of a sequence: conditions and directives."""

    VENDOR_ID, CLASS_ID, IMAGE_MATCH, USE_BEFORE = 1, 2, 3, 4
    SET_COMPONENT_INDEX, OVERRIDE_PARAMETERS, FETCH, COPY = 12, 20, 21, 22


class Parameter:
    """Parameters of override-parameters."""

    VENDOR_ID, CLASS_ID, IMAGE_DIGEST, USE_BEFORE, IMAGE_SIZE, URI = 1, 2, 3, 4, 14, 21
    ENCRYPTION_INFO, SOURCE_COMPONENT = 19, 22


class About:
    """Keys of the text map: SUMMARY for the release, the others for each component."""

    SUMMARY = 1
    MODEL_NAME, VENDOR_DOMAIN, MODEL_INFO, DESCRIPTION, VERSION, CURRENT_VERSION = 2, 3, 4, 5, 6, 8
    NATIVE = -259
    """Of one component: ours, from SUIT's range for private use."""


class NoticeKey:
    """Keys of the text map beside SUMMARY: ours, from SUIT's range for private use."""

    CLASS, ADVISORIES, SUPPORT_UNTIL = -256, -257, -258


ATTACHMENTS: Final = -260
"""A key of the text map beside SUMMARY, from the same range."""
HASH_ENVELOPE_HEAD: Final = b"\xd2\x84"
"""The first bytes of a COSE hash envelope: tag 18, an array of four."""
MINISIG_HEAD: Final = b"untrusted comment:"
"""The first bytes of minisign's signatures and public keys."""
