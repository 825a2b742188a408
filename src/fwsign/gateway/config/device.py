# SPDX-License-Identifier: Apache-2.0
"""device.toml: the device's identity, its anchors, its policy, and its target places.

Strict: an unknown key is an error, and so is a file that another user could have written.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeVar

from fwsign import spans
from fwsign.errors import Failed, FwsignError, Untrusted
from fwsign.files import read_owned
from fwsign.gateway.config.decrypt_rules import DecryptKey, parse_decrypt
from fwsign.gateway.config.fetch_rules import FetchRules, read_rules
from fwsign.gateway.config.follow_rules import (
    KEEP,
    MAX_KEEP,
    AfterInstall,
    FollowRules,
    parse_after_install,
    parse_follow,
)
from fwsign.gateway.config.identity import DeviceName, parse_identity
from fwsign.gateway.config.report_rules import ReportRules, parse_report
from fwsign.gateway.config.signer_rules import parse_signers
from fwsign.gateway.config.trial_rules import TrialRules, parse_trial
from fwsign.gateway.config.verbs import NO_VERBS, Verbs, parse_exec
from fwsign.keys.published import is_published
from fwsign.names import product_name, vendor_domain
from fwsign.toml import TomlTable
from fwsign.trust.lists import MAX_THRESHOLD, TrustAnchor, TrustState
from fwsign.verify.policy import DevicePolicy, Revocation
from fwsign.x509.anchor import Anchor

DEFAULT_CONFIG: Final = Path("/etc/fwsign/device.toml")
DEFAULT_STATE: Final = Path("/var/lib/fwsign/state.db")
VARIABLE: Final = "FWSIGN_DEVICE"
"""The environment variable that names another device.toml."""
MAX_SIZE: Final = 1024 * 1024
"""Bytes of device.toml, and of each file that it names."""
MAX_SIGNERS: Final = 8
"""The most distinct signers that a policy may demand, as in `fwsign verify --require`."""

T = TypeVar("T")


Tell: TypeAlias = Callable[[str], object]
"""Called with messages for people during the work, such as a redirect."""


class Device(NamedTuple):
    """The content of a device.toml.

    Args:
        path: the file itself.
        trust: the device's vendor and product, and its enrolled anchors: list 0.
        policy: the demands on every release; memory and trust add the rest.
        state: the memory's file.
        target_dir: the directory for `file` components.
        device_key: URI of the key that signs receipts.
        hooks: component name -> the command for it, with its arguments.
        hook_seconds: the longest time for a command.
        ports: chip -> the port of the board with that chip.
        fetch: the limits of fetching.
        verbs: component name -> its three commands, where it has three.
        trial: the rules for a release on trial; None if releases are not tried.
        identity: the device's name in receipts, and the certificates of its key.
        follow: the rules of `fwsign follow`.
        after_install: the command after an install; None if there is none.
        keep: how many versions are kept at rest, with the installed one.
        report: where receipts go.
        decrypt: the keys for encrypted payloads.
    """

    path: Path
    trust: TrustState
    policy: DevicePolicy
    state: Path
    target_dir: Path
    device_key: str | None
    hooks: Mapping[str, tuple[str, ...]]
    hook_seconds: int
    ports: Mapping[str, str]
    fetch: FetchRules
    verbs: Mapping[str, Verbs] = NO_VERBS
    trial: TrialRules | None = None
    identity: DeviceName = DeviceName()
    follow: FollowRules = FollowRules()
    after_install: AfterInstall | None = None
    keep: int = KEEP
    report: ReportRules = ReportRules()
    decrypt: tuple[DecryptKey, ...] = ()


def find(given: Path | None) -> Path:
    """Return the device.toml to use: the one given, else `FWSIGN_DEVICE`, else the default."""
    named = os.environ.get(VARIABLE)
    return given or (Path(named) if named else DEFAULT_CONFIG)


def load(path: Path) -> Device:
    """Read a device.toml.

    Raises:
        Failed: `io.config` for a mistake in it, or a file that other users may write; `io.*`.
        Untrusted: `untrusted.example-key`.
    """
    table = _read(path)
    try:
        return _device(path, table)
    except FwsignError as error:
        if error.code.startswith("io.") or error.code == "untrusted.example-key":
            raise
        message = f"{path}: {error.message}"
        raise Failed("io.config", message, expected=error.expected, found=error.found) from None


def _read(path: Path) -> TomlTable:
    try:
        content = tomllib.loads(read_owned(path, MAX_SIZE).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        words = str(error)
        raise Failed("io.config", f"{path}: {words[:1].lower()}{words[1:]}") from None
    return TomlTable(path, "", content)


def parse_revocation(text: str) -> tuple[Revocation, timedelta]:
    """Read `require`, `off` or `allow-stale:TIME`; return the mode and the span for stale CRLs.

    Raises:
        Failed: `state.policy`.
    """
    found = spans.parse_revocation(text)
    if found is None:
        raise Failed(
            "state.policy",
            f'revocation "{text}" is not a choice',
            expected=spans.REVOCATION,
            found=text,
        )
    return found


def refuse_published(anchor: Anchor) -> None:
    """Refuse a key whose private half is published.

    Raises:
        Untrusted: `untrusted.example-key`.
    """
    if whose := is_published(anchor.spki):
        message = f"anchor {anchor.spki[:16]} is {whose}, which is published"
        raise Untrusted("untrusted.example-key", message, found=anchor.spki)


def _device(path: Path, top: TomlTable) -> Device:
    vendor, product = vendor_domain(top.take("vendor", str)), product_name(top.take("product", str))
    policy = top.table("policy")
    threshold = policy.number("trust_require", 1, MAX_THRESHOLD)
    trust = TrustState(vendor, product, 0, 0, threshold, _anchors(path, top))
    commands = parse_exec(top.table("exec"))
    device = Device(
        path,
        trust,
        _policy(policy, vendor, product),
        top.place("state", DEFAULT_STATE),
        top.place("target_dir"),
        top.maybe("device_key"),
        commands.forward,
        top.number("exec_seconds", 3600, 7 * 24 * 3600),
        _each(top.table("flash"), _port),
        read_rules(top.table("fetch")),
        verbs=commands.verbs,
        trial=parse_trial(top.table("trial")),
        identity=parse_identity(top),
        follow=parse_follow(top.table("follow")),
        after_install=parse_after_install(top.table("after_install")),
        keep=top.number("keep", KEEP, MAX_KEEP),
        report=parse_report(top.table("report")),
        decrypt=parse_decrypt(top),
    )
    top.end()
    return device


def _policy(table: TomlTable, vendor: str, product: str) -> DevicePolicy:
    how, stale = parse_revocation(table.take("revocation", str, "require"))
    profile = table.take("profile", str, "strict")
    if profile not in ("strict", "compat"):
        raise table.wrong("profile", "strict or compat", profile)
    policy = DevicePolicy(
        vendor=vendor,
        product=product,
        threshold=table.number("require", 1, MAX_SIGNERS),
        profile="compat" if profile == "compat" else "strict",
        revocation=how,
        allow_stale=stale,
        require_token=table.take("require_token", bool, default=False),
        signers=parse_signers(table),
    )
    table.end()
    return policy


def _anchors(path: Path, top: TomlTable) -> tuple[TrustAnchor, ...]:
    found: dict[str, TrustAnchor] = {}
    for one in top.tables("anchor"):
        anchor = _release_anchor(one)
        if anchor.anchor.spki in found:
            raise one.wrong("pem", "an anchor that is there once", anchor.anchor.spki)
        found[anchor.anchor.spki] = anchor
    if not any("release" in one.roles for one in found.values()):
        raise Failed("io.config", f"{path} has no anchor for releases: nobody is trusted")
    for one in top.tables("tsa_anchor"):
        tsa = _anchor(one)
        known = found.get(tsa.spki, TrustAnchor(tsa, ()))
        found[tsa.spki] = known._replace(roles=(*known.roles, "tsa"))
    return tuple(found.values())


def _release_anchor(table: TomlTable) -> TrustAnchor:
    """Read an anchor. A certificate may also sign trust updates; a bare key needs that role."""
    role = table.maybe("role")
    if role not in (None, "release", "trust"):
        raise table.wrong("role", "release or trust", role)
    vendors = tuple(vendor_domain(one) for one in table.texts("vendors"))
    anchor = _anchor(table)._replace(vendors=vendors)
    if role == "trust":
        return TrustAnchor(anchor, ("trust",))
    if role == "release" or anchor.certificate is None:
        return TrustAnchor(anchor, ("release",))
    return TrustAnchor(anchor, ("release", "trust"))


def _anchor(table: TomlTable) -> Anchor:
    """Read the anchor of a table: inline as `pem`, or from the file that `file` names."""
    place = table.maybe_place("file")
    data = read_owned(place, MAX_SIZE) if place else table.take("pem", str).encode()
    anchor = Anchor.from_pem(data)
    refuse_published(anchor)
    table.end()
    return anchor


def _port(table: TomlTable, key: str) -> str:
    from fwsign.flash.backends import check_port  # few gateways have boards

    port = table.take(key, str)
    try:
        check_port(port)
    except Failed as error:
        raise table.wrong(key, str(error.expected), port) from None
    return port


def _each(table: TomlTable, read: Callable[[TomlTable, str], T]) -> Mapping[str, T]:
    return MappingProxyType({key: read(table, key) for key in table.keys()})  # noqa: SIM118
