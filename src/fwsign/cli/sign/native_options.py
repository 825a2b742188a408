# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign` about the signature that the chip checks."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.native_settings import NativeSettings

if TYPE_CHECKING:
    from fwsign.cli.sign.native import NativeFiles
    from fwsign.cli.sign.targets import TargetFile


def _kind(value: str | None) -> str | None:
    if value is not None:
        from fwsign.format.native import KINDS  # where it is given

        if value not in KINDS:
            ui.usage(f'--native "{value}"', f"choose from {', '.join(KINDS)}")
    return value


def _number(value: int | None) -> int | None:
    if value is not None:
        from fwsign.format.native import MAX_SECURITY_VERSION  # where it is given

        if not 0 <= value <= MAX_SECURITY_VERSION:
            ui.usage(f"--security-version {value}, expected 0 to {MAX_SECURITY_VERSION}")
    return value


NATIVE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        callback=_kind,
        help="Sign each image for its chip first: esp-secure-boot-v2, mcuboot or rp2350; the "
        "release states it. Without a key, an image must be signed for the chip already. Default: "
        "that of fwsign.toml.",
    ),
]
NATIVE_KEY: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URI", help="A key for --native, like --key; repeat for several signatures."
    ),
]
NATIVE_PASS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SRC",
        help="Passphrase or PIN of --native-key: env:NAME, file:PATH or fd:N; one for all keys, or "
        "repeat for each in turn.",
    ),
]
NATIVE_OUTPUT: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[FILE=]PATH",
        help="Where the image with its native signature goes; FILE stays as it is. Default: "
        "FILE.signed with the ending of FILE, as app.signed.bin.",
    ),
]
NATIVE_OPTION: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=VALUE]",
        help="A further option of --native, such as header-size=512 for mcuboot; repeat for "
        "several.",
    ),
]
NATIVE_OTP: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PATH",
        help="Write the JSON with which picotool otp load lets an RP2350 start images of "
        "--native-key alone. fwsign burns nothing.",
    ),
]
SECURITY_VERSION: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_number,
        help="The chip's number against rollback: of an ESP it must be the compiled one, for "
        "mcuboot and rp2350 it is written. Default: that of fwsign.toml.",
    ),
]


class NativeOptions(NamedTuple):
    """Options: the signature that the chip's ROM or boot loader checks."""

    native: NATIVE = None
    native_key: NATIVE_KEY = None
    native_pass: NATIVE_PASS = None
    native_output: NATIVE_OUTPUT = None
    native_option: NATIVE_OPTION = None
    native_otp: NATIVE_OTP = None
    security_version: SECURITY_VERSION = None

    def settled(self, settings: NativeSettings) -> "NativeWish | None":
        """Return what is wanted, with what fwsign.toml says; None for no native signature."""
        kind = self.native or settings.kind
        if kind is None:
            for name in self._fields[1:-1]:
                if getattr(self, name):
                    option = name.replace("_", "-")
                    ui.usage(f"--{option} without --native", "--native KIND says whose it is")
            if self.security_version is not None or settings.security_version is not None:
                ui.usage("a security version without --native", "--native KIND says whose it is")
            return None
        same = kind == settings.kind  # keys and options of another kind fit nothing here
        keys = tuple(self.native_key or (settings.keys if same else ()))
        sources = self.native_pass or []
        if len(sources) > 1 and len(sources) != len(keys):
            ui.usage(f"{len(sources)} --native-pass for {len(keys)} keys", "give one, or one each")
        if sources and not keys:
            ui.usage("--native-pass without --native-key")
        if self.native_otp is not None and (kind != "rp2350" or not keys):
            ui.usage("--native-otp without --native rp2350 and --native-key")
        typed = dict(one.partition("=")[::2] for one in self.native_option or ())
        version = self.security_version
        if version is None and settings.kind in (None, kind):  # it counts for one kind
            version = settings.security_version
        return NativeWish(
            kind,
            keys,
            tuple(sources * len(keys) if len(sources) == 1 else sources or [None] * len(keys)),
            version,
            settings.key_digests,
            {**(settings.options if same else {}), **typed},
            self.native_otp,
        )

    def plan(
        self, settings: NativeSettings, files: Sequence[Path], names: dict[Path, str]
    ) -> "NativeFiles | None":
        """Return which files get a native signature; None for none.

        Args:
            settings: what fwsign.toml says.
            files: the given files.
            names: the name of each file in the release; those that had their own file's get that of
                the new one.
        """
        wish = self.settled(settings)
        if wish is None:
            return None
        from fwsign.cli.sign import native  # few releases have native signatures
        from fwsign.format.kinds import check_name

        found = native.planned(wish, files, self.native_output or ())
        for file, path in found.written.items():
            if names[file] == file.name:
                names[file] = check_name(path.name)
        return found


def signed_natively(
    plan: "NativeFiles | None",
    groups: "list[list[TargetFile]]",
    log: Path | None,
    now: datetime,
    *,
    force: bool,
    dry_run: bool,
) -> "AbstractContextManager[list[list[TargetFile]]]":
    """Return a context with the targets of each release, natively signed where that is planned.

    Args:
        plan: the files that get a native signature; None for none.
        groups: the targets of each release.
        log: the approval log.
        now: the present time.
        force: replace signed images that exist.
        dry_run: sign nothing; only what is signed already is checked.
    """
    if plan is None:
        return nullcontext(groups)
    if dry_run and plan.written:
        names = ", ".join(map(str, plan.written.values()))
        ui.note(f"the digest is that before the native signature, which would be in {names}")
        return nullcontext(groups)
    from fwsign.cli.sign import native  # few releases have native signatures

    return native.signed(plan, groups, ApprovalLog(log, now), force=force)


class ApprovalLog(NamedTuple):
    """The approval log, None for none; and the time for its lines."""

    file: Path | None
    now: datetime


class NativeWish(NamedTuple):
    """The native signature that is wanted.

    Args:
        kind: its kind.
        keys: the URIs of the keys; empty to check what is there.
        sources: where the passphrase of each key comes from, as typed; None for a prompt.
        security_version: the number against rollback; None for that of the image.
        key_digests: the keys that may have signed; empty for any.
        options: further options of the kind.
        otp: where the JSON for an RP2350's OTP goes; None for nowhere.
    """

    kind: str
    keys: tuple[str, ...]
    sources: tuple[str | None, ...]
    security_version: int | None
    key_digests: tuple[bytes, ...]
    options: dict[str, str]
    otp: Path | None = None
