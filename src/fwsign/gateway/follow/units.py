# SPDX-License-Identifier: Apache-2.0
"""systemd units for a gateway, hardened as far as its device.toml allows.

fwsign-follow.service, .timer    looks for releases: fwsign follow --once
fwsign-watch.service             instead of both, with [watch]: fwsign watch
fwsign-trial.service             early in each boot: fwsign device trial
fwsign-trial.timer               ends a trial whose time is over; only with [trial]
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import io_error, write_atomic
from fwsign.gateway.config.device import Device

_HOMES: Final = ("/home", "/root", "/run/user")
_ALWAYS: Final = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "UMask=0022",
)
_AFTER: Final = (
    "Wants=network-online.target",
    "After=network-online.target time-sync.target fwsign-trial.service",
)
_STAYS: Final = ("Type=exec", "Restart=always", "RestartSec=30", "SuccessExitStatus=143")
"""For a service that does not end: 143 is how a command ends at SIGTERM."""
_FOR_COMMANDS: Final = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID"
"""For commands as named users, and for files of others."""


class UnitWishes(NamedTuple):
    """What units need besides device.toml.

    Args:
        program: the words that run fwsign.
        writable: further absolute paths that commands may write.
    """

    program: Sequence[str]
    writable: Sequence[Path] = ()


def render_units(device: Device, wishes: UnitWishes) -> dict[str, str]:
    """Return the content of each unit, by its file name.

    Raises:
        Failed: `state.policy`: a path has characters that no unit can hold.
    """
    trial = [*wishes.program, "device", "trial", "--config", str(device.path)]
    units = {
        **(_watching(device, wishes) if device.watch else _following(device, wishes)),
        "fwsign-trial.service": _unit(
            {
                "Unit": [
                    "Description=Judge the release that is on trial, before its application starts",
                    "DefaultDependencies=no",
                    "Requires=local-fs.target",
                    "After=local-fs.target sysinit.target",
                    "Before=basic.target shutdown.target",
                    "Conflicts=shutdown.target",
                ],
                "Service": _service(trial, device, wishes),
                "Install": ["WantedBy=basic.target"],
            }
        ),
    }
    if device.trial is not None:
        units["fwsign-trial.timer"] = _timer(
            "End the trial of a release whose time is over",
            ["OnBootSec=1min", "OnUnitInactiveSec=1min", "AccuracySec=10s"],
        )
    return units


def _following(device: Device, wishes: UnitWishes) -> dict[str, str]:
    """Return the units that poll from time to time."""
    words = [*wishes.program, "follow", "--once", "--config", str(device.path)]
    interval = device.follow.interval
    return {
        "fwsign-follow.service": _unit(
            {
                "Unit": [
                    "Description=Look for a release, and install it if policy allows",
                    *_AFTER,
                ],
                "Service": _service(words, device, wishes),
            }
        ),
        "fwsign-follow.timer": _timer(
            "Look for a release from time to time",
            ["OnBootSec=2min", f"OnUnitInactiveSec={interval}", _spread(interval)],
        ),
    }


def _watching(device: Device, wishes: UnitWishes) -> dict[str, str]:
    """Return the unit that polls from time to time, and when a broker says so."""
    words = [*wishes.program, "watch", "--config", str(device.path)]
    lines = _service(words, device, wishes)[1:]
    return {
        "fwsign-watch.service": _unit(
            {
                "Unit": ["Description=Look for a release when there is one", *_AFTER],
                "Service": [*_STAYS, *lines],
                "Install": ["WantedBy=multi-user.target"],
            }
        )
    }


def write_units(directory: Path, units: dict[str, str]) -> None:
    """Write units into a directory; nothing is replaced, and if one is there none is written.

    Raises:
        Failed: `io.exists`, `io.*`.
    """
    for name in units:
        path = directory / name
        if os.path.lexists(path):
            hint = "remove it first, or name another directory with --output"
            raise Failed("io.exists", f"{path} exists already", found=path, hint=hint)
    if not directory.is_dir():
        raise io_error(FileNotFoundError(2, "no such file or directory"), directory, "write")
    for name, text in units.items():
        write_atomic(directory / name, text.encode(), mode=0o644)


def _unit(sections: dict[str, list[str]]) -> str:
    parts = ["\n".join((f"[{name}]", *lines, "")) for name, lines in sections.items()]
    return "\n".join(("# Written by fwsign device units from device.toml.", *parts))


def _timer(what: str, lines: list[str]) -> str:
    return _unit(
        {
            "Unit": [f"Description={what}"],
            "Timer": lines,
            "Install": ["WantedBy=timers.target"],
        }
    )


def _spread(interval: int) -> str:
    """Many gateways must not come to a server in the same second."""
    return f"RandomizedDelaySec={max(60, interval // 5)}"


def _service(words: Sequence[str], device: Device, wishes: UnitWishes) -> list[str]:
    places = [device.target_dir, device.state.parent, *wishes.writable]
    lines = ["Type=oneshot", f"ExecStart={' '.join(map(_word, words))}"]
    lines += _ALWAYS
    lines.append(f"ReadWritePaths={' '.join(_path(one) for one in dict.fromkeys(places))}")
    return [*lines, *_home(device, wishes), *_devices(device), *_commands(device)]


def _home(device: Device, wishes: UnitWishes) -> list[str]:
    key = device.device_key or ""
    used = [device.path, device.target_dir, device.state, *wishes.writable]
    used += [Path(key.removeprefix("file:"))] if "/" in key else []
    used += [Path(one) for one in wishes.program if one.startswith("/")]
    inside = any(one.is_relative_to(home) for one in used for home in _HOMES)
    return ["# device.toml, its places or fwsign lie in a home."] if inside else ["ProtectHome=yes"]


def _devices(device: Device) -> list[str]:
    if not device.ports:
        return ["PrivateDevices=yes"]
    boards = ", ".join(f"{chip} at {port}" for chip, port in device.ports.items())
    return [f"# No PrivateDevices= because of boards: {_comment(boards)}."]


def _commands(device: Device) -> list[str]:
    """Return the limits of commands, and the places where the owner may loosen them."""
    names = [one[0] for one in device.hooks.values()]
    names += [one.activate[0] for one in device.verbs.values()]
    names += [device.after_install.command[0]] if device.after_install else []
    names += [device.trial.health[0]] if device.trial else []
    if not names:
        return ["CapabilityBoundingSet="]
    return [
        f"# For commands: {_comment(', '.join(dict.fromkeys(names)))}.",
        "# They write below ReadWritePaths= only (fwsign device units --writable PATH), and sudo",
        "# gives them nothing. What needs more goes into a drop-in: systemctl edit.",
        f"CapabilityBoundingSet={_FOR_COMMANDS}",
    ]


def _word(text: str) -> str:
    """Quote a word of a command line for systemd."""
    _refuse(text)
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return (
        plain
        if plain and all(one.isalnum() or one in "/._-+:@%=," for one in plain)
        else (f'"{plain}"')
    )


def _path(path: Path) -> str:
    """Quote a path of a list for systemd, where $ has no meaning."""
    text = str(path)
    _refuse(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _comment(text: str) -> str:
    _refuse(text)
    return text


def _refuse(text: str) -> None:
    if not text.isprintable():
        what = f"{text!r} cannot stand in a unit"
        raise Failed("state.policy", what, expected="printable characters", found=repr(text))
