"""Gateways that demand people and kinds of algorithms: install, refusal, memory, rehearsal."""

import json
import shutil
from pathlib import Path

import pytest

from fwsign.errors import FwsignError
from fwsign.gateway.rehearse import rehearse
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines
from fwsign.verify.policy import DevicePolicy
from gateway.kit import Gateway, crls, make_gateway, pki, usual_crls
from gateway.trial_kit import TrialGateway
from people_kit import key, person
from support import NOW, Entity, refused

FILES = {"app": b"one"}


def configured(base: Path, policy: str, roles: str = "") -> Gateway:
    """Enrol a gateway whose policy says who must sign."""
    gateway = make_gateway(base)
    text = gateway.config.read_text()
    assert text.count("[policy]\n") == 1
    text = text.replace("[policy]\n", f"[policy]\n{policy}\n") + roles
    gateway.config.write_text(text)
    return gateway


def signed(gateway: Gateway, number: int, *leaves: Entity) -> Path:
    signers = [(one, [pki().issuing], usual_crls()) for one in leaves]
    return gateway.release(number, FILES, signers=signers)


@pytest.fixture(scope="module")
def people() -> dict[str, Entity]:
    names = ("alice", "bob", "dora")
    leaves = {one: person(pki().issuing, one) for one in names}
    return {**leaves, "quantum": person(pki().issuing, "quantum", alg="ml-dsa-65")}


def test_a_gateway_that_wants_both_kinds(tmp_path: Path, people: dict[str, Entity]) -> None:
    gateway = configured(tmp_path, 'algorithms = ["classic", "post-quantum"]')
    for left, words in (
        ("alice", 'classic: met by "alice"; post-quantum, found none'),
        ("quantum", 'classic, found none; post-quantum: met by "quantum"'),
    ):
        with refused("untrusted.signers", f'policy "algorithms": {words}') as caught:
            gateway.install(str(signed(gateway, 5, people[left])))
        assert caught.value.step == 6
    assert gateway.installed is None
    done = gateway.install(str(signed(gateway, 5, people["alice"], people["quantum"])))
    assert [str(one) for one in done.release.demands] == [
        'policy "algorithms": classic: met by "alice"; post-quantum: met by "quantum"'
    ]
    codes = [code for _, code in gateway.results if code]
    assert codes == ["untrusted.signers"] * 2
    assert gateway.results[-1] == ("installed", None)


def test_a_gateway_that_wants_the_classic_kind_says_what_counted(
    tmp_path: Path, people: dict[str, Entity]
) -> None:
    gateway = configured(tmp_path, 'algorithms = ["classic"]')
    gateway.install(str(signed(gateway, 5, people["alice"])))
    gateway.install(str(signed(gateway, 6, people["quantum"], people["alice"])))
    with State.open(gateway.base / "state.db") as state:
        releases = [one.content["release"] for one in judge_lines(state.receipt_lines())]
    found = [one["policy"] for one in releases if one]  # the first is that of the enrolment
    assert len(found) >= 2
    assert all(one == ['policy "algorithms": classic: met by "alice"'] for one in found)


def test_a_gateway_that_wants_people(tmp_path: Path, people: dict[str, Entity]) -> None:
    below = key(pki().issuing)
    roles = "\n[policy.roles]\n" + "".join(
        f"{one} = {{ name = {json.dumps(one)}, below = {json.dumps(below)} }}\n"
        for one in ("alice", "bob", "dora")
    )
    gateway = configured(tmp_path, 'signers = "1 of (alice, bob) and dora"', roles)
    with refused("untrusted.signers", 'alice or bob: met by "alice"; dora, found none'):
        gateway.install(str(signed(gateway, 5, people["alice"])))
    done = gateway.install(str(signed(gateway, 5, people["dora"], people["bob"])))
    assert done.release.notes == (
        "a single CA could meet this policy alone: its roles name no two CAs",
    )
    assert gateway.floor == 5
    # A release of the floor with a block taken out is no newer one, and not accepted again.
    with pytest.raises(FwsignError):
        gateway.install(str(signed(gateway, 5, people["bob"])))


def test_a_rehearsal_knows_the_policy_of_each_device(
    tmp_path: Path, people: dict[str, Entity]
) -> None:
    policies = {"any": "", "both": 'algorithms = ["classic", "post-quantum"]'}
    gateways = []
    for name, policy in policies.items():
        (tmp_path / name).mkdir()
        gateways.append(configured(tmp_path / name, policy))
        shutil.copy(gateways[-1].config, tmp_path / name / "device.toml")
    candidate = signed(gateways[0], 5, people["alice"]).read_bytes()
    found = {
        str(one.state): (one.verdict, one.refusal and one.refusal.code)
        for one in rehearse(tmp_path, [candidate], DevicePolicy(), NOW)
    }
    assert found == {
        "any/state.db": ("accepts", None),
        "both/state.db": ("stranded", "untrusted.signers"),
    }


def test_a_release_before_without_a_revoked_person_meets_no_policy(
    tmp_path: Path, people: dict[str, Entity]
) -> None:
    gateway = TrialGateway(tmp_path)
    roles = {one: key(people[one]) for one in ("alice", "bob")} | {"release": key(pki().leaf)}
    lines = "".join(f"{one} = {{ key = {json.dumps(found)} }}\n" for one, found in roles.items())
    config = gateway.plain.config
    rule = 'signers = "(alice and bob) or release"'
    text = config.read_text().replace("[policy]\n", f"[policy]\n{rule}\n")
    config.write_text(f"{text}\n[policy.roles]\n{lines}")
    signers = [(people[one], [pki().issuing], crls(1)) for one in ("alice", "bob")]
    gateway.install(gateway.plain.release(1, {"app.tar": b"old"}, signers=signers))
    gateway.healthy("exit 1")
    known = crls(2, revoked=[people["alice"]])
    second = gateway.plain.release(2, {"app.tar": b"new"}, crls=known)
    # Bob's signature is good still, and one distinct signer is enough: but his role is not.
    words = "it stays, since the release before must not come back"
    with refused("unsuitable.trial", words, 'certificate "alice" '):
        gateway.install(second)
    assert gateway.app == b"new"
