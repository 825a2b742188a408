# SPDX-License-Identifier: Apache-2.0
"""Secure boot v2 of the ESP32 and its successors: sign images, and verify what is signed.

After the image and 0xFF, on the next 4 KiB, is a sector with up to three blocks, each with a
signature and its own key. The ROM knows keys by their digests alone: it starts what one of its keys
has signed. So keys of different houses can sign one image, and a key can be replaced on boards that
know both. See `fwsign.native.esp_block` for a block, `fwsign.images.esp_signature` for the sector.

ESP-IDF's build may have signed the image before: its blocks are verified and stay at their places.
A merged file has several images, each with its own sector; it is read, and signed before merging.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Failed, Malformed, Tampered, Unsuitable
from fwsign.images import recognise
from fwsign.images.base import Image, ImagePart, damaged
from fwsign.images.esp_chips import BY_NAME, Chip
from fwsign.images.esp_image import revision_name
from fwsign.images.esp_part import read_one
from fwsign.images.esp_partitions import SECTOR
from fwsign.images.esp_signature import BLOCK, blocks, claims, is_blank
from fwsign.keys.held import HeldKey
from fwsign.native import Native, NativeSignature, esp_block, refused, unsupported
from fwsign.native.esp_block import KIND

_EXECUTED: Final = ("application", "boot loader")
_FIRST_REVISION: Final = {"esp32": 300, "esp32c3": 3}
"""The first chip revisions whose ROM has secure boot v2; the other chips have it in all."""
_P384_REVISION: Final = {"esp32p4": 300}


def sign(image: bytes, keys: Sequence[HeldKey], *, security_version: int | None) -> bytes:
    """Sign an image; see `fwsign.native.sign`."""
    part = _only(image)
    chip = BY_NAME[str(part.chip)]
    _check_version(part, security_version)
    content, sector, rest = _cut(image, part)
    if left := rest.strip(b"\xff"):
        what = "bytes after the image, which nothing would sign"
        raise damaged("esp", what, "none that are not ff", f"{len(left)} bytes")
    digests = _digests(content)
    there = _verified(sector, digests)
    places = dict(enumerate(blocks(sector))) if sector else {}
    names = {one.key_digest for one in there.values()}
    given = [_checked(key, chip) for key in keys]
    free = [at for at in range(chip.signatures) if at not in there]
    fresh = [key for key, name in zip(keys, given, strict=True) if name not in names]
    _check_room(given, fresh, free, chip)
    _check_alike([*(one.algorithm for one in there.values()), *map(_algorithm, keys)])
    for at, key in zip(free, fresh, strict=False):
        places[at] = _signed(key, digests)
    made = b"".join(
        places.get(at, b"\xff" * BLOCK.size) for at in range(max(places, default=0) + 1)
    )
    return content + made.ljust(SECTOR, b"\xff") if places else image


def read(image: bytes) -> Native | None:
    """Read the signatures of an image; of a merged file those that all its images have.

    See `fwsign.native.read`.
    """
    found = recognise(io.BytesIO(image))
    if found.kind != "esp":
        return None
    signed = [(part, _read_part(image, part)) for part in _executed(found)]
    if not any(every for _, every in signed):
        return None
    common = [
        one
        for one in signed[0][1]
        if all(one.key_digest in [each.key_digest for each in every] for _, every in signed)
    ]
    versions = [one.secure_version for one, _ in signed if one.secure_version is not None]
    return Native(KIND, min(versions, default=None), tuple(common))


def remarks(image: bytes) -> list[str]:
    """Return what a signed image leaves open."""
    found = recognise(io.BytesIO(image))
    lines = []
    for part in _executed(found):
        chip, needs = str(part.chip), part.needs
        algorithms = {one.algorithm for one in _read_part(image, part)}
        first = _FIRST_REVISION.get(chip, 0)
        if "ECDSA P-384" in algorithms:
            first = max(first, _P384_REVISION.get(chip, 0))
        if needs is not None and needs.min_revision < first:
            lines.append(
                f"it runs on {chip} from revision {revision_name(needs.min_revision)} on, and "
                f"the ROM verifies this signature from revision {revision_name(first)} on"
            )
        size = len(_cut(image, part).content)
        if part.role == "application" and part.page and size % part.page:
            lines.append(
                f"it does not fill its last page of {part.page} bytes: the chip maps bytes after "
                "it that nothing has signed; build it with --secure-pad-v2"
            )
    return lines


def suits(image: bytes) -> bool:
    """Tell whether it is one application or boot loader; merged files are signed in parts."""
    found = recognise(io.BytesIO(image))
    return found.kind == "esp" and (found.role in _EXECUTED or found.role == "merged")


def has_version(image: bytes) -> bool:
    """Tell whether an image has an application, which alone states a number."""
    found = recognise(io.BytesIO(image))
    return any(one.secure_version is not None for one in _executed(found))


def same(image: bytes, signed: bytes) -> bool:
    """Tell whether both are one image, signed or not."""
    pairs = [(one, recognise(io.BytesIO(one))) for one in (image, signed)]
    cuts = [_cut(one, found.parts[0]).content for one, found in pairs if suits(one)]
    return len(cuts) == 2 and cuts[0] == cuts[1]


def _executed(found: Image) -> list[ImagePart]:
    return [one for one in found.parts if one.role in _EXECUTED]


def _only(image: bytes) -> ImagePart:
    """Return the one image of a file."""
    found = recognise(io.BytesIO(image))
    if found.kind == "esp" and found.role in _EXECUTED and found.parts[0].start == 0:
        return found.parts[0]
    what = f"a {found.role} file" if found.role else f"{found.kind} bytes"
    hint = "sign each image before they are merged: esptool merge-bin keeps signatures"
    raise Malformed(
        "malformed.image",
        f"{KIND}: expected one application or boot loader for an ESP, found {what}",
        expected="one application or boot loader for an ESP",
        found=what,
        hint=hint if found.role == "merged" else None,
    )


class _Cut(NamedTuple):
    """An image cut into what is signed, padded to a sector; its signatures; and what follows."""

    content: bytes
    sector: bytes
    rest: bytes


def _cut(image: bytes, part: ImagePart) -> _Cut:
    end = read_one(io.BytesIO(image), part.start, len(image), signed=False).end
    at = end + (part.start - end) % SECTOR
    sector = image[at : at + SECTOR]
    # In a file that ends there it can be nothing else; in a merged one it must claim to be.
    last = part.start == 0 and len(image) == at + SECTOR and not is_blank(sector)
    if len(sector) == SECTOR and (last or any(claims(block) for block in blocks(sector))):
        return _Cut(image[part.start : at], sector, image[at + SECTOR :])
    return _Cut(image[part.start : end].ljust(at - part.start, b"\xff"), b"", image[end:])


def _read_part(image: bytes, part: ImagePart) -> list[NativeSignature]:
    """Return the signatures that the ROM of an image's chip looks at and can verify."""
    content, sector, _ = _cut(image, part)
    verified = _verified(sector, _digests(content))
    chip = BY_NAME[str(part.chip)]
    seen = [one for at, one in verified.items() if at < chip.signatures]
    return [one for one in seen if one.algorithm in chip.secure_boot]


