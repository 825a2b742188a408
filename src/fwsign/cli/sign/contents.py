# SPDX-License-Identifier: Apache-2.0
"""What `fwsign sign` signs: the releases of its files, and the checks of what the images say."""

from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import payloads
from fwsign.cli.sign import naming, targets
from fwsign.cli.sign import options as option
from fwsign.cli.sign.attach_options import Attached
from fwsign.flash.boards.waivers import UNBOOTABLE
from fwsign.format.kinds import file_identifier
from fwsign.format.text import Text
from fwsign.signing.release import DEVICE_DATA, ReleaseFile
from fwsign.signing.release import describe as describe_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fwsign.cli.sign.targets import TargetFile
    from fwsign.signing.encrypting import Encrypting
    from fwsign.signing.release import Release


class What(NamedTuple):
    """The content of a release, apart from its files.

    Args:
        vendor: the vendor.
        product: the product.
        about: what was typed about it.
        number: the sequence number.
        use_before: seconds since 1970; None for no end.
        content: the options about payloads.
        documents: the documents about it.
        encryption: to whom its files are encrypted; None if they are not.
    """

    vendor: str
    product: str
    about: option.AboutOptions
    number: int
    use_before: int | None
    content: option.ContentOptions
    documents: Attached = Attached()
    encryption: "Encrypting | None" = None


def placed(
    files: "Sequence[Path]",
    names: "dict[Path, str]",
    images: option.ImageOptions,
    *,
    together: bool,
) -> "list[list[TargetFile]]":
    """Return the targets of each release.

    Args:
        files: the given files.
        names: the name of each in its release.
        images: what was typed about them.
        together: whether all are one release.
    """
    parts = naming.renamed(targets.find_targets(files, images.target or ()), names)
    if together:
        return [targets.placed(parts)]
    apart: dict[Path, list[TargetFile]] = {file: [] for file in files}
    for one in parts:
        apart[one.part.path].append(one)
    return [targets.placed(apart[file]) for file in files]


def check_images(
    groups: "Sequence[Sequence[TargetFile]]", version: str | None, images: option.ImageOptions
) -> list[str]:
    """Check what the images say about themselves and each other; return the remarks."""
    every = [one for group in groups for one in group]
    waived = images.waived
    if images.strict or any(one.chip for one in every):
        from fwsign.cli.sign import layout  # only images have one

        layout.check(groups, waived, strict=images.strict)
    for one in every:
        if one.image is not None and any(part.key_digests for part in one.image.parts):
            from fwsign.cli.sign.native import check_others  # for images signed for their chip

            check_others(one.part.path)
    said = targets.remarks(every)
    if UNBOOTABLE not in waived:
        said += targets.doubts(every)
    if version is None:
        said += [
            f"{one.part.path} names no version of its own, but its framework's, "
            f"{one.framework}: --version states one"
            for one in every
            if one.framework
        ]
    return said


def describe(group: "Sequence[TargetFile]", what: What) -> "Release":
    """Hash the files of a release and describe them."""
    policy = what.content.device_data
    stated = what.about.version or targets.common_version(group)
    parts = [one.part for one in group]
    if policy is not None:
        parts.append(ReleaseFile(policy, file_identifier(DEVICE_DATA), DEVICE_DATA, inside=True))
    native = tuple(one.native for one in group)
    release = describe_files(
        parts,
        Text(
            what.vendor,
            what.product,
            stated,
            what.about.description,
            what.about.notice(),
            native if any(native) else (),
            what.documents.signed,
        ),
        sequence_number=what.number,
        use_before=what.use_before,
        embed=what.content.embed,
        base_url=what.content.base_url,
        block_size=what.content.block_size,
        carried=what.documents.carried,
        encryption=what.encryption,
        opener=payloads.opened,
    )
    if policy is not None:
        from fwsign.cli.sign import device_policy  # few releases have one

        device_policy.check(release.integrated, policy, group)
    return release
