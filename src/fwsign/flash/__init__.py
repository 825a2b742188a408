# SPDX-License-Identifier: Apache-2.0
"""Flashing: exactly the verified bytes are written and read back.

Hold a release, and flash a board, here a simulated one:

```python
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fwsign.flash import Given, ConnectOptions, Job, Judging, Options, Outcome, Station, attached
from fwsign.verify import Anchor, DevicePolicy

given = Given(
    envelope=Path("board.bin.suit").read_bytes(),
    anchors=[Anchor.from_pem(Path("pki/ca.crt").read_bytes())],
    policy=DevicePolicy(vendor="acme.example", product="blink", revocation="require"),
    at=datetime.now(UTC),
    waived=(),
    state=Path("boards.db"),  # the floors of all boards
    remember=True,
)
judging = Judging(given)  # verifies, before any board is asked
judging.hold(lambda component: open(component.payload_name, "rb"))

port = "sim:esp32c3"  # or /dev/ttyUSB0, COM5, socket://HOST:PORT
job = Job(port, partial(attached, port, ConnectOptions("esp")), judging.judge)
for board, what in Station([job], Options()):
    if isinstance(what, Outcome):
        print(board.port, what.status, what.error)
        assert what.status == "verified"
```

A `Station` takes many jobs, and flashes them at once. Each board is judged anew, by its own floor.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.flash.backends import ConnectOptions, attached, kind_for
    from fwsign.flash.outcome import Event, Options, Outcome
    from fwsign.flash.station import Job, Station
    from fwsign.flash.verify_per_board import Given, Judging

__all__ = [
    "ConnectOptions",
    "Event",
    "Given",
    "Job",
    "Judging",
    "Options",
    "Outcome",
    "Station",
    "attached",
    "kind_for",
]

_PLACES = {
    "ConnectOptions": "flash.backends",
    "Event": "flash.outcome",
    "Given": "flash.verify_per_board",
    "Job": "flash.station",
    "Judging": "flash.verify_per_board",
    "Options": "flash.outcome",
    "Outcome": "flash.outcome",
    "Station": "flash.station",
    "attached": "flash.backends",
    "kind_for": "flash.backends",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
