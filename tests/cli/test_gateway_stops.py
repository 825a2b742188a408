"""`fwsign install` is stopped while a command of a release runs: nothing of it comes later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.kit import command, environment, good, program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")
INIT = (
    *(
        "device",
        "init",
        "--state",
        "state.db",
        "--vendor",
        "acme.example",
        "--anchor",
        "pki/ca.crt",
    ),
    *("--product", "gateway-x1", "--target-dir", "files", "--config", "device.toml"),
)
COMMAND = """
cp /dev/stdin {0}/taken
(setsid sh -c 'sleep 2; cp {0}/taken {0}/state' &)
touch {0}/begun
sleep 2
cp {0}/taken {0}/state
"""
"""It takes a while; so does the process that it leaves behind."""
QUICK = "cp /dev/stdin {0}/state"


@pytest.fixture
def gateway(today: Path) -> Path:
    """A gateway with a command for build.bin, and the releases 100 and 300."""
    (today / "files").mkdir()
    good(*INIT)
    for number in (100, 300):
        (today / str(number)).mkdir()
        (today / f"{number}/build.bin").write_bytes(b"release %d" % number)
        out = f"{number}/update.suit"
        good("sign", f"{number}/build.bin", "--output", out, "--sequence", str(number))
    return today


def configure(gateway: Path, script: str) -> None:
    text = (gateway / "device.toml").read_text().partition("[exec]")[0]
    words = json.dumps(["/bin/sh", "-c", script.format(gateway)])
    (gateway / "device.toml").write_text(f'{text}[exec]\n"build.bin" = {words}\n')


def install(number: int) -> "subprocess.Popen[str]":
    line = command(["install", f"{number}/update.suit", "--config", "device.toml"])
    pipe = subprocess.PIPE
    return subprocess.Popen(line, env=environment(), stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL"])
def test_a_command_never_overtakes_a_newer_release(gateway: Path, name: str) -> None:
    """A silent rollback: the command of 100 ends after 300 was installed."""
    number = signal.Signals[name]
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here, as under nohup, and stays ignored")
    configure(gateway, COMMAND)
    first = install(100)
    while not (gateway / "begun").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(number)
    _, err = first.communicate(timeout=60)
    if name == "SIGKILL":
        assert first.returncode == -number
    else:
        assert first.returncode == 128 + number
        assert err == "fwsign: build.bin: /bin/sh\nfwsign: error: interrupted\n"
    configure(gateway, QUICK)
    end = time.monotonic() + 20
    while (done := program("install", "300/update.suit", "--config", "device.toml")).returncode:
        assert name == "SIGKILL", done.stderr
        assert "a command of an earlier run is still at work" in done.stderr
        assert time.monotonic() < end
    time.sleep(2.5)
    if sys.platform == "linux":
        assert (gateway / "state").read_bytes() == b"release 300"
    status = json.loads(good("device", "status", "--config", "device.toml", "--json"))
    assert status["installed"]["sequence"] == 300


def test_nohup_is_respected(gateway: Path) -> None:
    configure(gateway, "touch {0}/begun; sleep 1; cp /dev/stdin {0}/state")
    line = command(["install", "100/update.suit", "--config", "device.toml"])
    process = subprocess.Popen(["nohup", *line], env=environment(), stdin=subprocess.DEVNULL)
    while not (gateway / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert (gateway / "state").read_bytes() == b"release 100"


def test_sigterm_leaves_no_half_written_file(today: Path) -> None:
    """Every command heeds it, and not only those with commands of their own."""
    with (today / "build.bin").open("wb") as file:
        file.truncate(400_000_000)
    line = command(["sign", "build.bin", "--output", "out.suit"])
    process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)
    time.sleep(0.4)
    process.terminate()
    _, err = process.communicate(timeout=60)
    if process.returncode == -signal.SIGTERM:
        assert err == ""  # before it had begun
    else:
        assert process.returncode in (143, 0), err
    left = [one.name for one in today.iterdir() if one.name.startswith((".out", "out"))]
    assert left == (["out.suit"] if process.returncode == 0 else [])
