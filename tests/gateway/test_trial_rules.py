"""The table [trial] of device.toml, and commands with three verbs: strict."""

from pathlib import Path

import pytest

from fwsign.gateway.config.device import Device
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.config.verbs import Verbs
from gateway.kit import make_gateway
from support import refused

VERBS = 'activate = ["/a", "x"]\nconfirm = ["/c"]\nrevert = ["/r"]\n'


def load(base: Path, text: str) -> Device:
    gateway = make_gateway(base)
    gateway.configure(text)
    return gateway.device


def test_without_a_table_nothing_is_tried(tmp_path: Path) -> None:
    assert load(tmp_path, "").trial is None


def test_a_health_command_suffices(tmp_path: Path) -> None:
    found = load(tmp_path, '[trial]\nhealth = ["/bin/true", "--now"]\n').trial
    assert found == TrialRules(("/bin/true", "--now"), 60, None, 600, 2, "health", "stay")


def test_all_of_it(tmp_path: Path) -> None:
    text = (
        '[trial]\nhealth = ["/h"]\nhealth_seconds = 5\nuser = "app"\ndeadline = 90\nboots = 1\n'
        'confirm = "application"\nrevoked = "return"\n'
    )
    found = load(tmp_path, text).trial
    assert found == TrialRules(("/h",), 5, "app", 90, 1, "application", "return")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deadline = 5", '"trial.health" is not a command by its absolute path'),
        ('health = "true"', '"trial.health" is not a list'),
        ('health = ["true"]', '"trial.health" is not a command by its absolute path'),
        ('health = ["/h"]\nboots = 0', '"trial.boots" is not a number of 1 to 100'),
        ('health = ["/h"]\ndeadline = 604801', '"trial.deadline" is not a number of 1 to 604800'),
        ('health = ["/h"]\nhealth_seconds = -1', '"trial.health_seconds" is not a number of 1 to'),
        ('health = ["/h"]\nuser = 7', '"trial.user" is not a text in quotes'),
        ('health = ["/h"]\nconfirm = "never"', '"trial.confirm" is not health or application'),
        ('health = ["/h"]\nrevoked = "ask"', '"trial.revoked" is not stay or return'),
        ('health = ["/h"]\nclock = 1', 'has the unknown key "trial.clock"'),
    ],
)
def test_a_mistake_in_the_table_is_named(tmp_path: Path, line: str, said: str) -> None:
    with refused("io.config", said):
        load(tmp_path, f"[trial]\n{line}\n")


def test_commands_with_one_verb_and_with_three(tmp_path: Path) -> None:
    found = load(tmp_path, f'[exec]\n"a.tar" = ["/one"]\n[exec."b.tar"]\n{VERBS}')
    assert found.hooks == {"a.tar": ("/one",)}
    assert found.verbs == {"b.tar": Verbs(("/a", "x"), ("/c",), ("/r",))}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[exec."b.tar"]\nactivate = ["/a"]\nrevert = ["/r"]\n', '"exec.b.tar.confirm" is not'),
        (f'[exec."b.tar"]\n{VERBS}undo = ["/u"]\n', 'the unknown key "exec.b.tar.undo"'),
        ('[exec]\n"a.tar" = ["one"]\n', '"exec.a.tar" is not a command by its absolute path'),
        ('[exec]\n"a.tar" = 7\n', '"exec.a.tar" is not a list'),
    ],
)
def test_a_mistake_in_a_command_is_named(tmp_path: Path, text: str, said: str) -> None:
    with refused("io.config", said):
        load(tmp_path, text)
