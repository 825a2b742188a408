# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: files to envelopes."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, KEY_PASS, PKI, TSA_ANCHORS, named

if TYPE_CHECKING:
    from fwsign.cli.identity import Signing
    from fwsign.sign import TimeStamping

_DAY = 24 * 60 * 60


command = typer.Typer(rich_markup_mode=None, add_completion=False)


def _words(value: str | None) -> str | None:
    if value is not None and not (value and value.isprintable()):
        ui.usage(f'"{value}" is not a line of printable text')
    return value


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
    files: Annotated[
        list[Path],
        typer.Argument(
            readable=False, metavar="FILE...", help="What to sign: regular files, of any kind."
        ),
    ],
    *,
    pki: PKI = None,
    signer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A signer of the PKI. Default: that of fwsign.toml, else release."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The key, where there is no PKI: a path or file: URI."),
    ] = None,
    chain: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="The key's certificates, up to the root.",
        ),
    ] = None,
    vendor: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            callback=named("vendor_domain"),
            help="Whose devices it is for. Default: that of fwsign.toml, else the only one that "
            "the signer's certificate names.",
        ),
    ] = None,
    product: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=named("product_name"),
            help="Which of the vendor's products it is for. Default: that of fwsign.toml.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            metavar="V",
            callback=_words,
            help="Version, for people. Default: the image's own, if it has one.",
        ),
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(metavar="TEXT", callback=_words, help="For people; signed with the rest."),
    ] = None,
    sequence: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Devices accept none lower than they have seen. Default: SOURCE_DATE_EPOCH, else "
            "the time in seconds.",
        ),
    ] = None,
    not_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Devices refuse to install it from then on: 90d, or RFC 3339 with a zone. "
            "Default: never.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE=]T",
            help="Where FILE goes: file, or CHIP@OFFSET; repeat for several. Default: as the "
            "image says, else file.",
        ),
    ] = None,
    embed: Annotated[
        bool,
        typer.Option("--embed", help="Put the files into the envelope, at most 16 MiB each."),
    ] = False,
    base_url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="Where devices fetch the files: URL and name. Default: beside the envelope.",
        ),
    ] = "",
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Bytes of the blocks that devices check one by one as they arrive, a power of two "
            "from 4096; for files larger than one. 0: none. Default: 65536, for files above 1 MiB.",
        ),
    ] = None,
    crl: CRLS = None,
    tsa: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Have a time-stamping authority (RFC 3161) prove when each signature was made; "
            "--crl gives the CRLs of its issuers.",
        ),
    ] = None,
    tsa_anchor: TSA_ANCHORS = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace envelopes that exist; allow a --sequence of more than a day ahead, a "
            "clock behind the CRLs, and CRLs that go stale within a day.",
        ),
    ] = False,
    pass_: KEY_PASS = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Sign files without content, too.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="One envelope, with all FILEs as its components. Default: FILE.suit for each.",
        ),
    ] = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
) -> None:
    """Sign files; each gets its own envelope.

    FILE.suit appears beside FILE, verified as a device would before it is written. With --output
    all FILEs become components of one release.
    """
    from fwsign.cli import payloads, results, targets  # noqa: PLC0415 - what only signing needs

    settings = config.load()
    product = product or settings.product
    if product is None:
        ui.usage("no product given", "name it with --product NAME, or in fwsign.toml")
    _check_choice(pki, signer, key, chain)
    _check_base_url(base_url, embed=embed)
    if tsa_anchor and tsa is None:
        ui.usage("--tsa-anchor without --tsa")
    _check_block_size(block_size, embed=embed)
    now = inputs.now()
    number = _sequence_number(sequence, now, force=force)
    use_before = _use_before(not_after, now)
    targets.check_files(files, together=output is not None, empty=allow_empty)
    envelopes = [output] if output else [Path(f"{file}.suit") for file in files]
    results.check(envelopes, (*files, *(crl or ()), *([chain] if chain else ())), force=force)
    found = targets.find_targets(files, target or ())
    groups = [targets.placed(one) for one in ([found] if output else [[one] for one in found])]

    from fwsign.release import describe  # noqa: PLC0415
    from fwsign.sign import sign as sign_release  # noqa: PLC0415
    from fwsign.suit import Text  # noqa: PLC0415

    signing = _signing(pki, signer or settings.signer, (key, chain), pass_, crl or ())
    vendor = vendor or settings.vendor or _only_vendor(signing)
    stamping = _time_stamping(tsa, tsa_anchor or (), signing) if tsa else None
    signed = []
    for group in groups:
        stated = version or targets.common_version(group)
        release = describe(
            [one.part for one in group],
            Text(vendor, product, stated, description),
            sequence_number=number,
            use_before=use_before,
            embed=embed,
            base_url=base_url,
            block_size=block_size,
            opener=payloads.opened,
        )
        signed.append(
            sign_release(
                release,
                [signing.identity],
                [signing.anchor],
                at=now,
                tsa=stamping,
                allow_example_keys=allow_example_keys,
                force=force,
            )
        )
        results.refuse_unused(signing.identity.crls, signed[-1][1])
    results.write(envelopes, files, signed, now, force=force)


