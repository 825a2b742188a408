"""An install in a process of its own, for tests that kill it."""

from pathlib import Path

from fwsign.gateway.config.device import load
from fwsign.gateway.install import install
from fwsign.gateway.run.session import InstallRequest
from fwsign.gateway.target.sources import Sources
from support import NOW


def main(config: str, envelope: str) -> None:
    """Install a release at the usual time of tests."""
    device = load(Path(config))
    install(InstallRequest(device, NOW), Sources(envelope, (), device.fetch, print))
