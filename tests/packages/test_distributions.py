"""What `make packages` builds, in the real Debian 12 and 13 with their own cryptography."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fwsign import __version__
from support import absent, for_child, require_program

PROJECT = Path(__file__).parent.parent.parent
ROOTS = PROJECT / "build" / "roots"
MAKE = PROJECT / "tools" / "make-roots"
SUITES = {"bookworm": "38.0.4", "trixie": "43.0.0"}
"""Debian 12 and 13, and what they have of cryptography."""
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""No home, no PYTHONPATH."""

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        not (PROJECT / "src").is_dir(), reason="the tests run without the source tree"
    ),
]


class Built(NamedTuple):
    """What `make packages` built."""

    archive: Path
    package: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    require_program("dpkg-deb")
    found = build(tmp_path_factory.mktemp("dist"), 0o022)
    assert found.archive.exists()
    return found


def build(target: Path, umask: int) -> Built:
    command = (sys.executable, PROJECT / "packaging" / "build", target)
    subprocess.run(command, check=True, capture_output=True, env=for_child(), umask=umask)
    return Built(target / "fwsign.pyz", target / f"fwsign_{__version__}_all.deb")


def test_they_are_the_same_bytes_each_time(built: Built, tmp_path: Path) -> None:
    again = build(tmp_path, 0o077)
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in built]


def test_the_licences_of_what_is_bundled_are_in_both(built: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.archive) as packed:
        names = packed.namelist()
    assert {name.split("/")[0] for name in names} == {
        *("__main__.py", "annotated_doc", "fwsign", "licenses", "shellingham", "typer"),
    }
    found = {name.split("/")[1].rpartition("-")[0] for name in names if name.startswith("licenses")}
    assert found == {"", "annotated-doc", "shellingham", "typer"}
    assert not [name for name in names if name.endswith(".pyc")]
    subprocess.run(("dpkg-deb", "-x", built.package, tmp_path), check=True)
    text = (tmp_path / "usr/share/doc/fwsign/copyright").read_text(encoding="utf-8")
    assert re.findall("@[a-z-]+@", text) == []
    for words in ("Apache License", "Sebasti", "Pallets", "Redistribution and use", "ISC"):
        assert words in text
    service = (tmp_path / "usr/lib/systemd/system/fwsign-follow.service").read_text()
    assert "\nConditionPathExists=/etc/fwsign/device.toml\n" in service
    assert "\nExecStart=/usr/bin/fwsign follow --once " in service
    assert '\nReadWritePaths="/srv/gateway" "/var/lib/fwsign"\n' in service
    assert not (tmp_path / "etc/systemd").exists()  # none is enabled
    private = tmp_path / "var/lib/fwsign"
    assert (private.stat().st_mode & 0o777, list(private.iterdir())) == (0o700, [])
    assert (tmp_path / "etc/fwsign").stat().st_mode & 0o777 == 0o755


def test_lintian_finds_no_error(built: Built) -> None:
    lintian = require_program("lintian")
    command = (lintian, "--fail-on", "error", "--allow-root", built.package)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    warned = {line.split()[2] for line in done.stdout.splitlines()}
    unusual = "systemd-service-file-refers-to-unusual-wantedby-target"  # early in each boot
    assert warned <= {"non-standard-dir-perm", unusual}


# --- in real roots --------------------------------------------------------------------------


class Root(NamedTuple):
    """A root of a distribution with the package in it."""

    place: Path
    version: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        whole = ("chroot", str(self.place), *command)
        return subprocess.run(whole, env=CLEAN, capture_output=True, text=True, check=False)


