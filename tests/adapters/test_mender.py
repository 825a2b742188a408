"""Mender brings a release, fwsign decides: by the module's protocol, and with the real client."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from fwsign.adapters.mender import MAX_FILES, MenderModule, find
from fwsign.errors import FwsignError
from fwsign.gateway.trial.ends import trial
from gateway.kit import make_gateway
from gateway.trial_kit import TrialGateway
from support import for_child, refused, require_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")


class Module:
    """The module of a gateway, and the directory that Mender would name."""

    def __init__(self, gateway: TrialGateway) -> None:
        self.gateway, self.said, self.slept = gateway, list[str](), list[float]()
        self.directory = gateway.base / "payload"
        (self.directory / "files").mkdir(parents=True)

    def brings(self, envelope: Path) -> None:
        """Put a release and its payloads where Mender puts an artifact's files."""
        files = self.directory / "files"
        shutil.rmtree(files)
        shutil.copytree(envelope.parent, files)

    def run(self, state: str, slept: str | None = None) -> list[str]:
        self.said.clear()

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            if slept is not None:
                self.gateway.healthy(slept)

        MenderModule(self.gateway.request(), self.directory, self.said.append, sleep).run(state)
        return self.said


@pytest.fixture
def module(tmp_path: Path) -> Module:
    gateway = TrialGateway(tmp_path)
    gateway.start()
    return Module(gateway)


def test_a_release_is_installed_and_committed(module: Module) -> None:
    module.gateway.healthy("exit 75")
    module.brings(module.gateway.release(2))
    assert module.run("SupportsRollback") == ["Yes"]
    assert module.run("NeedsArtifactReboot") == ["No"]
    for state in ("Download", "ArtifactVerifyReboot", "Cleanup", "SomethingNew"):
        assert module.run(state) == []
    module.run("ArtifactInstall")
    assert (module.gateway.app, module.gateway.floor) == (b"new", 1)
    module.run("ArtifactCommit", slept="exit 0")
    assert (module.gateway.app, module.gateway.floor) == (b"new", 2)
    assert module.slept == [5]
    module.run("ArtifactCommit")  # after a power cut, say
    module.run("ArtifactRollback")
    assert module.gateway.app == b"new"


def test_a_release_that_is_refused_changes_nothing(module: Module) -> None:
    module.brings(module.gateway.release(0))
    with refused("unsuitable.rollback"):
        module.run("ArtifactInstall")
    module.run("ArtifactRollback")
    module.run("ArtifactFailure")
    assert (module.gateway.app, module.gateway.floor) == (b"old", 1)


def test_a_release_that_fails_its_trial_fails_the_commit(module: Module) -> None:
    module.gateway.healthy("exit 75")
    module.brings(module.gateway.release(2))
    module.run("ArtifactInstall")
    with refused("unsuitable.trial", "release 1 is in place again"):
        module.run("ArtifactCommit", slept="exit 1")
    module.run("ArtifactRollback")
    assert (module.gateway.app, module.gateway.floor) == (b"old", 1)


@pytest.mark.parametrize("then", ["nothing", "another release"])
def test_a_trial_that_failed_before_the_commit_fails_it(module: Module, then: str) -> None:
    """A timer judges trials too: Mender must not report a release that is gone as installed."""
    module.gateway.healthy("exit 75")
    module.brings(module.gateway.release(2))
    module.run("ArtifactInstall")
    module.gateway.healthy("exit 1")
    assert trial(module.gateway.request()).verdict == "fell back"
    module.gateway.healthy("exit 0")
    number = 1
    if then == "another release":
        number = 3
        assert module.gateway.install(module.gateway.release(3, b"newer")).verdict == "installed"
    words = f"the release of this artifact is not in place, but release {number}: its trial ended"
    with refused("unsuitable.trial", words):
        module.run("ArtifactCommit")
    module.run("ArtifactRollback")
    assert module.gateway.app == (b"old" if number == 1 else b"newer")


def test_a_commit_where_nothing_is_installed(tmp_path: Path) -> None:
    one = Module(TrialGateway(tmp_path))
    one.brings(one.gateway.release(2))
    words = "the release of this artifact is not in place, but nothing: its trial ended"
    with refused("unsuitable.trial", words):
        one.run("ArtifactCommit")


def test_mender_goes_back_during_the_trial(module: Module) -> None:
    module.gateway.healthy("exit 75")
    module.brings(module.gateway.release(2))
    module.run("ArtifactInstall")
    module.run("ArtifactRollback")
    assert (module.gateway.app, module.gateway.record) == (b"old", None)


@pytest.mark.parametrize("brought", ["another release", "nothing", "garbage"])
def test_an_artifact_that_was_refused_ends_no_trial_of_another_release(
    module: Module, brought: str
) -> None:
    """Mender goes back after each failure, and whoever has its server can let one happen."""
    module.gateway.healthy("exit 75")
    assert module.gateway.install(module.gateway.release(2)).verdict == "on trial"
    if brought == "another release":
        module.brings(module.gateway.release(0, b"evil"))
    elif brought == "garbage":
        (module.directory / "files" / "a.suit").write_bytes(b"evil")
    with pytest.raises(FwsignError, match=r"."):
        module.run("ArtifactInstall")
    module.run("ArtifactRollback")
    assert (module.gateway.app, module.gateway.record is None) == (b"new", False)


