# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: files to envelopes."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, KEY_PASS, PKI, TSA_ANCHORS
from fwsign.cli.sign import options as sign_options
from fwsign.flash.boards.waivers import RAW, UNBOOTABLE

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import Found, Signing
    from fwsign.cli.sign.targets import Target
    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.release import Release
    from fwsign.verify.verified import VerifiedRelease

_DAY = 24 * 60 * 60


class _Who(NamedTuple):
    """The signer, as typed."""

    pki: Path | None
    signer: str | None
    key: str | None
    chain: Path | None
    crl: Sequence[Path]


class _What(NamedTuple):
    """The content of a release, apart from its files."""

    vendor: str
    product: str
    version: str | None
    description: str | None
    number: int
    use_before: int | None
    embed: bool
    base_url: str
    block_size: int | None
    policy: Path | None


command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign sign build.bin",
        "fwsign sign app.bin boot.bin --output update.suit --version 2.4.1 --not-after 90d",
        "fwsign sign app.bin --target esp32c3@0x10000 --pass env:KEY_PASS",
        "fwsign sign build.bin --key release.key --chain chain.pem --crl ca.crl --product x1",
    ),
)
def sign(
    files: sign_options.FILES,
    *,
    pki: PKI = None,
    signer: sign_options.SIGNER = None,
    key: sign_options.KEY = None,
    chain: sign_options.CHAIN = None,
    vendor: sign_options.VENDOR = None,
    product: sign_options.PRODUCT = None,
    version: sign_options.VERSION = None,
    description: sign_options.DESCRIPTION = None,
    sequence: sign_options.SEQUENCE = None,
    not_after: sign_options.NOT_AFTER = None,
    target: sign_options.TARGETS = None,
    strict: sign_options.STRICT = False,
    raw: sign_options.RAW = False,
    accept: sign_options.ACCEPT = None,
    name: sign_options.NAMES = None,
    embed: sign_options.EMBED = False,
    base_url: sign_options.BASE_URL = "",
    block_size: sign_options.BLOCK_SIZE = None,
    device_data: sign_options.DEVICE_DATA = None,
    crl: CRLS = None,
    tsa: sign_options.TSA = None,
    tsa_anchor: TSA_ANCHORS = None,
    force: sign_options.FORCE = False,
    pass_: KEY_PASS = None,
    allow_empty: sign_options.ALLOW_EMPTY = False,
    output: sign_options.OUTPUT = None,
    dry_run: sign_options.DRY_RUN = False,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Sign files; each gets its own envelope.

    FILE.suit appears beside FILE, verified as a device would before it is written. With --output
    all FILEs become components of one release.
    """
    from fwsign.cli.sign import identity, naming, targets, written  # only signing needs these

    settings = config.load()
    product = product or settings.product
    if product is None:
        ui.usage(
            "no product given",
            "name it with --product NAME, or in fwsign.toml, which fwsign init makes",
        )
    who = _Who(pki, signer, key, chain, crl or ())
    _check_choice(who)
    _refuse_pairs(
        ("--embed", embed, "--base-url", base_url),
        ("--embed", embed, "--block-size", block_size),
        ("--output -", output == inputs.STREAM, "--json", as_json),
    )
    if device_data and output is None and len(files) > 1:
        ui.usage(
            "--device-data with several envelopes",
            "it belongs to the images that a board gets together: --output FILE",
        )
    if tsa_anchor and tsa is None:
        ui.usage("--tsa-anchor without --tsa")
    now = inputs.now()
    number = _sequence_number(sequence, now, force=force)
    use_before = _use_before(not_after, now)
    names = naming.name_files(files, name or (), together=output is not None, empty=allow_empty)
    envelopes = [output] if output else [Path(f"{file}.suit") for file in files]
    others = [one for one in (chain, device_data) if one is not None]
    written.check(envelopes, (*files, *who.crl, *others), force=force)
    parts = naming.renamed(targets.find_targets(files, target or ()), names)
    apart = [[one for one in parts if one.part.path == file] for file in files]
    groups = [targets.placed(one) for one in ([parts] if output else apart)]

    found = _find(who, settings, pass_)
    vendor = vendor or settings.vendor or _only_vendor(found)
    what = _What(
        vendor=vendor,
        product=product,
        version=version,
        description=description,
        number=number,
        use_before=use_before,
        embed=embed,
        base_url=base_url,
        block_size=block_size,
        policy=device_data,
    )
    waived = (*(accept or ()), *([RAW] * raw))
    said = _check_images(groups, what.version, strict=strict, waived=waived)
    if dry_run:
        identity.check(found, now, allow_example_keys=allow_example_keys, force=force)
        written.show_plan(
            envelopes, [_describe(one, what) for one in groups], found, said, as_json=as_json
        )
        return
    signing = identity.opened(found, pass_)
    stamping = _time_stamping(tsa, tsa_anchor or (), signing) if tsa else None
    signed = [
        _sign(
            _describe(one, what),
            signing,
            stamping,
            now,
            allow_example_keys=allow_example_keys,
            force=force,
        )
        for one in groups
    ]
    written.write(
        written.Made(envelopes, files, signed, now, said), pki=pki, force=force, as_json=as_json
    )


def _check_images(
    groups: "Sequence[Sequence[Target]]",
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


def _describe(group: "Sequence[Target]", what: _What) -> "Release":
    """Hash the files of a release and describe them."""
    from fwsign.cli import payloads
    from fwsign.cli.sign import targets
    from fwsign.format.kinds import file_identifier
    from fwsign.format.text import Text
    from fwsign.signing.release import DEVICE_DATA, ReleaseFile, describe

    stated = what.version or targets.common_version(group)
    parts = [one.part for one in group]
    if what.policy is not None:
        parts.append(
            ReleaseFile(what.policy, file_identifier(DEVICE_DATA), DEVICE_DATA, inside=True)
        )
    release = describe(
        parts,
        Text(what.vendor, what.product, stated, what.description),
        sequence_number=what.number,
        use_before=what.use_before,
        embed=what.embed,
        base_url=what.base_url,
        block_size=what.block_size,
        opener=payloads.opened,
    )
    if what.policy is not None:
        from fwsign.cli.sign import device_policy  # few releases have one

        device_policy.check(release.integrated, what.policy, group)
    return release


def _sign(
    release: "Release",
    signing: "Signing",
    stamping: "TimeStamping | None",
    now: datetime,
    *,
    allow_example_keys: bool,
    force: bool,
) -> "tuple[bytes, VerifiedRelease]":
    from fwsign.cli.verify.demands import refuse_unused
    from fwsign.signing.envelope import sign as sign_release

    signed = sign_release(
        release,
        [signing.identity],
        [signing.anchor],
        at=now,
        tsa=stamping,
        allow_example_keys=allow_example_keys,
        force=force,
    )
    refuse_unused(signing.identity.crls, signed[1])
    return signed


def _check_choice(who: _Who) -> None:
    if (who.key is None) != (who.chain is None):
        ui.usage("--key and --chain go together", "--pki and --signer name a signer of a PKI")
    if who.key is not None and who.pki is not None:
        ui.usage("--key and --pki exclude each other")
    if who.key is not None and who.signer is not None:
        ui.usage("--key and --signer exclude each other")


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


def _find(who: _Who, settings: config.Config, source: str | None) -> "Found":
    from fwsign.cli.sign import identity

    if who.key is None or who.chain is None:
        name = who.signer or settings.signer or identity.DEFAULT_SIGNER
        return identity.from_pki(config.find_pki(who.pki), name, who.crl)
    return identity.from_key(who.key, who.chain, source, who.crl)


def _time_stamping(url: str, anchors: Sequence[Path], signing: "Signing") -> "TimeStamping":
    from functools import partial  # only for time stamps

    from fwsign.signing.envelope import TimeStamping
    from fwsign.signing.tsa_client import request_token

    believed = inputs.load_anchors(anchors) or [signing.anchor]
    return TimeStamping(partial(request_token, url), tuple(believed))


def _only_vendor(found: "Found") -> str:
    if len(found.vendors) != 1:
        domains = ", ".join(found.vendors) or "no domain"
        ui.usage(f"the signer's certificate names {domains}", "say which with --vendor DOMAIN")
    return found.vendors[0]