@pytest.fixture(params=SUITES)
def root(request: pytest.FixtureRequest, built: Built) -> Iterator[Root]:
    """Give a root to one test at a time: others may run in other processes."""
    suite = request.param
    if os.geteuid() != 0:
        absent("a root of a distribution needs the user root")
    require_program("debootstrap")
    made = subprocess.run(
        (sys.executable, MAKE, suite), capture_output=True, text=True, check=False
    )
    if made.returncode:
        absent(made.stderr)
    found = Root(ROOTS / suite, SUITES[suite])
    with (ROOTS / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        package = found.place / "root" / "fwsign.deb"
        there = package.exists() and (found.place / "usr" / "bin" / "fwsign").exists()
        if not there or package.read_bytes() != built.package.read_bytes():
            shutil.copyfile(built.package, package)
            done = found.run("dpkg", "--install", "/root/fwsign.deb")
            assert done.returncode == 0, done.stdout + done.stderr
        yield found


class Signed(NamedTuple):
    """A PKI's root, and releases by its signer: one that works, a broken one, and a later one."""

    anchor: Path
    good: Path
    broken: Path
    revoked: Path
    old: Path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """Sign as the owner does, elsewhere, with a newer cryptography."""
    place = tmp_path_factory.mktemp("owner")

    def fwsign(*words: str) -> None:
        command = (sys.executable, "-m", "fwsign", *words)
        done = subprocess.run(
            command, cwd=place, env=for_child(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    fwsign("init", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    releases = []
    for number, text in enumerate(("old", "good", "broken", "late"), 1):
        folder = place / text
        folder.mkdir()
        (folder / "app.tar").write_text(f"application, {text}\n", encoding="utf-8")
        sequence = ("--sequence", str(number * 10), "--version", f"{number}.0.0")
        fwsign("sign", f"{text}/app.tar", "--product", "x1", *sequence, "--force")
        releases.append(folder)
    fwsign("pki", "revoke", "release", "--reason", "keyCompromise")
    fwsign("staple", "late/app.tar.suit", "--crl", "pki/crl/issuing.pem")
    old, good, broken, late = releases
    return Signed(place / "pki" / "ca.crt", good, broken, late, old)


@pytest.fixture(params=["package", "archive"])
def fwsign(request: pytest.FixtureRequest, root: Root, built: Built) -> tuple[str, ...]:
    """Return the program as it is called in the root."""
    if request.param == "package":
        return ("/usr/bin/fwsign",)
    shutil.copyfile(built.archive, root.place / "root" / "fwsign.pyz")
    return ("/usr/bin/python3", "/root/fwsign.pyz")


@pytest.fixture
def gateway(root: Root, signed: Signed) -> Iterator[Path]:
    """Return a gateway's directory, as seen from outside: /srv/gateway in the root."""
    place = root.place / "srv" / "gateway"
    shutil.rmtree(place, ignore_errors=True)
    (place / "files").mkdir(parents=True)
    shutil.copyfile(signed.anchor, place / "ca.crt")
    for one in (signed.old, signed.good, signed.broken, signed.revoked):
        shutil.copytree(one, place / one.name)
    yield place
    shutil.rmtree(place)


def test_the_root_has_the_distributions_cryptography_and_no_pip(root: Root) -> None:
    done = root.run("/usr/bin/python3", "-c", "import cryptography as c; print(c.__version__)")
    assert done.stdout == f"{root.version}\n"
    assert "No module named 'pip'" in root.run("/usr/bin/python3", "-c", "import pip").stderr
    assert root.run("/usr/bin/fwsign", "version").stdout == f"fwsign {__version__}\n"


def test_a_gateway_installs_tries_goes_back_and_refuses(
    root: Root, fwsign: tuple[str, ...], gateway: Path
) -> None:
    def run(status: int, words: str, *command: str) -> None:
        config = ("--config", "/srv/gateway/device.toml")
        done = root.run(*fwsign, *command, *config)
        assert (done.returncode, words in done.stdout + done.stderr) == (status, True), done

    def install(status: int, words: str, name: str) -> str:
        run(status, words, "install", f"/srv/gateway/{name}/app.tar.suit")
        return (gateway / "files" / "current" / "app.tar").read_text(encoding="utf-8")

    place = ("--state", "/srv/gateway/state.db", "--target-dir", "/srv/gateway/files")
    who = ("--vendor", "acme.example", "--product", "x1", "--anchor", "/srv/gateway/ca.crt")
    run(0, "enrolled  acme.example x1", "device", "init", *who, *place)
    health = gateway / "health"
    health.write_text(
        "#!/bin/sh\n! grep broken /srv/gateway/files/current/app.tar\n", encoding="ascii"
    )
    health.chmod(0o755)
    with (gateway / "device.toml").open("a", encoding="utf-8") as file:
        file.write('\n[trial]\nhealth = ["/srv/gateway/health"]\n')
    assert install(0, "installed  x1 1.0.0, sequence 10", "old") == "application, old\n"
    assert install(0, "installed  x1 2.0.0, sequence 20", "good") == "application, good\n"
    assert install(4, "failed its trial", "broken") == "application, good\n"
    assert install(4, "failed its trial here before", "broken") == "application, good\n"
    assert install(4, "sequence number 10 is below 20", "old") == "application, good\n"
    assert install(1, "revoked", "late") == "application, good\n"
    run(0, "sequence", "device", "status")


def test_a_pki_says_what_it_needs(root: Root, fwsign: tuple[str, ...]) -> None:
    names = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1")
    done = root.run(*fwsign, "init", *names, "--no-passphrase")
    words = f"a PKI needs cryptography 48 or newer, found {root.version}"
    assert (done.returncode, words in done.stderr, done.stdout) == (5, True, "")


def test_the_archive_says_what_it_needs(root: Root, built: Built) -> None:
    shutil.copyfile(built.archive, root.place / "root" / "fwsign.pyz")
    alone = ("/usr/bin/python3", "-S", "/root/fwsign.pyz")  # without the system's packages
    assert root.run(*alone, "version").returncode == 0
    done = root.run(*alone, "verify", "/root/fwsign.pyz")
    words = "fwsign needs cryptography 38 or newer, found nothing"
    assert (done.returncode, words in done.stderr) == (5, True), done.stderr


def test_purging_takes_the_program_and_leaves_the_memory(root: Root) -> None:
    """The memory says what this device must never accept again."""
    memory = root.place / "var" / "lib" / "fwsign" / "state.db"
    assert memory.parent.stat().st_mode & 0o777 == 0o700
    memory.touch()
    done = root.run("dpkg", "--purge", "fwsign")
    (root.place / "root" / "fwsign.deb").unlink()
    assert done.returncode == 0, done.stderr
    assert not (root.place / "usr/lib/fwsign").exists()
    assert memory.exists()
    memory.unlink()