def _verified(sector: bytes, digests: Mapping[str, bytes]) -> dict[int, NativeSignature]:
    """Return the signatures of a sector, by their places.

    Raises:
        Tampered: `tampered.native`: one is wrong, or twice there.
    """
    found: dict[int, NativeSignature] = {}
    for at, block in enumerate(blocks(sector) if sector else ()):
        if is_blank(block):
            continue
        one = esp_block.read(block, f"signature {at}", digests)
        if one.key_digest in [other.key_digest for other in found.values()]:
            raise refused(KIND, f"key of signature {at}", "another key", "that of one before it")
        found[at] = one
    return found


def _digests(content: bytes) -> dict[str, bytes]:
    return {
        "SHA-256": hashlib.sha256(content).digest(),
        "SHA-384": hashlib.sha384(content).digest(),
    }


def _check_version(part: ImagePart, stated: int | None) -> None:
    """Refuse an application with another number than the stated one, which is compiled in."""
    if stated is not None and part.role == "application" and part.secure_version != stated:
        found = "none" if part.secure_version is None else part.secure_version
        raise Unsuitable(
            "unsuitable.security-version",
            f"{KIND}: expected security version {stated}, found {found} in the application",
            expected=stated,
            found=found,
            hint=f"build it with CONFIG_BOOTLOADER_APP_SECURE_VERSION={stated}",
        )


def _checked(key: HeldKey, chip: Chip) -> bytes:
    """Return the digest of a key that a chip can verify with.

    Raises:
        Failed: `key.unsupported`.
    """
    algorithm = _algorithm(key)
    if algorithm not in chip.secure_boot:
        expected = " or ".join(chip.secure_boot)
        why = f"the ROM of {chip.name} verifies {expected}, and {key.place} is {algorithm}"
        raise unsupported(KIND, why, expected, algorithm)
    return esp_block.digest_of_key(key.public_key)


def _algorithm(key: HeldKey) -> str:
    return esp_block.algorithm_of(key.public_key)


def _check_alike(algorithms: Sequence[str]) -> None:
    """Refuse keys of several kinds: a boot loader is built for one, and espsecure reads one."""
    kinds = list(dict.fromkeys(algorithms))
    if len(kinds) > 1:
        why = f"an image has signatures of one kind, and these would be {' and '.join(kinds)}"
        raise unsupported(KIND, why, kinds[0], ", ".join(kinds[1:]))


def _check_room(
    given: Sequence[bytes], fresh: Sequence[HeldKey], free: Sequence[int], chip: Chip
) -> None:
    if len(set(given)) < len(given):
        raise Failed(
            "key.unsupported",
            f"{KIND}: the same key is given twice",
            expected="different keys",
            found="one key twice",
        )
    if len(fresh) > len(free):
        most, all_of = chip.signatures, chip.signatures - len(free) + len(fresh)
        raise Failed(
            "key.unsupported",
            f"{KIND}: {chip.name} looks at {most} signature{'s' * (most > 1)}, and there would be "
            f"{all_of}",
            expected=f"at most {most}",
            found=all_of,
        )


def _signed(key: HeldKey, digests: Mapping[str, bytes]) -> bytes:
    """Return the block of a key, whose signature verifies."""
    block = esp_block.make(key, digests)
    try:
        esp_block.read(block, "signature", digests)
    except Tampered as error:
        raise Failed(
            "key.failed",
            f"the signature that {key.place} made does not verify with its public key",
            expected="a signature of this key",
            found=error.message,
        ) from None
    return block
