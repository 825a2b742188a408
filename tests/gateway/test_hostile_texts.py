"""Texts in a memory that somebody else wrote: each reader names the damage, or takes none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import FwsignError
from fwsign.gateway import follow_memory, hold
from fwsign.gateway.enrol import status
from fwsign.gateway.follow import updates as follow_updates
from fwsign.gateway.run.after_install import _facts
from fwsign.gateway.run.refusals import decode
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.trial import record as trial_record
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway

TEXTS = [
    *("", "{", "7", "null", "true", "[]", "{}", '"x"', "1e400", "[" * 100_000, '{"a":' * 50_000),
    *("9" * 5000, "[[]]", '{"manifest": {}}', '[{"manifest": 1}]', '{"release": [], "before": 7}'),
    *('{"until": 7}', '{"since": "never"}', '{"offer": {}}', '[["!"]]', '{"a": [1]}', "\x00"),
]
READERS: dict[str, Callable[[State], Any]] = {
    INTENT: lambda state: release_record.read(state, INTENT),
    INSTALLED: lambda state: release_record.read(state, INSTALLED),
    trial_record.PREVIOUS: lambda state: release_record.read(state, trial_record.PREVIOUS),
    trial_record.TRIAL: trial_record.read_trial,
    trial_record.FAILED: trial_record.read_failed,
    hold.HOLD: hold.read,
    follow_updates.CHAINS: follow_updates.read_chains,
    follow_updates.TAGS: follow_updates._tags,
    follow_memory.SEEN: lambda state: follow_memory._read(state, follow_memory.SEEN),
    follow_memory.ATTEMPTS: follow_memory.read_attempts,
    "refusals": lambda state: decode(state.remembered("refusals")),
}


def code_of(read: Callable[[], object]) -> str:
    """Return the code of a reader's refusal, or "fine"; anything else that it raises goes on."""
    try:
        read()
    except FwsignError as error:
        return error.code
    return "fine"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    return make_gateway(Path(tmp_path_factory.mktemp("gateway")))


@pytest.mark.parametrize("name", READERS)
def test_no_text_breaks_its_reader(gateway: Gateway, name: str) -> None:
    with State.open(gateway.device.state) as state:
        for text in TEXTS:
            state.remember(name, text)
            assert code_of(lambda: READERS[name](state)) in ("fine", "state.damaged"), text[:80]
        state.remember(name, None)


@pytest.mark.parametrize("name", [INTENT, INSTALLED, "previous", "trial", "hold"])
def test_no_text_breaks_the_status(gateway: Gateway, name: str) -> None:
    for text in TEXTS:
        with State.open(gateway.device.state) as state:
            state.remember(name, text)
        assert code_of(lambda: status(gateway.device)) in ("fine", "state.damaged"), text[:80]
    with State.open(gateway.device.state) as state:
        state.remember(name, None)


def test_no_text_breaks_hints_and_owed_commands(gateway: Gateway) -> None:
    device = gateway.device
    for text in TEXTS:
        hint = code_of(partial(Sources.from_hint, text, device.fetch, print))
        assert hint in ("fine", "state.nothing"), text[:80]
        assert code_of(partial(_facts, text, device)) in ("fine", "state.damaged"), text[:80]
