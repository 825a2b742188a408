# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign`, each with the check of its value."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import PKI, named
from fwsign.flash.boards import waivers
from fwsign.format.kinds import KINDS
from fwsign.format.notice import Notice, fault

ACCEPTABLE: Final = (waivers.ATTACHMENT, waivers.FLASH_SIZE, waivers.LAYOUT, waivers.UNBOOTABLE)
"""The checks that --accept waives when signing."""


def _words(value: str | None) -> str | None:
    if value is not None and not (value and value.isprintable()):
        ui.usage(f'"{value}" is not a line of printable text')
    return value


def _version(value: str | None) -> str | None:
    from fwsign.format.text import MAX_VERSION_LENGTH  # where it is given

    size = len((value or "").encode(errors="replace"))
    if size > MAX_VERSION_LENGTH:
        ui.usage(f"a version of {size} bytes, at most {MAX_VERSION_LENGTH} are allowed")
    return _words(value)


def _checks(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if name not in ACCEPTABLE:
            ui.usage(f'--accept "{name}"', f"choose from {', '.join(ACCEPTABLE)}")
    return names


def _base_url(url: str) -> str:
    if url:
        from fwsign.format.component import is_url  # where it is given

        if not (is_url(url) and url.endswith(("/", "="))):
            ui.usage(
                f'--base-url "{url}" is not the beginning of a URL',
                "names follow it at once: end it with / as in https://acme.example/updates/",
            )
    return url


def _block_size(size: int | None) -> int | None:
    if size:
        from fwsign.format.blocks import BLOCK_SIZES, is_block_size  # where it is given

        if not is_block_size(size):
            ui.usage(f"--block-size {size} is not 0 or {BLOCK_SIZES}")
    return size


FILES: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        readable=False, metavar="FILE...", help="What to sign: regular files, of any kind."
    ),
]
SIGNER: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A signer of the PKI. Default: that of fwsign.toml, else release."
    ),
]
KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="The key, where there is no PKI: a path or another URI. Default: that of fwsign.toml.",
    ),
]
CHAIN: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="The key's certificates: its own first, the root last. Default: that of fwsign.toml.",
    ),
]
VENDOR: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="Whose devices it is for. Default: that of fwsign.toml, else the only one that "
        "the signer's certificate names.",
    ),
]
PRODUCT: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        callback=named("product_name"),
        help="Which of the vendor's products it is for. Default: that of fwsign.toml.",
    ),
]
VERSION: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="V",
        callback=_version,
        help="Version, for people. Default: the image's own, if it has one.",
    ),
]
DESCRIPTION: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", callback=_words, help="For people; signed with the rest."),
]
SEQUENCE: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Devices accept none lower than they have seen. Default: SOURCE_DATE_EPOCH, else "
        "the time in seconds.",
    ),
]
NOT_AFTER: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Devices refuse to install it from then on: 90d, or RFC 3339 with a zone. "
        "Default: never.",
    ),
]
CLASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="security|feature",
        help="What the release is for; fwsign follow decides by it. Older verifiers refuse a text "
        "with this or the next two.",
    ),
]
ADVISORY: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="An advisory that the release closes, such as CVE-2026-1234; repeat for several. "
        "For --class security.",
    ),
]
SUPPORT_UNTIL: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="The last day of the product's support: 2031-12-31."),
]
TARGETS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[FILE=]T",
        help=f"Where FILE goes: {', or '.join(one.target for one in KINDS.values())}; repeat for "
        "several. Default: as the "
        "image says, else file.",
    ),
]
STRICT: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse images with a remark, such as bytes after the image that are not blank.",
    ),
]
RAW: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--raw", help="Sign bytes that are no known image also for places that a chip executes."
    ),
]
ACCEPT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CHECK",
        callback=_checks,
        help="Sign although a check of the files against each other fails: "
        f"{', '.join(ACCEPTABLE)}; repeat for several.",
    ),
]
NAMES: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[FILE=]NAME",
        help="What FILE is called in the release, where its own name is not allowed there; repeat "
        "for several.",
    ),
]
EMBED: TypeAlias = Annotated[
    bool, typer.Option("--embed", help="Put the files into the envelope, at most 16 MiB each.")
]
BASE_URL: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="URL",
        show_default=False,
        callback=_base_url,
        help="Where devices fetch the files: URL and name. Default: beside the envelope.",
    ),
]
BLOCK_SIZE: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_block_size,
        help="Bytes of the blocks that devices check one by one as they arrive, a power of two "
        "from 4096; for files larger than one. 0: none. Default: by size, from 1 MiB on.",
    ),
]
DEVICE_DATA: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--device-data",
        readable=False,
        metavar="TOML",
        help="A policy: which data fwsign flash may write for each board. It is signed with "
        "the rest.",
    ),
]
FORCE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace envelopes that exist; allow a --sequence of more than a day ahead, a clock "
        "behind the CRLs, and CRLs that go stale within a day.",
    ),
]
ALLOW_EMPTY: TypeAlias = Annotated[
    bool, typer.Option("--allow-empty", help="Sign files without content, too.")
]
OUTPUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        readable=False,
        metavar="FILE",
        help="One envelope, with all FILEs as its components; - is standard output. Default: "
        "FILE.suit for each.",
    ),
]
OUTPUT_DIR: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        readable=False,
        metavar="DIR",
        help="Put FILE.suit of each FILE into this directory, not beside FILE.",
    ),
]
DRY_RUN: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be signed; open no key, ask nobody and write nothing."
    ),
]


