# SPDX-License-Identifier: Apache-2.0
"""The three verbs of a component whose payload is a RAUC bundle.

RAUC writes the system that does not run, and the machine has to start for it to run. So what was
activated is remembered in a small file, from before the first byte is written: the bundle, the slot
that ran then, and the start of the machine. By these a later call knows whether the new system runs
(another slot is booted), has not started yet (the same start), or was left by the boot loader.

Which slot is good stays RAUC's knowledge, and which release may run is fwsign's.
"""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from fwsign.errors import Failed, Unsuitable
from fwsign.files import read_owned, write_atomic
from fwsign.format.payload import CHUNK_SIZE

DEFAULT_RECORD: Final = Path("/var/lib/fwsign/rauc.json")
MAX_RECORD: Final = 4096
"""Bytes of the file with what was activated."""
MAX_STATUS: Final = 1024 * 1024
"""Bytes of RAUC's status that are read."""
STATUS_SECONDS: Final = 60
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Tell = Callable[[str], object]


class Activated(NamedTuple):
    """What was activated last.

    Args:
        bundle: the SHA-256 of the bundle, in hex.
        before: the slot that ran then.
        boot: the id of the machine's start then.
        back: whether it was given up: the slot before is to run again.
    """

    bundle: str
    before: str
    boot: str
    back: bool = False

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the content of a file; None if there is none.

        Raises:
            Failed: `state.damaged`, `io.*`.
        """
        try:
            data = read_owned(path, MAX_RECORD)
        except Failed as error:
            if error.code == "io.missing":
                return None
            raise
        try:
            found: Any = json.loads(data)
            one = cls(**found)
            kinds = (str, str, str, bool)
            if not all(type(value) is kind for value, kind in zip(one, kinds, strict=True)):
                raise TypeError
        except (ValueError, TypeError, RecursionError) as error:
            what = f"{path} is not what fwsign adapter rauc wrote"
            raise Failed("state.damaged", what, expected="four facts", found="others") from error
        return one

    def write(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            Failed: `io.*`.
        """
        text = json.dumps(self._asdict())
        write_atomic(path, f"{text}\n".encode(), overwrite=True, mode=0o600)


class Rauc(NamedTuple):
    """RAUC, and what was activated by it.

    Args:
        record: the file with what was activated.
        tell: told of what is done.
        program: RAUC's command.
    """

    record: Path
    tell: Tell
    program: str = "rauc"

    def activate(self, bundle: int) -> None:
        """Let RAUC install a bundle, unless it runs already; a second call does no harm.

        Args:
            bundle: a descriptor of it, which is a file.

        Raises:
            Failed: `io.*`, `state.damaged`; `state.trial`: the slot before has to start first.
        """
        digest, now, known = _digest(bundle), self._booted(), Activated.read(self.record)
        moved = known is not None and known.before != now
        if known is not None and moved and known.bundle == digest:
            self._run("status", "mark-active", now)  # it may have been given up since
            known._replace(back=False).write(self.record)
            self.tell(f"{now} runs this bundle already")
            return
        if known is not None and moved and known.back:
            # RAUC would write the slot that does not run, which is the only good one.
            what = f"{known.before} is to run again, and {now} still runs: start the machine first"
            raise Failed("state.trial", what, expected=known.before, found=now)
        # Before the first byte: after a power cut a call must not take the new system for the old.
        Activated(digest, now, _boot_id()).write(self.record)
        self._run("install", f"/proc/{os.getpid()}/fd/{bundle}")
        self.tell("installed; it runs after the next start of the machine")

    def started(self) -> bool:
        """Tell whether what was activated runs; False if the machine was not started since.

        Raises:
            Unsuitable: `unsuitable.trial`: the machine was started, and the slot before runs.
            Failed: `state.nothing`, `state.damaged`, `io.*`.
        """
        now, known = self._booted(), self._known()
        if known.before != now:
            return True
        if known.boot == _boot_id():
            return False
        what = f"the boot loader started {now} again, and not what was activated"
        raise Unsuitable("unsuitable.trial", what, expected=f"not {now}", found=now)

    def confirm(self) -> None:
        """Mark the slot that runs as good; it must be what was activated.

        Raises:
            Unsuitable, Failed: as `started`; `state.trial`: the machine was not started since.
        """
        if not self.started():
            what = "what was activated does not run yet: start the machine, then go on"
            hint = 'let the health command end with the status of "fwsign adapter rauc started"'
            raise Failed("state.trial", what, expected="a start of the machine", hint=hint)
        self._run("status", "mark-good", "booted")

    def revert(self) -> None:
        """Let the slot before run again, from the next start on; a second call does no harm.

        Raises:
            Failed: `state.damaged`, `io.*`.
        """
        known = Activated.read(self.record)
        if known is None:
            self.tell("nothing was activated")
            return
        now = self._booted()
        known._replace(back=True).write(self.record)
        self._run("status", "mark-bad", "booted" if now != known.before else "other")
        self._run("status", "mark-active", known.before)
        if now != known.before:
            self.tell(f"{known.before} runs after the next start of the machine")

    def _known(self) -> Activated:
        known = Activated.read(self.record)
        if known is None:
            what = f"nothing was activated: there is no {self.record}"
            raise Failed("state.nothing", what, expected="fwsign adapter rauc activate before")
        return known

    def _booted(self) -> str:
        """Return the name of the slot that runs, of those that the boot loader chooses from."""
        text = self._run("status", "--output-format=json")
        try:
            slots: Any = json.loads(text)["slots"]
            found = [
                str(name)
                for slot in slots
                for name, facts in slot.items()
                if facts["state"] == "booted" and facts["bootname"]
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            found = []
        if len(found) != 1:
            words = ", ".join(found) or "none"
            what = f"{self.program} status names {len(found)} booted slots: {words}"
            raise Failed("io.hook", what, expected="one booted slot", found=words)
        return found[0]

    def _run(self, *words: str) -> str:
        """Run RAUC; return what it printed for programs."""
        line = " ".join((self.program, *words))
        try:
            done = subprocess.run(  # noqa: S603 - fixed words, no shell
                [self.program, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=STATUS_SECONDS if words[0] == "status" else None,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = getattr(error, "strerror", None) or f"no end within {STATUS_SECONDS} seconds"
            what = f"{line}: {str(why).lower()}"
            raise Failed("io.hook", what, expected="status 0", found=str(why)) from error
        said = done.stderr.decode(errors="backslashreplace").strip()
        if done.returncode != 0:
            last = said.rpartition("\n")[2]
            what = f"{line} ended with status {done.returncode}: {last}"
            asked = words[0] == "status"
            hint = "does RAUC's service run? rauc status has to work" if asked else None
            raise Failed("io.hook", what, expected="status 0", found=done.returncode, hint=hint)
        return done.stdout[:MAX_STATUS].decode(errors="backslashreplace")


def _digest(handle: int) -> str:
    """Return the SHA-256 of a file, and leave its place as it is."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        what = "standard input is no file: device.toml calls this with the bundle, see [exec]"
        raise Failed("io.format", what, expected="a file", found="something else")
    state, at = hashlib.sha256(), 0
    while data := os.pread(handle, CHUNK_SIZE, at):
        state.update(data)
        at += len(data)
    return state.hexdigest()


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        what = f"{_BOOT_ID}: {str(error.strerror).lower()}"
        raise Failed("state.platform", what, expected="Linux") from error
