# SPDX-License-Identifier: Apache-2.0
"""Who must sign, in the table [policy] of device.toml and of fwsign.toml, in the same words."""

from typing import Final

from fwsign.format.algorithms import STRENGTHS, Strength
from fwsign.toml import TomlTable
from fwsign.verify.policy import DevicePolicy, check_policy
from fwsign.verify.rule import parse_rule
from fwsign.verify.signer_policy import Role, SignerPolicy

_COLONS: Final = str.maketrans("", "", ": ")


def parse_signers(table: TomlTable) -> SignerPolicy | None:
    """Read `signers`, `algorithms` and the roles; None if the table has none of them.

    Raises:
        Failed: `io.config`; `state.policy` for a policy that nobody can meet.
    """
    rule = table.maybe("signers")
    algorithms = tuple(_strength(table, "algorithms", one) for one in table.texts("algorithms"))
    tables = table.table("roles")
    roles = tuple(_role(tables.table(label), label) for label in tables.keys())  # noqa: SIM118
    if rule is None and not algorithms and not roles:
        return None
    found = SignerPolicy(roles, parse_rule(rule) if rule is not None else None, algorithms)
    check_policy(DevicePolicy(signers=found))
    return found


def _role(table: TomlTable, label: str) -> Role:
    below = table.maybe("below")
    algorithm = table.maybe("algorithm")
    role = Role(
        label,
        keys=tuple(map(_digest, table.one_or_more("key"))),
        below=_digest(below) if below is not None else None,
        name=table.maybe("name"),
        unit=table.maybe("unit"),
        algorithm=_strength(table, "algorithm", algorithm) if algorithm is not None else None,
    )
    table.end()
    return role


def _digest(text: str) -> str:
    """Return a digest as policies have it: other programs write colons and capitals."""
    return text.translate(_COLONS).lower()


def _strength(table: TomlTable, key: str, text: str) -> Strength:
    found = next((one for one in STRENGTHS if one == text), None)
    if found is None:
        raise table.wrong(key, " or ".join(STRENGTHS), text)
    return found