class SignerOptions(NamedTuple):
    """Options: the signer."""

    pki: PKI = None
    signer: SIGNER = None
    key: KEY = None
    chain: CHAIN = None

    def check(self, key: str | None, chain: Path | None) -> None:
        """Refuse options that have no meaning together.

        Args:
            key: the key's URI of the settings.
            chain: the chain of the settings.
        """
        others = "--pki and --signer name a signer of a PKI"
        if (self.key and not (self.chain or chain)) or (self.chain and not (self.key or key)):
            ui.usage("--key and --chain go together", others)
        if key and not (chain or self.chain or self.pki or self.signer):
            ui.usage(
                "the settings have a key without its chain",
                f'chain = "FILE" in fwsign.toml, or FWSIGN_CHAIN, names it; {others}',
            )
        if self.key is not None and self.pki is not None:
            ui.usage("--key and --pki exclude each other")
        if self.key is not None and self.signer is not None:
            ui.usage("--key and --signer exclude each other")


class AboutOptions(NamedTuple):
    """Options: what the release says of itself, for devices and people."""

    vendor: VENDOR = None
    product: PRODUCT = None
    version: VERSION = None
    description: DESCRIPTION = None
    sequence: SEQUENCE = None
    not_after: NOT_AFTER = None
    release_class: CLASS = None
    advisory: ADVISORY = None
    support_until: SUPPORT_UNTIL = None

    def notice(self) -> Notice:
        """Return the release's notice, and refuse one that no device would accept."""
        notice = Notice(self.release_class, tuple(self.advisory or ()), self.support_until)
        if (wrong := fault(notice)) is not None:
            ui.usage(wrong, "as in: --class security --advisory CVE-2026-1234")
        return notice


class ImageOptions(NamedTuple):
    """Options: where files go on a device, and the checks of them that do not count."""

    target: TARGETS = None
    strict: STRICT = False
    raw: RAW = False
    accept: ACCEPT = None
    name: NAMES = None

    @property
    def waived(self) -> tuple[str, ...]:
        """The names of the checks that are waived."""
        return (*(self.accept or ()), *([waivers.RAW] * self.raw))


class OutputOptions(NamedTuple):
    """Options: where the envelopes go."""

    output: OUTPUT = None
    output_dir: OUTPUT_DIR = None

    def envelopes(self, files: Sequence[Path]) -> list[Path]:
        """Return the path of each envelope, for files of the names that are signed."""
        if self.output is not None:
            return [self.output]
        return [(self.output_dir or file.parent) / f"{file.name}.suit" for file in files]


class ContentOptions(NamedTuple):
    """Options: the payloads in the envelope, and how devices get them."""

    embed: EMBED = False
    base_url: BASE_URL = ""
    block_size: BLOCK_SIZE = None
    device_data: DEVICE_DATA = None
