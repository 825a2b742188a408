"""Polls in a process of their own, for tests of two that come at the same time."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from fwsign.gateway.config.device import load
from fwsign.gateway.follow import channels
from fwsign.gateway.follow.known import FollowRequest
from fwsign.gateway.follow.polling import poll
from fwsign.verify.verifier import Verifier
from support import NOW

TIMEOUT = 60.0


def meet(folder: Path, name: str, others: int) -> None:
    """Wait until so many processes are here."""
    (folder / name).touch()
    end = time.monotonic() + TIMEOUT
    while len(list(folder.iterdir())) < others:
        if time.monotonic() > end:
            raise SystemExit("the other process did not come")
        time.sleep(0.001)


def main(config: str, address: str, folder: str, name: str, what: str) -> None:
    """Poll once, or "take" a channel; both processes begin at the same moment."""
    request = FollowRequest(load(Path(config)), address, lambda: NOW + timedelta(hours=1))
    meeting = Path(folder)
    if what == "poll":
        meet(meeting, name, 2)
        print(poll(request).verdict)
        return
    judge, judged = Verifier.verify_channel, []

    def judged_together(self: Verifier, data: bytes, **more: Any) -> Any:
        found = judge(self, data, **more)
        judged.append(found)
        if len(judged) == 1:  # both have read the same memory now
            meet(meeting, name, 2)
        return found

    Verifier.verify_channel = judged_together  # type: ignore[method-assign]
    taken, _ = channels._verify(request, Path(address).read_bytes(), accept=True)
    print(taken.channel.number, len(judged))
