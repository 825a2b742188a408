"""Real servers of buckets and registries, each started by a test and ended by its own pid."""

import base64
import contextlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path

import pytest

from support import absent, require_package, require_program

KEYS = {
    "AWS_ACCESS_KEY_ID": "access",
    "AWS_SECRET_ACCESS_KEY": "secret-key-of-a-test",
    "AWS_REGION": "us-east-1",
}
GOOGLE_KEYS = {"GOOGLE_BEARER_TOKEN": "token-of-a-test"}
SWIFT_KEYS = {"AWS_ACCESS_KEY_ID": "test:access", "AWS_SECRET_ACCESS_KEY": "secret"}
LOCAL = "127.0.0.1"
PATIENCE = 60
"""Seconds until a server must answer; two cores may have much else to do."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; those of gRPC, 10,000 above, are free too."""
    found: list[int] = []
    while len(found) < count:
        with contextlib.ExitStack() as held:
            one = held.enter_context(socket.socket())
            one.bind((LOCAL, 0))
            port = one.getsockname()[1]
            if port + 10000 > 65535 or port in found:
                continue
            try:
                held.enter_context(socket.socket()).bind((LOCAL, port + 10000))
            except OSError:
                continue
            found.append(port)
    return found


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, more: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a server until the block ends; yield its address once it answers."""
    address = f"http://{LOCAL}:{port}"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(more or {})},
            cwd=log.parent,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not answers(address):
            if child.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{command[0]} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield address
    finally:
        child.terminate()
        try:
            child.wait(1)  # nobody needs its data any more
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def answers(address: str) -> bool:
    """Tell whether a server answers anything at all."""
    try:
        urllib.request.urlopen(address, timeout=2).close()  # noqa: S310 - ours
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def program(name: str) -> str:
    """Return a program that a Python package brings along."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else require_program(name)


@contextlib.contextmanager
def seaweedfs(place: Path) -> Iterator[str]:
    """Run SeaweedFS with S3."""
    weed = program("weed")
    master, volume, filer, s3, iceberg, lance = free_ports(6)
    (place / "data").mkdir()
    command = [weed, "-logtostderr=true", "server", f"-dir={place / 'data'}", f"-ip={LOCAL}"]
    command += [f"-ip.bind={LOCAL}", f"-master.port={master}", f"-volume.port={volume}"]
    command += ["-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-volume.max=20"]
    command += [f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=0"]
    with running(command, s3, place / "weed.log") as address:
        yield address


@contextlib.contextmanager
def moto(place: Path) -> Iterator[str]:
    """Run moto as a server."""
    require_package("moto")
    (port,) = free_ports(1)
    command = [program("moto_server"), "-H", LOCAL, "-p", str(port)]
    with running(command, port, place / "moto.log") as address:
        yield address


@contextlib.contextmanager
def google(place: Path) -> Iterator[str]:
    """Run moto with the conditions of Google's XML API."""
    require_package("moto")
    (port,) = free_ports(1)
    command = [sys.executable, str(Path(__file__).parent / "gcs_server.py"), str(port)]
    with running(command, port, place / "google.log") as address:
        yield address


@contextlib.contextmanager
def localbucket(place: Path) -> Iterator[str]:
    """Run localbucket, which knows If-None-Match and takes any If-Match."""
    (port,) = free_ports(1)
    command = [program("localbucket"), "--port", str(port), str(place / "data")]
    (place / "data").mkdir()
    with running(command, port, place / "localbucket.log") as address:
        yield address


@contextlib.contextmanager
def swift(place: Path) -> Iterator[str]:
    """Run OpenStack Swift, with Debian's Python; its user is `SWIFT_KEYS`."""
    found = subprocess.run(
        ["/usr/bin/python3", "-c", "import swift.common.wsgi"], check=False, capture_output=True
    )
    if found.returncode:
        absent("the package python3-swift is not installed")
    ports = free_ports(4)
    server = Path(__file__).parent / "swift_server.py"
    command = ["/usr/bin/python3", str(server), str(place), *map(str, ports)]
    with running(command, ports[0], place / "swift.log", {"PYTHONPATH": ""}) as address:
        yield address


@contextlib.contextmanager
def registry(place: Path, **more: str) -> Iterator[str]:
    """Run docker-registry; `more` is its configuration, as it reads it from the environment."""
    if shutil.which("docker-registry") is None:
        absent("the program docker-registry is not installed")
    (port,) = free_ports(1)
    config = place / "registry.yml"
    config.write_text(
        f"""\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {place / "blobs"}}}
  delete: {{enabled: true}}
http: {{addr: "{LOCAL}:{port}"}}
"""
    )
    command = ["docker-registry", "serve", str(config)]
    with running(command, port, place / "registry.log", more) as address:
        yield address


AZURE_KEYS = {
    "AZURE_STORAGE_ACCOUNT_NAME": "fleet",
    "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"a key of a test, which is no secret").decode(),
}
AZURITE = Path(__file__).parent.parent / "build/azurite/node_modules/azurite/dist/src/blob/main.js"


@contextlib.contextmanager
def azurite(place: Path) -> Iterator[str]:
    """Run Azurite, Microsoft's own server of Azure's protocol; yield the account's address."""
    node = require_program("node")
    if not AZURITE.exists():
        absent("azurite is not installed (tools/install-azurite)")
    (port,) = free_ports(1)
    command = [node, str(AZURITE), "--blobHost", LOCAL, "--blobPort", str(port), "--silent"]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck"]
    name, key = AZURE_KEYS.values()
    accounts = {"AZURITE_ACCOUNTS": f"{name}:{key}"}
    with running(command, port, place / "azurite.log", accounts) as address:
        yield f"{address}/{name}"


def make_container(address: str, container: str) -> None:
    """Make a container in an account of Azurite, as its owner does."""
    name, key = AZURE_KEYS.values()
    date, version = formatdate(usegmt=True), "2021-08-06"
    canonical = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    what = f"PUT{12 * chr(10)}{canonical}/{name}/{name}/{container}\nrestype:container"
    mac = hmac.digest(base64.b64decode(key), what.encode(), "sha256")
    request = urllib.request.Request(  # noqa: S310 - ours
        f"{address}/{container}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {name}:{base64.b64encode(mac).decode()}",
        },
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - ours


def make_bucket(address: str, name: str, keys: Mapping[str, str] = KEYS) -> None:
    """Make a bucket, as its owner does before anything is published."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    client.close()
