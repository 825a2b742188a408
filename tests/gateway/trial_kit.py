"""A gateway that tries its releases, with a machine whose starts and uptime tests decide."""

import json
from pathlib import Path
from typing import Any

from fwsign.gateway.run.session import Installed, InstallRequest
from fwsign.gateway.run.uptime import Uptime
from fwsign.gateway.trial.ends import confirm, trial
from fwsign.gateway.trial.record import FailedRelease, TrialRecord, read_failed, read_trial
from fwsign.gateway.trial.status import TrialStatus
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from support import NOW

HEALTH = """#!/bin/sh
echo "$FWSIGN_SEQUENCE" >> {log}
exec /bin/sh {file}
"""


class Machine:
    """The starts and the uptime of a machine that is not there."""

    def __init__(self) -> None:
        self.number, self.seconds = 1, 100

    def __call__(self) -> Uptime:
        return Uptime(f"boot {self.number}", self.seconds)

    def reboot(self, seconds: int = 5) -> None:
        """Start anew, and let some time pass."""
        self.number, self.seconds = self.number + 1, seconds


class TrialGateway:
    """A gateway with `[trial]`, whose health command is a script that tests write."""

    def __init__(self, base: Path, **rules: Any) -> None:
        self.plain = make_gateway(base)
        self.base, self.machine = base, Machine()
        self.health = base / "health"
        self.healthy("exit 0")
        self.judged = base / "judged"
        runner = base / "runner"
        runner.write_text(HEALTH.format(log=self.judged, file=self.health))
        runner.chmod(0o755)
        lines = {"health": [str(runner)], **rules}
        self.configure("[trial]", **lines)

    def configure(self, table: str, **lines: Any) -> None:
        """Add a table to device.toml."""
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        self.plain.configure(f"{table}\n{text}")

    def healthy(self, script: str) -> None:
        """Let the health command do something else."""
        self.health.write_text(f"{script}\n")

    def install(self, *arguments: Any, **more: Any) -> Installed:
        return self.plain.install(*arguments, uptime=self.machine, **more)

    def request(self) -> InstallRequest:
        return InstallRequest(self.plain.device, NOW, uptime=self.machine)

    def judge(self) -> TrialStatus:
        """Be `fwsign device trial`."""
        return trial(self.request())

    def confirm(self, sequence: int | None = None) -> TrialStatus:
        """Be `fwsign device confirm`."""
        return confirm(self.request(), sequence)

    def start(self, number: int = 1, **files: bytes) -> None:
        """Install a first release, which stays."""
        found = files or {"app.tar": b"old"}
        names = {name.replace("_", "."): data for name, data in found.items()}
        if self.install(self.plain.release(number, names)).verdict == "on trial":
            assert self.confirm().verdict == "committed"

    def release(self, number: int, data: bytes = b"new") -> Path:
        return self.plain.release(number, {"app.tar": data})

    @property
    def record(self) -> TrialRecord | None:
        with State.open(self.base / "state.db") as state:
            return read_trial(state)

    @property
    def failed(self) -> tuple[FailedRelease, ...]:
        with State.open(self.base / "state.db") as state:
            return read_failed(state)

    @property
    def app(self) -> bytes | None:
        """The installed app.tar."""
        return (self.plain.installed or {}).get("app.tar")

    @property
    def floor(self) -> int | None:
        return self.plain.floor

    @property
    def results(self) -> list[str]:
        return [result for result, _ in self.plain.results]

    @property
    def asked(self) -> list[str]:
        """The sequence number of each release that the health command judged."""
        return self.judged.read_text().split() if self.judged.exists() else []


__all__ = ["Gateway", "Machine", "TrialGateway"]
