# SPDX-License-Identifier: Apache-2.0
"""The gateway: a device that fetches, verifies, installs and remembers releases. POSIX only.

Enrol a device once, then install:

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.gateway import Enrolment, InstallRequest, Sources, init, load, status
from fwsign.gateway.install import install
from fwsign.verify import Anchor

now = datetime.now(UTC)
Path("target").mkdir()
init(
    Enrolment(
        config=Path("device.toml"),
        state=Path("gateway.db"),
        vendor="acme.example",
        product="gateway-x1",
        anchors=[Anchor.from_pem(Path("pki/ca.crt").read_bytes())],
        tsa_anchors=[],
        target_dir=Path("target"),
        revocation="require",
        require=1,
        device_key=None,
    ),
    now,
    None,
)

device = load(Path("device.toml"))
sources = Sources("build.bin.suit", (), device.fetch, print)  # or an address, with https://
done = install(InstallRequest(device, at=now), sources)
assert done.verdict == "installed"
assert Path("target/current/build.bin").read_bytes() == Path("build.bin").read_bytes()
assert status(device)["floor"] == done.release.manifest.sequence_number
```

A crash at any moment leaves the old release or the new one; the next run goes on. The function
`install` lies in the module of its name, `fwsign.gateway.install`, and so does `trial`, with
`confirm` beside it: an application calls it with an `InstallRequest` when it works.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device, load
    from fwsign.gateway.config.fetch_rules import FetchRules
    from fwsign.gateway.enrol import Enrolment, init, reset, status
    from fwsign.gateway.run.session import Installed, InstallRequest
    from fwsign.gateway.target.sources import Sources

__all__ = [
    "Device",
    "Enrolment",
    "FetchRules",
    "InstallRequest",
    "Installed",
    "Sources",
    "init",
    "load",
    "reset",
    "status",
]

_PLACES = {
    "Device": "gateway.config.device",
    "Enrolment": "gateway.enrol",
    "FetchRules": "gateway.config.fetch_rules",
    "InstallRequest": "gateway.run.session",
    "Installed": "gateway.run.session",
    "Sources": "gateway.target.sources",
    "init": "gateway.enrol",
    "load": "gateway.config.device",
    "reset": "gateway.enrol",
    "status": "gateway.enrol",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