def test_without_trials_there_is_no_going_back(tmp_path: Path) -> None:
    one = Module(TrialGateway(tmp_path))
    text = one.gateway.plain.config.read_text()
    one.gateway.plain.config.write_text(text.partition("[trial]")[0])
    assert one.run("SupportsRollback") == ["No"]
    one.brings(one.gateway.release(2))
    one.run("ArtifactInstall")
    one.run("ArtifactCommit")
    assert one.gateway.app == b"new"


@pytest.mark.parametrize("names", [(), ("a.suit", "b.suit"), ("a.bin",)])
def test_an_artifact_has_one_envelope(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    number = sum(name.endswith(".suit") for name in names)
    with refused("io.missing", f"has {number} files *.suit"):
        find(tmp_path)


def test_an_artifact_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    with refused("io.missing", "no such file or directory"):
        find(tmp_path / "none")
    for number in range(MAX_FILES + 1):
        (tmp_path / str(number)).touch()
    with refused("state.limit", f"has {MAX_FILES + 1} files"):
        find(tmp_path)


# --- the real client --------------------------------------------------------------------------


def packed(files: Mapping[str, bytes], *, compressed: bool = False) -> bytes:
    """Return a tar archive, as Mender's artifacts are made of them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz" if compressed else "w") as archive:
        for name, data in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            archive.addfile(facts, io.BytesIO(data))
    return made.getvalue()


def artifact(name: str, files: Mapping[str, bytes]) -> bytes:
    """Return an artifact of format 3 for the module `fwsign`, without Mender's own signature."""
    payload = packed(files, compressed=True)
    info = {
        "payloads": [{"type": "fwsign"}],
        "artifact_provides": {"artifact_name": name},
        "artifact_depends": {"device_type": ["test"]},
    }
    header = packed(
        {
            "header-info": json.dumps(info).encode(),
            "headers/0000/type-info": json.dumps({"type": "fwsign"}).encode(),
        },
        compressed=True,
    )
    version = json.dumps({"format": "mender", "version": 3}).encode()
    parts = {"version": version, "header.tar.gz": header}
    parts |= {f"data/0000/{one}": data for one, data in files.items()}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {one}\n" for one, data in parts.items()]
    manifest = "".join(sorted(lines, key=lambda line: line.split()[1])).encode()
    return packed(
        {
            "version": version,
            "manifest": manifest,
            "header.tar.gz": header,
            "data/0000.tar.gz": payload,
        }
    )


class Client:
    """The real client, with our module where it looks for modules."""

    def __init__(self, base: Path, config: Path) -> None:
        self.base = base
        self.modules, self.data = base / "modules", base / "mender"
        self.modules.mkdir()
        self.data.mkdir()
        (self.data / "device_type").write_text("device_type=test\n")
        self.settings = base / "etc-mender"
        self.settings.mkdir()
        (self.settings / "artifact_info").write_text("artifact_name=none\n")
        (self.settings / "mender.conf").write_text("{}")
        script = self.modules / "fwsign"
        call = f"'{sys.executable}' -m fwsign adapter mender \"$@\" --config '{config}'"
        script.write_text(f"#!/bin/sh\nexec {call}\n")
        script.chmod(0o755)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the client in a mount namespace of its own: its directories are fixed."""
        bound = ((self.modules, "/usr/share/mender/modules/v3"), (self.settings, "/etc/mender"))
        mounts = "".join(f"mount --bind {own} {place} && " for own, place in bound)
        line = f"{mounts}exec mender --no-syslog --data {self.data} {' '.join(words)}"
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", line],
            cwd=self.base,
            env=for_child(),
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, name: str, envelope: Path) -> subprocess.CompletedProcess[str]:
        files = {one.name: one.read_bytes() for one in envelope.parent.iterdir()}
        (self.base / "one.mender").write_bytes(artifact(name, files))
        return self.run("install", str(self.base / "one.mender"))


def test_the_real_client(tmp_path: Path) -> None:
    require_program("mender")
    if os.geteuid() != 0:
        pytest.skip("the client's directory of modules is fixed: only root can mount another there")
    gateway = make_gateway(tmp_path)
    client = Client(tmp_path, gateway.config)
    gateway.configure('[trial]\nhealth = ["/bin/true"]\nconfirm = "application"')
    text = gateway.config.read_text().replace('revocation = "require"', 'revocation = "off"')
    gateway.config.write_text(text)
    done = client.install("one", gateway.release(1, {"app.tar": b"one"}))
    assert done.returncode == 0, done.stderr
    assert gateway.installed == {"app.tar": b"one"}
    back = client.run("rollback")
    assert back.returncode == 0, back.stderr
    assert gateway.installed is None
    assert gateway.floor is None
    text = gateway.config.read_text().replace('confirm = "application"', "")
    gateway.config.write_text(text)
    again = gateway.release(2, {"app.tar": b"two"})
    assert client.install("two", again).returncode == 0
    assert client.run("commit").returncode == 0
    assert (gateway.installed, gateway.floor) == ({"app.tar": b"two"}, 2)
    older = client.install("three", gateway.release(1, {"app.tar": b"one"}))
    assert older.returncode != 0
    assert "below 2, the lowest that is still accepted" in older.stderr
    assert gateway.installed == {"app.tar": b"two"}
