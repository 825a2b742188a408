"""systemd units: what is in them, and what systemd itself says of them."""

import re
import subprocess
from pathlib import Path

import pytest

from fwsign.gateway.config.device import load
from fwsign.gateway.follow.units import UnitWishes, render_units, write_units
from gateway.kit import make_gateway
from support import refused, require_program

FOLLOW = '[follow]\naddress = "https://updates.acme.example/x1/update.suit"\n'
COMMANDS = """
[after_install]
command = ["/bin/true"]
[trial]
health = ["/bin/false"]
"""
PROGRAM = UnitWishes(["/bin/true"])


def units(base: Path, more: str = "", wishes: UnitWishes = PROGRAM) -> dict[str, str]:
    base.mkdir(exist_ok=True)
    gateway = make_gateway(base)
    gateway.configure(FOLLOW + more)
    return render_units(load(gateway.config), wishes)


def value(unit: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    return str(found)


def test_the_files(tmp_path: Path) -> None:
    found = units(tmp_path)
    names = ["fwsign-follow.service", "fwsign-follow.timer", "fwsign-trial.service"]
    assert list(found) == names
    follow = found["fwsign-follow.service"]
    config = tmp_path / "etc/device.toml"
    assert value(follow, "ExecStart") == f"/bin/true follow --once --config {config}"
    assert value(follow, "ReadWritePaths") == f'"{tmp_path}/target" "{tmp_path}"'
    assert value(follow, "CapabilityBoundingSet") == ""
    timer = found["fwsign-follow.timer"]
    assert (value(timer, "OnUnitInactiveSec"), value(timer, "RandomizedDelaySec")) == (
        "3600",
        "720",
    )
    boot = found["fwsign-trial.service"]
    assert value(boot, "ExecStart") == f"/bin/true device trial --config {config}"
    assert value(boot, "After") == "local-fs.target sysinit.target"
    assert value(boot, "Before") == "basic.target shutdown.target"


def test_the_interval_of_device_toml_counts(tmp_path: Path) -> None:
    timer = units(tmp_path, "interval = 600")["fwsign-follow.timer"]
    assert (value(timer, "OnUnitInactiveSec"), value(timer, "RandomizedDelaySec")) == ("600", "120")


def test_a_trial_has_a_timer(tmp_path: Path) -> None:
    found = units(tmp_path, COMMANDS)
    assert value(found["fwsign-trial.timer"], "OnUnitInactiveSec") == "1min"


def test_commands_are_named_and_limited(tmp_path: Path) -> None:
    wishes = UnitWishes(["/bin/true"], [Path("/var/lib/app")])
    unit = units(tmp_path, COMMANDS, wishes)["fwsign-follow.service"]
    assert "# For commands: /bin/true, /bin/false.\n" in unit
    assert "CAP_SETUID" in value(unit, "CapabilityBoundingSet")
    assert value(unit, "ReadWritePaths").endswith(' "/var/lib/app"')


def test_boards_need_devices(tmp_path: Path) -> None:
    unit = units(tmp_path, '[flash]\nesp32c3 = "/dev/ttyUSB0"')["fwsign-follow.service"]
    assert "PrivateDevices" not in unit.replace("No PrivateDevices=", "")
    assert "# No PrivateDevices= because of boards: esp32c3 at /dev/ttyUSB0.\n" in unit
    assert value(units(tmp_path / "b")["fwsign-follow.service"], "PrivateDevices") == "yes"


def test_a_home_is_left_open_only_if_it_is_used(tmp_path: Path) -> None:
    assert "ProtectHome=yes" in units(tmp_path)["fwsign-follow.service"]
    wishes = UnitWishes(["/home/fwsign/bin/fwsign"])
    assert "ProtectHome" not in units(tmp_path / "b", "", wishes)["fwsign-follow.service"]


def test_odd_paths_are_escaped(tmp_path: Path) -> None:
    base = tmp_path / 'a b"c%d\\e$f'
    found = units(base)
    follow = found["fwsign-follow.service"]
    escaped = f'{tmp_path}/a b\\"c%%d\\\\e'
    assert value(follow, "ExecStart").endswith(f'--config "{escaped}$$f/etc/device.toml"')
    assert value(follow, "ReadWritePaths") == f'"{escaped}$f/target" "{escaped}$f"'


def test_unprintable_paths_are_refused(tmp_path: Path) -> None:
    wishes = UnitWishes(["/bin/true"], [Path("/a\nExecStart=/bin/evil")])
    with refused("state.policy", "cannot stand in a unit"):
        units(tmp_path, "", wishes)


def test_nothing_is_replaced_and_nothing_is_left_half_done(tmp_path: Path) -> None:
    found = units(tmp_path)
    output = tmp_path / "units"
    with refused("io.missing", f"cannot write {output}"):
        write_units(output, found)
    output.mkdir()
    last = output / "fwsign-trial.service"
    last.symlink_to("nowhere")
    with refused("io.exists", f"{last} exists already"):
        write_units(output, found)
    assert [one.name for one in output.iterdir()] == [last.name]
    last.unlink()
    write_units(output, found)
    assert {one.name: one.read_text() for one in output.iterdir()} == found
    assert {one.stat().st_mode & 0o777 for one in output.iterdir()} == {0o644}


@pytest.mark.parametrize("more", ["", COMMANDS])
@pytest.mark.parametrize("folder", ["plain", 'a b"c%d\\e'])
def test_systemd_takes_them(tmp_path: Path, more: str, folder: str) -> None:
    analyze = require_program("systemd-analyze")
    found = units(tmp_path / folder, more)
    output = tmp_path / "units"
    output.mkdir()
    write_units(output, found)
    paths = sorted(map(str, output.iterdir()))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("more", "threshold"), [("", "25"), (COMMANDS, "35")])
def test_systemd_finds_them_hardened(tmp_path: Path, more: str, threshold: str) -> None:
    analyze = require_program("systemd-analyze")
    found = units(tmp_path, more)
    output = tmp_path / "units"
    output.mkdir()
    write_units(output, found)
    for path in sorted(output.glob("*.service")):
        words = [analyze, "security", "--offline=yes", "--no-pager", f"--threshold={threshold}"]
        done = subprocess.run([*words, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-300:] + done.stderr
