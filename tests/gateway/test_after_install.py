"""The command after an install, downloads for later, and how many versions stay."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fwsign.errors import Failed
from fwsign.gateway.run.session import OWED, Installed, opened
from fwsign.gateway.target import programs
from gateway.kit import Gateway, make_gateway
from support import for_child, refused


def script(base: Path, name: str, *lines: str) -> Path:
    path = base / name
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def told(base: Path) -> list[dict[str, str]]:
    """Return what each run of the command was told."""
    path = base / "told"
    if not path.exists():
        return []
    runs = path.read_text().split("---\n")[:-1]
    return [dict(line.split("=", 1) for line in one.splitlines()) for one in runs]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    found = make_gateway(tmp_path)
    restart = script(
        tmp_path,
        "restart",
        f"env | grep '^FWSIGN_' | sort >> {tmp_path}/told; echo --- >> {tmp_path}/told",
        f"echo restarting; test ! -e {tmp_path}/broken",
    )
    found.configure(f'[after_install]\ncommand = ["{restart}"]\nseconds = 20')
    return found


def test_it_runs_after_an_install_with_the_verdict(gateway: Gateway) -> None:
    said: list[str] = []
    gateway.install(gateway.release(1, {"a": b"1"}), said=said)
    gateway.install(gateway.release(2, {"a": b"2"}))
    first, second = told(gateway.base)
    assert first == {
        "FWSIGN_CURRENT": str(gateway.target / "current"),
        "FWSIGN_RESULT": "installed",
        "FWSIGN_SEQUENCE": "1",
        "FWSIGN_SEQUENCE_BEFORE": "",
        "FWSIGN_VERSION": "",
        "FWSIGN_VERSION_BEFORE": "",
    }
    assert (second["FWSIGN_SEQUENCE"], second["FWSIGN_SEQUENCE_BEFORE"]) == ("2", "1")
    assert f"{gateway.base}/restart: restarting" in said


def test_it_does_not_run_for_an_installed_release(gateway: Gateway) -> None:
    path = gateway.release(1, {"a": b"1"})
    gateway.install(path)
    assert gateway.install(path).verdict == "already installed"
    assert len(told(gateway.base)) == 1


def test_its_failure_is_a_note_and_a_receipt(gateway: Gateway) -> None:
    (gateway.base / "broken").touch()
    done = gateway.install(gateway.release(1, {"a": b"1"}))
    words = f"after the install, {gateway.base}/restart ended with status 1: restarting"
    assert (done.verdict, done.notes) == ("installed", (words,))
    assert gateway.results[-1] == ("failed", "io.hook")
    assert gateway.install(gateway.release(2, {"a": b"2"})).verdict == "installed"


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure('[after_install]\ncommand = ["/nowhere/restart"]')
    done = gateway.install(gateway.release(1, {"a": b"1"}))
    assert done.notes[0].startswith("after the install, /nowhere/restart cannot be started")


def test_a_command_that_a_kill_left_runs_in_the_next_run(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gateway.release(1, {"a": b"1"})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(programs, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            gateway.install(path)
    assert told(gateway.base) == []
    assert gateway.install(path).verdict == "already installed"
    assert [one["FWSIGN_RESULT"] for one in told(gateway.base)] == ["installed"]
    gateway.install(path)
    assert len(told(gateway.base)) == 1


def test_an_owner_who_takes_the_command_out_owes_nothing(gateway: Gateway) -> None:
    with opened(gateway.device) as state:
        state.remember(OWED, "{}")
    path = gateway.config
    path.write_text(path.read_text().partition("[after_install]")[0])
    gateway.install(gateway.release(1, {"a": b"1"}))
    with opened(gateway.device) as state:
        assert state.remembered(OWED) is None


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"PATH": "/tmp"}'])
def test_a_damaged_memory_of_it_is_refused(gateway: Gateway, text: str) -> None:
    with opened(gateway.device) as state:
        state.remember(OWED, text)
    with refused("state.damaged", 'what the memory calls "after install"'):
        gateway.install(gateway.release(1, {"a": b"1"}))


def on_trial(gateway: Gateway, health: str) -> None:
    """Let releases be tried, by a health command that notes its turn."""
    path = script(
        gateway.base,
        "health",
        f"echo FWSIGN_RESULT=health >> {gateway.base}/told; echo --- >> {gateway.base}/told",
        health,
    )
    gateway.configure(f'[trial]\nhealth = ["{path}"]')


def results(gateway: Gateway) -> list[str]:
    return [one["FWSIGN_RESULT"] for one in told(gateway.base)]


def test_it_runs_before_health_and_after_going_back(gateway: Gateway) -> None:
    on_trial(gateway, f"test ! -e {gateway.base}/sick")
    gateway.install(gateway.release(1, {"a": b"1"}))
    assert results(gateway) == ["installed", "health"]
    (gateway.base / "sick").touch()
    with refused("unsuitable.trial"):
        gateway.install(gateway.release(2, {"a": b"2"}))
    assert results(gateway)[2:] == ["installed", "health", "fell-back"]
    last = told(gateway.base)[-1]
    assert (last["FWSIGN_SEQUENCE"], last["FWSIGN_SEQUENCE_BEFORE"]) == ("1", "2")
    assert gateway.installed == {"a": b"1"}


def test_its_failure_is_failed_health_on_trial(gateway: Gateway) -> None:
    on_trial(gateway, "true")
    gateway.install(gateway.release(1, {"a": b"1"}))
    (gateway.base / "broken").touch()
    with refused("unsuitable.trial", "after the install, ", "ended with status 1"):
        gateway.install(gateway.release(2, {"a": b"2"}))
    assert results(gateway)[2:] == ["installed", "fell-back"]  # health was not asked
    assert gateway.installed == {"a": b"1"}


# --- downloads ----------------------------------------------------------------------------------


def test_a_download_installs_later_without_its_source(gateway: Gateway) -> None:
    path = gateway.release(1, {"a": b"1" * 5000, "b": b"2"})
    done = gateway.install(path, download_only=True)
    assert (done.verdict, gateway.installed, gateway.floor) == ("downloaded", None, None)
    assert told(gateway.base) == []
    for one in path.parent.iterdir():
        one.unlink()
    found = gateway.install(None)
    assert found.verdict == "installed"
    assert found.notes[0].startswith("the envelope that was staged is taken: cannot read")
    assert gateway.installed == {"a": b"1" * 5000, "b": b"2"}


def test_a_download_that_was_changed_is_not_installed(gateway: Gateway) -> None:
    path = gateway.release(1, {"a": b"1" * 5000})
    gateway.install(path, download_only=True)
    for one in path.parent.iterdir():
        one.unlink()
    (gateway.target / ".fwsign/stage/files/a").write_bytes(b"2" * 5000)
    with refused("io.payload-missing"):
        gateway.install(None)
    assert gateway.installed is None


def test_nothing_to_resume_without_a_download(gateway: Gateway) -> None:
    with refused("state.nothing"):
        gateway.install(None)


# --- versions that stay -------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "kept"), [("", 2), ("keep = 1", 1), ("keep = 4", 4)])
def test_as_many_versions_stay_as_the_owner_says(tmp_path: Path, line: str, kept: int) -> None:
    gateway = make_gateway(tmp_path)
    text = gateway.config.read_text()
    gateway.config.write_text(f"{line}\n{text}")
    names = []
    for number in range(1, 7):
        gateway.install(gateway.release(number, {"a": str(number).encode()}))
        names.append((gateway.target / "current").readlink().name)
    there = [one.name for one in (gateway.target / "versions").iterdir()]
    assert sorted(there) == sorted(names[-kept:])


def test_a_real_kill_while_it_runs_leaves_it_to_the_next_run(gateway: Gateway) -> None:
    base = gateway.base
    slow = script(
        base,
        "restart",
        f"test -e {base}/began && echo FWSIGN_RESULT=$FWSIGN_RESULT >> {base}/told",
        f"test -e {base}/began && echo --- >> {base}/told",
        f"test -e {base}/began || {{ touch {base}/began; sleep 600; }}",
    )
    path = gateway.release(1, {"a": b"1"})
    code = "import sys; from gateway.killed_install import main; main(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(gateway.config), str(path)]
    with subprocess.Popen(words, env=for_child()) as process:
        deadline = time.monotonic() + 60
        while not (base / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert gateway.installed == {"a": b"1"}  # it runs after the commit
        process.kill()
    assert told(base) == []
    done = once_free(gateway, path)
    assert (done.verdict, results(gateway)) == ("already installed", ["installed"])
    assert slow.exists()


def once_free(gateway: Gateway, path: Path) -> Installed:
    """Install when the guard has ended the command; until then the target is busy."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return gateway.install(path)
        except Failed as error:
            if error.code != "state.busy" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
