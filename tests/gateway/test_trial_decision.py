"""Every row of what is decided about a release on trial."""

from typing import Any

import pytest

from fwsign.gateway.trial.decision import Action, TrialFacts, decide, is_blamed

RUNNING = TrialFacts("running", most_boots=2, deadline=600)
GOOD = {"healthy": True, "confirmed": True}


@pytest.mark.parametrize(
    ("changes", "action", "said"),
    [
        ({"phase": "stays", "reason": "revoked"}, "nothing", "revoked"),
        ({"phase": "stays"}, "nothing", "the release before must not come back"),
        ({"phase": "stays", **GOOD}, "nothing", "must not come back"),
        ({"phase": "going back", "reason": "it hung"}, "go back", "it hung"),
        ({"phase": "going back"}, "go back", "it failed"),
        ({"phase": "going back", **GOOD}, "go back", "it failed"),
        ({"phase": "activating"}, "go back", "it was interrupted"),
        ({"phase": "activating", **GOOD}, "go back", "it was interrupted"),
        ({"in_place": False, **GOOD}, "go back", "it was going back already"),
        ({"ruled": False, **GOOD}, "go back", "device.toml has no [trial] any more"),
        ({**GOOD}, "commit", "it passed its trial"),
        ({**GOOD, "elapsed": 600, "boots": 9, "counted": False}, "commit", "it passed its trial"),
        ({"counted": False}, "go back", "the memory cannot count this start of the machine"),
        ({"boots": 2}, "check health", "its health is not known yet"),
        ({"boots": 3}, "go back", "the machine started 3 times, at most 2 are allowed"),
        ({"elapsed": 599}, "check health", "its health is not known yet"),
        ({"elapsed": 600}, "go back", "not confirmed within 600 seconds of uptime"),
        ({"elapsed": 600, "healthy": True}, "go back", "not confirmed within 600 seconds"),
        ({"elapsed": 600, "confirmed": True}, "go back", "not confirmed within 600 seconds"),
        ({"confirmed": True}, "check health", "its health is not known yet"),
        ({"healthy": True}, "wait", "the application has not confirmed it yet"),
    ],
)
def test_each_state_of_a_trial_has_one_way_on(
    changes: dict[str, Any], action: Action, said: str
) -> None:
    found = decide(RUNNING._replace(**changes))
    assert found.action == action
    assert said in found.reason
    assert found.blamed == ("ruled" not in changes)


def test_an_activation_that_ends_the_machine_does_not_begin_for_ever() -> None:
    assert [is_blamed(number, 2) for number in (1, 2, 3, 4)] == [False, False, True, True]
