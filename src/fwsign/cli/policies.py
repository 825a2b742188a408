# SPDX-License-Identifier: Apache-2.0
"""Policies in files: the table [policy] of fwsign.toml, a device.toml, or such a table alone."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import config, inputs
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.verify.policy import DevicePolicy
    from fwsign.verify.signer_policy import SignerPolicy
    from fwsign.x509.anchor import Anchor

POLICY: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        readable=False,
        metavar="TOML",
        help="Judge as the device with this device.toml, by its anchors and policy; or by the "
        "table [policy] that alone is in the file. Default: the one of fwsign.toml.",
    ),
]
_TABLE = "policy"


class GivenPolicy(NamedTuple):
    """A policy of a file.

    Args:
        path: the file.
        signers: who must sign; None if it does not say.
        device: the anchors and the whole policy, if the file is a device.toml.
    """

    path: Path
    signers: "SignerPolicy | None"
    device: "tuple[Sequence[Anchor], DevicePolicy] | None" = None


def chosen(typed: Path | None, settings: config.Config) -> GivenPolicy | None:
    """Return the policy of --policy, else of fwsign.toml, if there is one.

    Raises:
        Failed: `io.config`, `io.*`.
    """
    if typed is not None:
        return _of_file(typed)
    if settings.policy is None:
        return None
    path, content = settings.policy
    return GivenPolicy(path, _signers(path, content))


def _of_file(path: Path) -> GivenPolicy:
    try:
        content = tomllib.loads(inputs.read(path, config.LIMIT).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        words = str(error)
        raise Failed("io.config", f"{path}: {words[:1].lower()}{words[1:]}") from None
    if content.keys() == {_TABLE}:
        return GivenPolicy(path, _signers(path, content[_TABLE]))
    from fwsign.gateway.config.device import load
    from fwsign.gateway.run.session import demands_of

    device = load(path)
    found = demands_of(device.trust, device.policy)
    return GivenPolicy(path, device.policy.signers, found)


def _signers(path: Path, content: Any) -> "SignerPolicy":
    """Read a table [policy] that says who must sign, and nothing else."""
    from fwsign.gateway.config.signer_rules import parse_signers
    from fwsign.toml import TomlTable

    table = TomlTable(path, "", {_TABLE: content}).table(_TABLE)
    try:
        found = parse_signers(table)
        table.end()
    except Failed as error:
        if error.code == "io.config":
            raise
        message = f"{path}: {error.message}"
        raise Failed("io.config", message, expected=error.expected, found=error.found) from None
    if found is None:
        raise Failed(
            "io.config",
            f'{path}: "{_TABLE}" says nothing',
            expected="signers or algorithms",
            found="an empty table",
        )
    return found


def facts(demands: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return what a policy demands, and the signers that are there, for --json."""
    return [
        {
            "demand": demand.name,
            "part": part.words,
            "met": part.met,
            "by": list(part.by),
            "found": list(part.found),
            "missing": list(part.missing),
        }
        for demand in demands
        for part in demand.clauses
    ]
