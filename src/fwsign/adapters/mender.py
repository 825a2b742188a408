# SPDX-License-Identifier: Apache-2.0
"""fwsign as an Update Module of Mender, protocol version 3: Mender brings it, fwsign decides.

Mender calls the module once for each state, with a directory whose `files` has the envelope and its
payloads. What Mender's own server and signature say decides nothing here: the envelope is judged as
by `fwsign install`, and the release before comes back as after any trial that failed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed, Unsuitable
from fwsign.files import read_bytes
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.gateway.install import install
from fwsign.gateway.rollback import rollback
from fwsign.gateway.run.session import INSTALLED, InstallRequest, opened
from fwsign.gateway.target import release_record
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.trial.ends import trial
from fwsign.gateway.trial.record import read_trial

FILES: Final = "files"
ENDING: Final = ".suit"
MAX_FILES: Final = 256
"""Files of one artifact; a release has fewer components."""
PAUSE: Final = 5
"""Seconds between two looks at a release on trial."""


class MenderModule(NamedTuple):
    """The module, called for one state.

    Args:
        request: the device, and the time.
        directory: the directory that Mender names.
        say: prints an answer for Mender.
        sleep: waits.
    """

    request: InstallRequest
    directory: Path
    say: Callable[[str], object]
    sleep: Callable[[float], object] = time.sleep

    def run(self, state: str) -> None:
        """Do what a state asks for. States without work here, and new ones, do nothing.

        Raises:
            FwsignError: as `fwsign.gateway.install.install`; Mender goes back then.
        """
        work = {
            "SupportsRollback": self._supports_rollback,
            "NeedsArtifactReboot": lambda: self.say("No"),
            "ArtifactInstall": self._install,
            "ArtifactCommit": self._commit,
            "ArtifactRollback": self._roll_back,
        }
        if state in work:
            work[state]()

    def _supports_rollback(self) -> None:
        self.say("Yes" if self.request.device.trial is not None else "No")

    def _install(self) -> None:
        envelope, payloads = find(self.directory / FILES)
        request = self.request
        places = tuple(map(str, payloads))
        done = install(request, Sources(str(envelope), places, request.device.fetch, request.tell))
        request.tell(f"{done.verdict}: sequence {done.release.manifest.sequence_number}")

    def _commit(self) -> None:
        """Wait until the trial of the release ends, and see that the release is in place.

        A timer or a start of the machine may have ended its trial before.

        Raises:
            Unsuitable: `unsuitable.trial`: it failed.
        """
        while (found := trial(self.request)).verdict == "on trial":
            self.sleep(PAUSE)
        if found.ended_badly:
            raise found.refusal()
        with opened(self.request.device) as state:
            known = release_record.read(state, INSTALLED)
        if known is None or not self._brings(known.manifest):
            there = f"release {known.sequence}" if known is not None else "nothing"
            raise Unsuitable(
                "unsuitable.trial",
                f"the release of this artifact is not in place, but {there}: its trial ended",
                expected="the release of this artifact",
                found=there,
            )

    def _roll_back(self) -> None:
        """Bring the release before back, unless fwsign has done that, or nothing was installed.

        A trial of another release goes on: an artifact that was refused must not end it.
        """
        with opened(self.request.device) as state:
            record = read_trial(state)
        if record is not None and record.phase != "stays" and self._brings(record.release.manifest):
            rollback(self.request)

    def _brings(self, manifest: str) -> bool:
        """Tell whether the artifact has the release with a manifest digest."""
        try:
            envelope, _ = find(self.directory / FILES)
            return digest_of(read_bytes(envelope, MAX_ENVELOPE_SIZE)) == manifest
        except Failed:  # none, or one that cannot be read: it was never installed
            return False


def find(directory: Path) -> tuple[Path, list[Path]]:
    """Return the envelope in a directory, and the other files.

    Raises:
        Failed: `io.missing`: there is no envelope, or more than one; `state.limit`.
    """
    try:
        found = sorted(one for one in directory.iterdir() if one.is_file())
    except OSError as error:
        what = f"{directory}: {str(error.strerror).lower()}"
        raise Failed("io.missing", what, expected="a directory with an envelope") from error
    if len(found) > MAX_FILES:
        what = f"{directory} has {len(found)} files"
        raise Failed("state.limit", what, expected=f"at most {MAX_FILES}", found=len(found))
    envelopes = [one for one in found if one.name.endswith(ENDING)]
    if len(envelopes) != 1:
        what = f"{directory} has {len(envelopes)} files *{ENDING}"
        raise Failed("io.missing", what, expected="one envelope", found=len(envelopes))
    return envelopes[0], [one for one in found if one != envelopes[0]]
