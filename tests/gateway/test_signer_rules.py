"""Who must sign, in the words of device.toml: read strictly, and judged as the library does."""

from pathlib import Path

import pytest

from fwsign.verify.rule import parse_rule
from fwsign.verify.signer_policy import Role
from gateway.test_config import device
from support import refused

A, B = "ab" * 32, "01" * 32
COLONS = ":".join(["AB"] * 32)
PEOPLE = f"""[policy.roles]
alice = {{ key = "{COLONS}" }}
bob = {{ name = "bob", below = "{B}" }}
carol = {{ key = ["{B}", "{"cd" * 32}"] }}
release-approvers = {{ unit = "release-approvers", below = "{B}", algorithm = "classic" }}
[policy]
signers = "2 of (alice, bob, carol) and 1 of release-approvers"
algorithms = ["classic"]
require = 3
"""


def test_a_policy_about_signers_is_read(tmp_path: Path) -> None:
    found = device(tmp_path, PEOPLE).policy
    assert found.signers is not None
    assert found.signers.roles == (
        Role("alice", keys=(A,)),
        Role("bob", below=B, name="bob"),
        Role("carol", keys=(B, "cd" * 32)),
        Role("release-approvers", below=B, unit="release-approvers", algorithm="classic"),
    )
    assert found.signers.rule == parse_rule("2 of (alice, bob, carol) and release-approvers")
    assert found.signers.algorithms == ("classic",)
    assert found.threshold == 3


def test_without_one_nothing_changes(tmp_path: Path) -> None:
    assert device(tmp_path, "[policy]\nrequire = 2").policy.signers is None


def test_algorithms_alone_are_a_policy(tmp_path: Path) -> None:
    found = device(tmp_path, '[policy]\nalgorithms = ["classic", "post-quantum"]').policy.signers
    assert found is not None
    assert found.rule is None
    assert found.algorithms == ("classic", "post-quantum")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signers = 2", '"policy.signers" is not a text in quotes'),
        ("signers = 'alice'", 'no role "alice", the roles are none'),
        ("signers = 'alice and'", 'signers "alice and" has the end, expected a role'),
        ("algorithms = 'classic'", '"policy.algorithms" is not a list in [brackets]'),
        ("algorithms = ['rsa']", '"policy.algorithms" is not classic or post-quantum'),
        ("roles = 3", '"policy.roles" is not a table'),
        ("[policy.roles]\nalice = 'x'", '"policy.roles.alice" is not a table'),
        ("[policy.roles]\nalice = {}", "demands no signers and no algorithms"),
        ("signers = 'a'\n[policy.roles]\na = {}", 'a role "a", which says nothing'),
        ("signers = 'a'\n[policy.roles]\na = { key = 3 }", '"policy.roles.a.key" is not a list'),
        ("signers = 'a'\n[policy.roles]\na = { key = 'ab' }", "which is no SHA-256"),
        ("signers = 'a'\n[policy.roles]\na = { name = 'alice' }", "no CA that gives it: below"),
        (
            f"signers = 'a'\n[policy.roles]\na = {{ below = '{A}', algorithm = 'dsa' }}",
            '"policy.roles.a.algorithm" is not classic or post-quantum',
        ),
        (
            f"signers = 'a'\n[policy.roles]\na = {{ bellow = '{A}' }}",
            'the unknown key "policy.roles.a.bellow"',
        ),
        (
            f"signers = '2 of a'\n[policy.roles]\na = {{ key = '{A}' }}",
            "signers that nobody can be, with at most 8 in an envelope: 2 of a",
        ),
        (
            f"signers = 'a and b'\n[policy.roles]\na = {{ key = '{A}' }}\nb = {{ key = '{A}' }}",
            'one key in the roles "a" and "b"',
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    with refused("io.config", str(tmp_path / "device.toml"), words):
        device(tmp_path, f"[policy]\n{text}")
