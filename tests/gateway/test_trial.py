"""A release on trial: it passes and stays, or the release before comes back; the floor waits."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.gateway.config.verbs import Verbs
from fwsign.gateway.enrol import reset
from fwsign.gateway.rollback import rollback
from fwsign.gateway.run.open_gateway import at_work
from fwsign.gateway.target import programs
from fwsign.gateway.target.directory import Target
from fwsign.gateway.trial.decision import Phase
from fwsign.gateway.trial.ends import trial
from fwsign.gateway.trial.record import read_trial, write_trial
from fwsign.gateway.trial.status import TrialStatus
from fwsign.gateway.trial.steps import end
from fwsign.memory.state import State
from gateway.kit import make_gateway
from gateway.trial_kit import TrialGateway
from support import NOW, refused


@pytest.fixture
def gateway(tmp_path: Path) -> TrialGateway:
    return TrialGateway(tmp_path)


def test_a_release_that_passes_is_committed(gateway: TrialGateway) -> None:
    gateway.start()
    done = gateway.install(gateway.release(2))
    assert (done.verdict, gateway.app, gateway.floor) == ("installed", b"new", 2)
    assert gateway.results[1:] == ["on trial", "committed"] * 2
    assert (gateway.record, gateway.failed, gateway.asked) == (None, (), ["1", "2"])
    kept = gateway.plain.target / ".fwsign"
    assert {one.name for one in kept.iterdir()} == {"lock", "kept"}
    assert len(list((kept / "kept").iterdir())) == 2
    assert len(list((gateway.plain.target / "versions").iterdir())) == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "runner ended with status 3"),
        ("echo the pump is dead; exit 1", "ended with status 1: the pump is dead"),
        ("kill -9 $$", "runner ended with signal 9"),
        ("sleep 1000", "runner did not end within 1 seconds"),
        ("(sleep 1000 &) ; sleep 1000", "runner did not end within 1 seconds"),
    ],
)
def test_a_release_that_fails_goes_and_the_one_before_comes_back(
    tmp_path: Path, script: str, said: str
) -> None:
    gateway = TrialGateway(tmp_path, health_seconds=1)
    gateway.start()
    gateway.healthy(script)
    second = gateway.release(2)
    with refused("unsuitable.trial", "release 2 failed its trial", said, "release 1 is in place"):
        gateway.install(second)
    assert (gateway.app, gateway.floor, gateway.record) == (b"old", 1, None)
    assert gateway.results[-2:] == ["on trial", "fell back"]
    assert [(one.sequence, one.interrupted) for one in gateway.failed] == [(2, 0)]
    assert said in str(gateway.failed[0].reason)
    assert len(list((gateway.plain.target / "versions").iterdir())) == 1


def test_after_a_commit_nothing_older_is_accepted(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.install(gateway.release(2))
    with refused("unsuitable.rollback", "sequence number 1 is below 2"):
        gateway.install(gateway.release(1, b"old"))


def test_until_the_commit_the_floor_is_what_it_was(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    assert gateway.floor == 1
    done = gateway.install(gateway.release(2))
    assert (done.verdict, gateway.app, gateway.floor) == ("on trial", b"new", 1)
    assert done.notes == ("release 2, on trial: the application has not confirmed it yet",)
    assert gateway.confirm(2).verdict == "committed"
    assert gateway.floor == 2


# --- what ends it ---------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> TrialGateway:
    """A gateway whose applications confirm by themselves, with release 2 on trial."""
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    assert gateway.install(gateway.release(2)).verdict == "on trial"
    return gateway


def test_a_release_that_nobody_confirms_goes_at_its_deadline(asked: TrialGateway) -> None:
    asked.machine.seconds += 599
    found = asked.judge()
    assert (found.verdict, found.record and found.record.left) == ("on trial", 1)
    asked.machine.seconds += 1
    found = asked.judge()
    assert (found.verdict, found.reason) == (
        "fell back",
        "it was not confirmed within 600 seconds of uptime",
    )
    assert (asked.app, asked.floor, asked.record) == (b"old", 1, None)
    with refused("state.nothing", "no release is on trial"):
        asked.confirm()
    assert asked.judge().verdict == "no trial"


@pytest.mark.parametrize("year", [1970, 2099])
def test_a_trial_is_not_prolonged_by_a_clock(asked: TrialGateway, year: int) -> None:
    asked.machine.seconds += 600
    request = asked.request()._replace(at=NOW.replace(year=year))
    assert trial(request).verdict == "fell back"
    assert (asked.app, asked.floor) == (b"old", 1)


def test_a_trial_is_not_prolonged_by_starts_of_the_machine(asked: TrialGateway) -> None:
    for number in (1, 2):
        asked.machine.reboot()
        found = asked.judge()
        assert (found.verdict, found.record and found.record.boots) == ("on trial", number)
    asked.machine.reboot()
    found = asked.judge()
    assert (found.verdict, asked.app, asked.floor) == ("fell back", b"old", 1)
    assert "the machine started 3 times, at most 2 are allowed" in found.reason


def test_seconds_before_a_start_count_towards_the_deadline(asked: TrialGateway) -> None:
    asked.machine.seconds += 400
    asked.judge()
    asked.machine.reboot(seconds=201)
    assert asked.judge().reason == "it was not confirmed within 600 seconds of uptime"


def test_rules_that_change_later_do_not_prolong_a_trial(asked: TrialGateway) -> None:
    text = asked.plain.config.read_text()
    asked.plain.config.write_text(f"{text}deadline = 100000\nboots = 100\n")
    asked.machine.seconds += 600
    assert asked.judge().verdict == "fell back"


def test_without_rules_nothing_can_judge_it_and_it_is_not_blamed(asked: TrialGateway) -> None:
    text = asked.plain.config.read_text()
    asked.plain.config.write_text(text[: text.index("[trial]")])
    found = asked.judge()
    assert (found.verdict, asked.app) == ("fell back", b"old")
    assert found.reason == "device.toml has no [trial] any more, so nothing can judge it"
    assert [one.reason for one in asked.failed] == [None]


def test_a_health_command_that_cannot_tell_yet_is_asked_again(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.healthy("exit 75")
    done = gateway.install(gateway.release(2))
    assert (done.verdict, gateway.app, gateway.floor) == ("on trial", b"new", 1)
    assert done.notes[0].endswith("runner cannot tell yet whether it is healthy")
    gateway.healthy("exit 0")
    assert gateway.judge().verdict == "committed"
    assert gateway.floor == 2


def test_a_health_command_that_ends_the_machine_each_time_ends_on_the_old_release(
    gateway: TrialGateway,
) -> None:
    class Reboot(BaseException):
        """The machine starts anew."""

    gateway.start()
    second, asked = gateway.release(2), len(gateway.asked)

    def run(*_: object, **__: object) -> None:
        raise Reboot

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "run", run)
        with pytest.raises(Reboot):
            gateway.install(second)
        for _ in range(2):
            gateway.machine.reboot()
            with pytest.raises(Reboot):
                gateway.judge()
            assert (gateway.app, gateway.floor) == (b"new", 1)
        gateway.machine.reboot()
        assert gateway.judge().verdict == "fell back"
    assert (gateway.app, gateway.floor, len(gateway.asked)) == (b"old", 1, asked)
    with refused("unsuitable.failed-before", "the machine started 3 times"):
        gateway.install(second)


def test_a_confirmation_that_was_remembered_counts_after_a_start(asked: TrialGateway) -> None:
    with State.open(asked.base / "state.db") as state:
        record = read_trial(state)
        assert record is not None
        write_trial(state, record._replace(confirmed=True))  # killed right after this
    asked.machine.reboot(seconds=100_000)
    assert (asked.judge().verdict, asked.app, asked.floor) == ("committed", b"new", 2)


def test_only_the_release_on_trial_is_confirmed(asked: TrialGateway) -> None:
    with refused("state.nothing", "release 2 is on trial, not release 1"):
        asked.confirm(1)
    assert asked.judge().verdict == "on trial"
    assert asked.confirm(2).verdict == "committed"
    with refused("state.nothing", "no release is on trial"):
        asked.confirm(2)


@pytest.mark.parametrize(
    ("phase", "said"),
    [("going back", "it is going back"), ("activating", "not in place yet"), ("stays", "failed")],
)
def test_a_release_that_failed_is_not_confirmed(
    asked: TrialGateway, phase: Phase, said: str
) -> None:
    with State.open(asked.base / "state.db") as state:
        record = read_trial(state)
        assert record is not None
        write_trial(state, record._replace(phase=phase, healthy=True))
    with refused("state.trial", "release 2 cannot be confirmed", said):
        asked.confirm()
    assert asked.floor == 1


def test_the_application_may_confirm_while_its_health_is_judged(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path, confirm="application")
    gateway.start()
    run, verdicts = programs.run, []

    def confirming(*arguments: Any, **more: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(programs, "run", run)
            verdicts.append(gateway.confirm(2))
        return run(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "run", confirming)
        assert gateway.install(gateway.release(2)).verdict == "installed"
    assert [(one.verdict, one.reason) for one in verdicts] == [
        ("on trial", "its health is being judged")
    ]
    assert gateway.floor == 2


def test_another_release_waits_while_one_is_on_trial(asked: TrialGateway) -> None:
    said = "release 2 is on trial, for 600 more seconds of uptime and 2 more starts of the machine"
    for dry_run in (True, False):
        with refused("state.trial", said):
            asked.install(asked.release(3), dry_run=dry_run)
    asked.machine.seconds += 600
    asked.healthy("exit 0")
    done = asked.install(asked.release(3))
    assert done.verdict == "on trial"
    assert done.notes[0].startswith("release 2, fell back: it was not confirmed within")
    assert (asked.record and asked.record.before and asked.record.before.sequence) == 1


# --- what failed before ---------------------------------------------------------------------------


def test_a_release_that_failed_is_not_installed_again_by_itself(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.healthy("exit 1")
    second = gateway.release(2)
    with refused("unsuitable.trial"):
        gateway.install(second)
    asked = gateway.asked
    for more in ({}, {"dry_run": True}):
        with refused(
            "unsuitable.failed-before", "release 2 failed its trial here before: ", "status 1"
        ):
            gateway.install(second, **more)
    assert gateway.asked == asked
    with refused("unsuitable.trial"):
        gateway.install(second, retry=True)
    gateway.healthy("exit 0")
    assert gateway.install(second, retry=True).verdict == "installed"
    assert (gateway.app, gateway.floor, gateway.failed) == (b"new", 2, ())


def test_a_higher_number_is_always_welcome(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.healthy('test "$FWSIGN_SEQUENCE" -ge 5')
    for number in (2, 3, 4):
        with refused("unsuitable.trial"):
            gateway.install(gateway.release(number))
    assert [one.sequence for one in gateway.failed] == [2, 3, 4]
    assert gateway.install(gateway.release(5)).verdict == "installed"
    assert (gateway.floor, gateway.failed) == (5, ())


def test_a_failed_release_with_the_number_of_the_committed_one_is_not_forgotten(
    gateway: TrialGateway,
) -> None:
    """It is not below the floor, so nothing else would refuse it."""
    gateway.start()
    gateway.healthy("exit 1")
    bad = gateway.plain.release(3, {"bad.bin": b"bad"})
    with refused("unsuitable.trial"):
        gateway.install(bad)
    gateway.healthy("exit 0")
    gateway.install(gateway.release(3))
    with refused("unsuitable.failed-before", "release 3 failed its trial here before"):
        gateway.install(bad)
    assert gateway.install(bad, retry=True).verdict == "installed"
    assert gateway.failed == ()


def test_the_first_release_of_all_goes_to_nothing(gateway: TrialGateway) -> None:
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 failed its trial", "nothing is installed"):
        gateway.install(gateway.release(1))
    assert (gateway.plain.installed, gateway.floor) == (None, None)
    assert not (gateway.plain.target / "current").is_symlink()
    gateway.healthy("exit 0")
    assert gateway.install(gateway.release(1, b"other")).verdict == "installed"


# --- releases that cannot be tried ----------------------------------------------------------------


def test_a_release_in_place_that_was_not_kept_is_kept_at_its_next_install(tmp_path: Path) -> None:
    plain = make_gateway(tmp_path)
    first = plain.release(1, {"app.tar": b"old"})
    plain.install(first)
    plain.configure('[trial]\nhealth = ["/bin/false"]\n')
    done = plain.install(plain.release(2, {"app.tar": b"new"}))
    why = "no trial: release 1 was installed without [trial], so it was not kept"
    assert (done.verdict, done.notes) == ("installed", (why,))
    with refused("unsuitable.trial", "release 2 is in place again"):
        plain.install(plain.release(3, {"app.tar": b"newer"}))


def test_the_release_in_place_may_be_kept_before_the_first_trial(tmp_path: Path) -> None:
    plain = make_gateway(tmp_path)
    first = plain.release(1, {"app.tar": b"old"})
    plain.install(first)
    plain.configure('[trial]\nhealth = ["/bin/false"]\n')
    assert plain.install(first).verdict == "already installed"
    with refused("unsuitable.trial", "release 1 is in place again"):
        plain.install(plain.release(2, {"app.tar": b"new"}))
    assert plain.installed == {"app.tar": b"old"}


def test_files_that_the_memory_does_not_know_are_not_gone_back_to(gateway: TrialGateway) -> None:
    gateway.start()
    reset(gateway.plain.device, NOW, None)
    done = gateway.install(gateway.release(2))
    assert done.notes == (
        "no trial: the files in `current` are not of the release that the memory names",
    )
    assert (done.verdict, gateway.floor) == ("installed", 2)


def test_a_damaged_release_is_repaired_without_a_trial(gateway: TrialGateway) -> None:
    first = gateway.release(1, b"one")
    gateway.install(first)
    (gateway.plain.target / "current/app.tar").write_bytes(b"bad")
    gateway.healthy("exit 1")
    assert gateway.install(first).verdict == "installed"
    assert gateway.app == b"one"
    with refused("unsuitable.trial"):
        gateway.install(gateway.release(2))
    assert gateway.app == b"one"


# --- by hand --------------------------------------------------------------------------------------


def test_a_trial_is_ended_by_hand(asked: TrialGateway) -> None:
    found = rollback(asked.request())
    assert isinstance(found, TrialStatus)
    assert (found.verdict, found.reason, asked.app) == ("fell back", "it was ended by hand", b"old")
    with refused("unsuitable.failed-before", "it was ended by hand"):
        asked.install(asked.release(2))


def test_after_a_commit_nothing_older_comes_back_by_hand(gateway: TrialGateway) -> None:
    with refused("state.nothing", "no release before this one is kept"):
        rollback(gateway.request())
    gateway.start()
    gateway.install(gateway.release(2))
    with refused("unsuitable.rollback", "sequence number 1 is below 2") as refusal:
        rollback(gateway.request())
    hint = "sign its payloads again with a higher sequence number, and install that release"
    assert refusal.value.hint == hint
    assert (gateway.app, gateway.floor) == (b"new", 2)


def test_a_release_that_the_floor_allows_comes_back_by_hand(gateway: TrialGateway) -> None:
    gateway.start()
    first = gateway.plain.release(3, {"one.bin": b"1"})
    gateway.install(first)
    gateway.install(gateway.plain.release(3, {"two.bin": b"2"}))
    assert gateway.plain.installed == {"two.bin": b"2"}
    for path in first.parent.iterdir():
        path.unlink()  # nothing is fetched
    found = rollback(gateway.request())
    assert (found.verdict, gateway.plain.installed) == ("installed", {"one.bin": b"1"})
    found = rollback(gateway.request())
    assert (found.verdict, gateway.plain.installed) == ("installed", {"two.bin": b"2"})


# --- what may be wrong with the gateway itself ----------------------------------------------------


def test_a_health_command_that_is_not_there_begins_no_trial(gateway: TrialGateway) -> None:
    """Each release would fail for it, and be remembered as bad."""
    gateway.start()
    runner = gateway.base / "runner"
    runner.rename(gateway.base / "away")
    release = gateway.release(2)
    with refused("io.hook", f"{runner} cannot be started: no such file or directory") as caught:
        gateway.install(release)
    assert caught.value.hint == "correct [trial] in device.toml; each release would fail its trial"
    (gateway.base / "away").rename(runner)
    runner.chmod(0o644)
    with refused("io.hook", f"{runner} cannot be started: permission denied"):
        gateway.install(release)
    assert (gateway.app, gateway.floor) == (b"old", 1)
    runner.chmod(0o755)
    gateway.install(release)
    assert gateway.floor == 2


def test_a_health_command_for_an_unknown_user_begins_no_trial(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure('[trial]\nhealth = ["/bin/true"]\nuser = "nobdy"\n')
    words = 'there is no user "nobdy"' if os.geteuid() == 0 else "root alone can run it"
    with refused("io.hook", words):
        gateway.install(gateway.release(1, {"app.bin": b"1"}))
    assert (gateway.installed, gateway.floor) == (None, None)


def test_a_health_command_that_the_release_lacks_takes_it_back(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure(f'[trial]\nhealth = ["{gateway.target}/current/health"]\n')
    with refused("unsuitable.trial", "its health is not known: ", "cannot be started"):
        gateway.install(gateway.release(1, {"app.bin": b"1"}))
    assert (gateway.installed, gateway.floor) == (None, None)


def test_only_a_release_on_trial_is_ended(gateway: TrialGateway) -> None:
    gateway.start()
    request = gateway.request()
    with State.open(gateway.base / "state.db") as state, Target(gateway.plain.target) as target:
        work = at_work(request, state, target)
        with refused("state.nothing", "no release is on trial"):
            end(work, "by hand")


def test_files_that_cannot_be_read_do_not_end_a_trial_before_its_deadline(
    asked: TrialGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise Failed("io.read", "the disk does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Target, "adopt", broken)
        with refused("io.read", "the disk does not answer"):
            asked.confirm()
    assert (asked.floor, asked.app) == (1, b"new")
    assert asked.judge().verdict == "committed"


def test_what_was_begun_before_and_goes_forward_only_is_not_tried(gateway: TrialGateway) -> None:
    gateway.start()
    gateway.configure("[exec]", **{'"load.bin"': ["/bin/false"]})
    with refused("io.hook"):
        gateway.install(gateway.plain.release(2, {"load.bin": b"2"}))
    done = gateway.install(gateway.release(3))
    assert done.notes == ("no trial: release 2 was begun, and goes forward only",)
    assert gateway.floor == 3


def test_a_release_whose_payload_was_not_kept_is_not_the_one_to_go_back_to(
    gateway: TrialGateway,
) -> None:
    gateway.configure('[exec."load.bin"]', **{one: ["/bin/true"] for one in Verbs._fields})
    gateway.install(gateway.plain.release(1, {"load.bin": b"1"}))
    (kept,) = (gateway.plain.target / ".fwsign/kept").iterdir()
    (kept / "others/0").unlink()
    done = gateway.install(gateway.plain.release(2, {"load.bin": b"2"}))
    assert done.notes == ("no trial: load.bin of release 1 was not kept",)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can run it as another user")
def test_the_health_command_runs_as_its_user(tmp_path: Path) -> None:
    gateway = TrialGateway(tmp_path)
    text = gateway.plain.config.read_text().partition("[trial]")[0]
    health = ["/bin/sh", "-c", 'test "$(id -un)" = nobody && test "$(id -Gn)" = nogroup']
    gateway.plain.config.write_text(f"{text}[trial]\nhealth = {json.dumps(health)}\n")
    with refused("unsuitable.trial", "/bin/sh ended with status 1"):
        gateway.install(gateway.release(1))
    gateway.plain.config.write_text(f'{gateway.plain.config.read_text()}user = "nobody"\n')
    assert gateway.install(gateway.release(1), retry=True).verdict == "installed"
