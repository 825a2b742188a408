# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: files to envelopes."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, JSON, KEY_PASS
from fwsign.cli.sign import options as option
from fwsign.flash.boards.waivers import ATTACHMENT, UNBOOTABLE

if TYPE_CHECKING:
    from fwsign.cli.sign.attached import Attached
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.cli.sign.targets import TargetFile
    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.release import Release

_DAY = 24 * 60 * 60


class _What(NamedTuple):
    """The content of a release, apart from its files.

    Args:
        vendor: the vendor.
        product: the product.
        about: what was typed about it.
        number: the sequence number.
        use_before: seconds since 1970; None for no end.
        content: the options about payloads.
        documents: the documents to attach; None for none.
    """

    vendor: str
    product: str
    about: option.AboutOptions
    number: int
    use_before: int | None
    content: option.ContentOptions
    documents: "Attached | None"


command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign sign build.bin",
        "fwsign sign app.bin boot.bin --output update.suit --version 2.4.1 --not-after 90d",
        "fwsign sign app.bin --target esp32c3@0x10000 --pass env:KEY_PASS",
        "fwsign sign build/*.bin --embed --output-dir dist --json",
        "fwsign sign build.bin --key release.key --chain chain.pem --crl ca.crl --product x1",
    ),
)
@grouped
def sign(
    files: option.FILES,
    *,
    who: option.SignerOptions,
    about: option.AboutOptions,
    images: option.ImageOptions,
    content: option.ContentOptions,
    evidence: option.EvidenceOptions,
    force: option.FORCE = False,
    pass_: KEY_PASS = None,
    allow_empty: option.ALLOW_EMPTY = False,
    output: option.OUTPUT = None,
    output_dir: option.OUTPUT_DIR = None,
    dry_run: option.DRY_RUN = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Sign files; each gets its own envelope.

    FILE.suit appears beside FILE, verified as a device would before it is written. With --output
    all FILEs become components of one release. An envelope that says the same already stays as it
    is, and needs no key.
    """
    from fwsign.cli.sign import (  # only signing needs these
        existing,
        identity,
        making,
        naming,
        targets,
        written,
    )

    settings = config.load()
    product = _product(about, settings)
    who.check(settings.key, settings.chain)
    about.notice()
    _check_options(content, evidence, output, output_dir, several=len(files) > 1, as_json=as_json)
    now = inputs.now()
    number = _sequence_number(about.sequence, now, force=force)
    use_before = _use_before(about.not_after, now)
    together = output is not None
    names = naming.name_files(files, images.name or (), together=together, empty=allow_empty)
    envelopes = [output] if output else [_envelope_of(file, output_dir) for file in files]
    documents = _documents(content, images.waived)
    others = filter(None, (who.chain, content.device_data, *_paths(documents)))
    existing.check(envelopes, (*files, *(evidence.crl or ()), *others), force=force)
    parts = naming.renamed(targets.find_targets(files, images.target or ()), names)
    apart = [[one for one in parts if one.part.path == file] for file in files]
    groups = [targets.placed(one) for one in ([parts] if output else apart)]

    found = _find(who, evidence, settings, pass_)
    vendor = about.vendor or settings.vendor or _only_vendor(found)
    what = _What(vendor, product, about, number, use_before, content, documents)
    said = _check_images(groups, about.version, strict=images.strict, waived=images.waived)
    releases = [_describe(one, what) for one in groups]
    said += _remarks(releases, documents, [files] if output else [[one] for one in files])
    terms = making.Terms(
        now=now,
        stamping=_time_stamping(evidence, found),
        allow_example_keys=allow_example_keys,
        force=force,
    )
    pairs = list(zip(envelopes, releases, strict=True))
    kept = [making.kept(*one, found, terms) for one in pairs]
    if dry_run:
        identity.check(found, now, allow_example_keys=allow_example_keys, force=force)
        written.show_plan(pairs, found, kept, said, as_json=as_json)
        return
    made = making.missing(releases, kept, found, terms, pass_)
    all_made = written.SignedFiles(envelopes, files, made, now, said)
    written.write(all_made, pki=who.pki, force=force, as_json=as_json)


def _envelope_of(file: Path, directory: Path | None) -> Path:
    """Return the path of the envelope of one file."""
    return (directory / file.name if directory else file).with_name(f"{file.name}.suit")


def _product(about: option.AboutOptions, settings: config.Config) -> str:
    product = about.product or settings.product
    if product is None:
        ui.usage(
            "no product given",
            "name it with --product NAME, or in fwsign.toml, which fwsign init makes",
        )
    return product


def _check_options(
    content: option.ContentOptions,
    evidence: option.EvidenceOptions,
    output: Path | None,
    output_dir: Path | None,
    *,
    several: bool,
    as_json: bool,
) -> None:
    """Refuse options that have no meaning together."""
    _refuse_pairs(
        ("--output", output, "--output-dir", output_dir),
        ("--embed", content.embed, "--base-url", content.base_url),
        ("--embed", content.embed, "--block-size", content.block_size),
        ("--output -", output == inputs.STREAM, "--json", as_json),
    )
    if content.device_data and output is None and several:
        ui.usage(
            "--device-data with several envelopes",
            "it belongs to the images that a board gets together: --output FILE",
        )
    if evidence.tsa_anchor and evidence.tsa is None:
        ui.usage("--tsa-anchor without --tsa")


def _check_images(
    groups: "Sequence[Sequence[TargetFile]]",
    version: str | None,
    *,
    strict: bool,
    waived: Sequence[str],
) -> list[str]:
    """Check what the images say about themselves and each other; return the remarks."""
    from fwsign.cli.sign import targets

    every = [one for group in groups for one in group]
    if strict or any(one.chip for one in every):
        from fwsign.cli.sign import layout  # only images have one

        layout.check(groups, waived, strict=strict)
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


def _documents(content: option.ContentOptions, waived: Sequence[str]) -> "Attached | None":
    """Read the documents that are attached; None if there are none."""
    if not content.attach and not content.embed_attachments:
        return None
    from fwsign.cli.sign import attached  # few releases have one

    return attached.read(
        content.attach or (), embed=content.embed_attachments, waived=ATTACHMENT in waived
    )


def _paths(documents: "Attached | None") -> list[Path]:
    return [one.path for one in documents.files] if documents else []


def _remarks(
    releases: "Sequence[Release]",
    documents: "Attached | None",
    files: Sequence[Sequence[Path]],
) -> list[str]:
    """Return remarks about documents; `files` has those of each release."""
    if documents is None:
        return []
    pairs = zip(releases, files, strict=True)
    return [*dict.fromkeys(line for pair in pairs for line in documents.check(*pair))]


def _describe(group: "Sequence[TargetFile]", what: _What) -> "Release":
    """Hash the files of a release and describe them."""
    from fwsign.cli import payloads
    from fwsign.cli.sign import targets
    from fwsign.format.kinds import file_identifier
    from fwsign.format.text import Text
    from fwsign.signing.release import DEVICE_DATA, NOTHING, ReleaseFile, describe

    policy = what.content.device_data
    stated = what.about.version or targets.common_version(group)
    parts = [one.part for one in group]
    if policy is not None:
        parts.append(ReleaseFile(policy, file_identifier(DEVICE_DATA), DEVICE_DATA, inside=True))
    release = describe(
        parts,
        Text(
            what.vendor,
            what.product,
            stated,
            what.about.description,
            what.about.notice(),
            what.documents.signed if what.documents else (),
        ),
        sequence_number=what.number,
        use_before=what.use_before,
        embed=what.content.embed,
        base_url=what.content.base_url,
        block_size=what.content.block_size,
        carried=what.documents.carried if what.documents else NOTHING,
        opener=payloads.opened,
    )
    if policy is not None:
        from fwsign.cli.sign import device_policy  # few releases have one

        device_policy.check(release.integrated, policy, group)
    return release


def _refuse_pairs(*pairs: tuple[str, object, str, object]) -> None:
    """Refuse two options that exclude each other."""
    for one, given, other, also in pairs:
        if given and also:
            ui.usage(f"{one} and {other} exclude each other")


def _sequence_number(given: int | None, now: datetime, *, force: bool) -> int:
    from fwsign.format.suit import MAX_SEQUENCE_NUMBER

    seconds = int(now.timestamp())
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given is None and epoch and not (epoch.isdecimal() and len(epoch) < 20):
        ui.usage(
            f'SOURCE_DATE_EPOCH is "{epoch[:40]}", expected seconds since 1970',
            "set it right, or unset it: unset SOURCE_DATE_EPOCH; --sequence goes before it",
        )
    number = given if given is not None else int(epoch or seconds)
    if not 0 <= number <= MAX_SEQUENCE_NUMBER:
        ui.usage(f"sequence number {number}, expected 0 to {MAX_SEQUENCE_NUMBER}")
    if number > seconds + _DAY and not force:
        ui.usage(
            f"sequence number {number} is more than a day ahead of the time, {seconds}",
            "devices would refuse what you sign until then; --force if you mean it",
        )
    return number


def _use_before(given: str | None, now: datetime) -> int | None:
    if given is None:
        return None
    seconds = int(inputs.parse_time(given, now).timestamp())
    if seconds <= now.timestamp():
        ui.usage(f"--not-after {given} is in the past: it is {now.isoformat()}")
    return seconds


def _find(
    who: option.SignerOptions,
    evidence: option.EvidenceOptions,
    settings: config.Config,
    source: str | None,
) -> "FoundSigner":
    from fwsign.cli.sign import identity

    crls = evidence.crl or ()
    key, chain = who.key, who.chain
    if who.pki is None and who.signer is None:
        key, chain = key or settings.key, chain or settings.chain
    if key is None or chain is None:
        name = who.signer or settings.signer or identity.DEFAULT_SIGNER
        return identity.from_pki(config.find_pki(who.pki), name, crls)
    return identity.from_key(key, chain, source, crls)


def _time_stamping(evidence: option.EvidenceOptions, found: "FoundSigner") -> "TimeStamping | None":
    if not evidence.tsa:
        return None
    from functools import partial  # only for time stamps

    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.tsa_client import request_token

    believed = inputs.load_anchors(evidence.tsa_anchor or ()) or [found.anchor]
    return TimeStamping(partial(request_token, evidence.tsa), tuple(believed))


def _only_vendor(found: "FoundSigner") -> str:
    if len(found.vendors) != 1:
        domains = ", ".join(found.vendors) or "no domain"
        ui.usage(f"the signer's certificate names {domains}", "say which with --vendor DOMAIN")
    return found.vendors[0]
