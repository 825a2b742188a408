"""A gateway in a directory, and releases for it."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from fwsign.gateway.config.device import Device, load
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.enrol import Enrolment, init
from fwsign.gateway.install import install
from fwsign.gateway.run.session import Installed, InstallRequest
from fwsign.gateway.target.sources import Sources
from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.receipts.chain import judge_lines
from support import (
    NOW,
    PRODUCT,
    VENDOR,
    Entity,
    Pki,
    component,
    make_ca,
    make_crl,
    make_envelope,
    make_manifest,
    make_pki,
)


@cache
def pki() -> Pki:
    """Return the PKI that these tests share."""
    return make_pki()


@cache
def usual_crls() -> tuple[bytes, ...]:
    """Return CRLs of both CAs with nothing revoked, the same ones each time."""
    return pki().crls


def enrolment(base: Path, **more: Any) -> Enrolment:
    """Return what `fwsign device init` is to do in a directory."""
    target = base / "target"
    target.mkdir(exist_ok=True)
    wanted = Enrolment(
        base / "etc/device.toml",
        base / "state.db",
        VENDOR,
        PRODUCT,
        [pki().root.anchor],
        [],
        target,
        "require",
        1,
        None,
    )
    return wanted._replace(**more)


class Gateway(NamedTuple):
    """A gateway, and where its releases are."""

    base: Path

    @property
    def config(self) -> Path:
        return self.base / "etc/device.toml"

    @property
    def device(self) -> Device:
        """The device, with short pauses."""
        found = load(self.config)
        return found._replace(fetch=found.fetch._replace(pause_seconds=0))

    @property
    def target(self) -> Path:
        return self.base / "target"

    @property
    def installed(self) -> dict[str, bytes] | None:
        """What is installed: names and content."""
        current = self.target / "current"
        if not current.exists():
            return None
        return {path.name: path.read_bytes() for path in current.iterdir()}

    @property
    def floor(self) -> int | None:
        with State.open(self.base / "state.db") as state:
            found = state.floor(None, VENDOR, PRODUCT) or Floor(-1)
            return None if found.sequence < 0 else found.sequence

    @property
    def results(self) -> list[tuple[str, str | None]]:
        """The result and code of each receipt, which are in one chain."""
        with State.open(self.base / "state.db") as state:
            found = [one.content for one in judge_lines(state.receipt_lines())]
        return [(one["result"], one["code"]) for one in found]

    def configure(self, text: str) -> None:
        """Add lines to device.toml."""
        self.config.write_text(f"{self.config.read_text()}\n{text}")

    def release(self, number: int, files: Mapping[str, bytes], **more: Any) -> Path:
        """Sign a release, and put its envelope and payloads in a directory of their own."""
        folder = Path(mkdtemp(prefix=f"release-{number}-", dir=self.base))
        uris = more.pop("uris", {})
        parts = [component(data, name, uris.get(name)) for name, data in files.items()]
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return self.sign(folder / "update.suit", number, parts, **more)

    def sign(self, path: Path, number: int, parts: Any, **more: Any) -> Path:
        """Sign components; `signers` and `crls` are those of the PKI otherwise."""
        crls = more.pop("crls", None)
        usual = (pki().leaf, [pki().issuing], usual_crls() if crls is None else crls)
        signers = more.pop("signers", [usual])
        text, inside = more.pop("text", None), more.pop("integrated", None)
        manifest = make_manifest(*parts, sequence_number=number, **more)
        path.write_bytes(make_envelope(manifest, signers, text=text, integrated=inside))
        return path

    def install(
        self, envelope: Path | str | None, *payloads: str, at: datetime = NOW, **more: Any
    ) -> Installed:
        """Install, or resume."""
        device = more.pop("device", None) or self.device
        said: list[str] = more.pop("said", [])
        sources = None
        if envelope is not None:
            sources = Sources(str(envelope), payloads, device.fetch, said.append)
        return install(InstallRequest(device, at, tell=said.append, **more), sources)


def make_gateway(base: Path, **more: Any) -> Gateway:
    """Enrol a gateway."""
    init(enrolment(base, **more), NOW, None)
    return Gateway(base)


def crls(number: int, **more: Any) -> tuple[bytes, ...]:
    """Return CRLs of both CAs with a number; `more` is for the issuing CA's."""
    return make_crl(pki().issuing, number=number, **more), make_crl(pki().root, number=number)


def namesake(entity: Entity) -> Entity:
    """Return a CA of the same name with another key."""
    common = entity.certificate.subject.rfc4514_string().partition("CN=")[2].partition(",")[0]
    return make_ca(common)


__all__ = ["FetchRules", "Gateway", "crls", "make_gateway", "namesake", "pki"]