def _check_choice(
    pki: Path | None, signer: str | None, key: str | None, chain: Path | None
) -> None:
    if (key is None) != (chain is None):
        ui.usage("--key and --chain go together", "--pki and --signer name a signer of a PKI")
    if key is not None and pki is not None:
        ui.usage("--key and --pki exclude each other")
    if key is not None and signer is not None:
        ui.usage("--key and --signer exclude each other")


def _check_base_url(url: str, *, embed: bool) -> None:
    from fwsign.component import is_url  # noqa: PLC0415

    if url and embed:
        ui.usage("--embed and --base-url exclude each other")
    if url and not (is_url(url) and url.endswith(("/", "="))):
        ui.usage(
            f'--base-url "{url}" is not the beginning of a URL',
            "names are put right behind it: end it with / as in https://acme.example/updates/",
        )


def _check_block_size(size: int | None, *, embed: bool) -> None:
    if not size:
        return
    from fwsign.blocks import BLOCK_SIZES, is_block_size  # noqa: PLC0415

    if embed:
        ui.usage("--embed and --block-size exclude each other", "embedded files have no blocks")
    if not is_block_size(size):
        ui.usage(f"--block-size {size} is not 0 or {BLOCK_SIZES}")


def _sequence_number(given: int | None, now: datetime, *, force: bool) -> int:
    from fwsign.suit import MAX_SEQUENCE_NUMBER  # noqa: PLC0415

    seconds = int(now.timestamp())
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given is None and epoch and not (epoch.isdecimal() and len(epoch) < 20):
        ui.usage(f'SOURCE_DATE_EPOCH is "{epoch[:40]}", expected seconds since 1970')
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


def _signing(
    pki: Path | None,
    name: str | None,
    own_key: tuple[str | None, Path | None],
    source: str | None,
    crls: Sequence[Path],
) -> "Signing":
    from fwsign.cli import identity  # noqa: PLC0415

    key, chain = own_key
    if key is None or chain is None:
        return identity.from_pki(
            config.find_pki(pki), name or identity.DEFAULT_SIGNER, source, crls
        )
    return identity.from_key(key, chain, source, crls)


def _time_stamping(url: str, anchors: Sequence[Path], signing: "Signing") -> "TimeStamping":
    from functools import partial  # noqa: PLC0415 - where time stamps are asked for

    from fwsign.sign import TimeStamping  # noqa: PLC0415
    from fwsign.tsa_client import request_token  # noqa: PLC0415

    believed = inputs.load_anchors(anchors) or [signing.anchor]
    return TimeStamping(partial(request_token, url), tuple(believed))


def _only_vendor(signing: "Signing") -> str:
    if len(signing.vendors) != 1:
        domains = ", ".join(signing.vendors) or "no domain"
        ui.usage(f"the signer's certificate names {domains}", "say which with --vendor DOMAIN")
    return signing.vendors[0]
