# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: files to envelopes."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, FORCE, KEY_PASS, PKI
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.cli.identity import Signing
    from fwsign.verify import VerifiedRelease

_DAY = 24 * 60 * 60
_EXPIRY_WARNING = timedelta(days=30)


command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command()
def sign(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What to sign.")],
    *,
    pki: PKI = None,
    signer: Annotated[
        str | None, typer.Option(metavar="NAME", help="A signer of the PKI. Default: release.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="URI", help="The key, in place of a PKI: a path or URI.")
    ] = None,
    chain: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="The key's certificates: leaf first, root last."),
    ] = None,
    vendor: Annotated[
        str | None, typer.Option(metavar="DOMAIN", help="Default: the signer's only domain.")
    ] = None,
    product: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: that of fwsign.toml.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="V", help="Default: the image's own, if it has one.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="For people; signed with the rest.")
    ] = None,
    sequence: Annotated[
        int | None,
        typer.Option(metavar="N", help="Default: SOURCE_DATE_EPOCH, else the time in seconds."),
    ] = None,
    not_after: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Devices refuse it from then on: RFC 3339 or 90d."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE=]T", help="Where FILE goes: file, or CHIP@OFFSET. Default: recognised."
        ),
    ] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Put payloads into the envelope.")] = False,
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="Put before the payloads' names in the envelope.")
    ] = "",
    crl: CRLS = None,
    force: FORCE = False,
    pass_: KEY_PASS = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One envelope, with all FILEs as its components."),
    ] = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
) -> None:
    """Sign files: each FILE gets its envelope FILE.suit, verified before it is written."""
    settings = config.load()
    product = product or settings.product
    if product is None:
        ui.usage("no product given", "name it with --product NAME, or in fwsign.toml")
    if embed and base_url:
        ui.usage("--embed and --base-url exclude each other")
    envelopes = [output] if output else [Path(f"{file}.suit") for file in files]
    _refuse_existing(envelopes, force=force)
    now = inputs.now()
    number = _sequence_number(sequence, now, force=force)
    use_before = _use_before(not_after, now)

    from fwsign.cli import payloads, targets  # noqa: PLC0415 - what only this command needs
    from fwsign.names import product_name, vendor_domain  # noqa: PLC0415
    from fwsign.release import describe  # noqa: PLC0415
    from fwsign.sign import sign as sign_release  # noqa: PLC0415
    from fwsign.suit import Text  # noqa: PLC0415

    signing = _signing(pki, signer or settings.signer, (key, chain), pass_, crl or ())
    vendor = vendor_domain(vendor or settings.vendor or _only_vendor(signing))
    found = targets.find_targets(files, target or ())
    signed = []
    for group in [found] if output else [[one] for one in found]:
        stated = version or targets.common_version(group)
        release = describe(
            [one.part for one in group],
            Text(vendor, product_name(product), stated, description),
            sequence_number=number,
            use_before=use_before,
            embed=embed,
            base_url=base_url,
            opener=payloads.opened,
        )
        signed.append(
            sign_release(
                release,
                [signing.identity],
                [signing.anchor],
                at=now,
                allow_example_keys=allow_example_keys,
            )
        )
    _write(envelopes, signed, now, force=force)


def _refuse_existing(envelopes: Sequence[Path], *, force: bool) -> None:
    """Refuse before any work; the write itself decides again."""
    there = next((path for path in envelopes if path.exists()), None)
    if there is not None and not force:
        raise Failed("io.exists", f"{there} exists already")
    if len(set(envelopes)) < len(envelopes):
        ui.usage("the same file twice")


def _sequence_number(given: int | None, now: datetime, *, force: bool) -> int:
    seconds = int(now.timestamp())
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given is None and epoch and not epoch.isdecimal():
        ui.usage(f'SOURCE_DATE_EPOCH is "{epoch}", expected seconds since 1970')
    number = given if given is not None else int(epoch or seconds)
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
        ui.usage(f"--not-after {given} is in the past")
    return seconds


def _signing(
    pki: Path | None,
    name: str | None,
    own_key: tuple[str | None, Path | None],
    source: str | None,
    crls: Sequence[Path],
) -> "Signing":
    from fwsign.cli import identity  # noqa: PLC0415

    key, chain = own_key
    if (key is None) != (chain is None):
        ui.usage("--key and --chain go together")
    if key is None or chain is None:
        return identity.from_pki(
            config.find_pki(pki), name or identity.DEFAULT_SIGNER, source, crls
        )
    if pki is not None:
        ui.usage("--key and --pki exclude each other")
    return identity.from_key(key, chain, source, crls)


def _only_vendor(signing: "Signing") -> str:
    if len(signing.vendors) != 1:
        domains = ", ".join(signing.vendors) or "no domain"
        ui.usage(f"the signer's certificate names {domains}", "say which with --vendor DOMAIN")
    return signing.vendors[0]


def _write(
    envelopes: Sequence[Path],
    signed: "Sequence[tuple[bytes, VerifiedRelease]]",
    now: datetime,
    *,
    force: bool,
) -> None:
    from fwsign.atomic import write_atomic  # noqa: PLC0415

    for path, (envelope, verified) in zip(envelopes, signed, strict=True):
        write_atomic(path, envelope, overwrite=force)
        ui.out(str(path))
        for component in verified.components:
            ui.note(f"{component.name}: {component.size} bytes, payload {component.uri}")
    for line in dict.fromkeys(line for _, verified in signed for line in _warnings(verified, now)):
        ui.note(f"warning: {line}")
    ui.note(f"next: fwsign verify {envelopes[0]}")


def _warnings(verified: "VerifiedRelease", now: datetime) -> list[str]:
    lines = [f"devices need the profile compat: {note}" for note in verified.notes]
    for one in verified.signers:
        if one.path is None:
            continue
        if not one.path.vendors:
            lines.append(
                f'certificate "{one.path.name}" names no vendor: devices must pin '
                f"{verified.vendor} for key {one.path.keys[0]}"
            )
        if not one.revocation_checked:
            lines.append("no CRLs in the envelope: devices cannot tell whether it is revoked")
        for certificate in one.path.certificates:
            end = certificate.parsed.not_valid_after_utc
            if end - now < _EXPIRY_WARNING:
                lines.append(f'certificate "{certificate.name}" expires {end:%Y-%m-%d}')
    return lines
