"""A real gooseBit, over TLS: it is started by the tests, and ended by its own number."""

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support import absent

TABLES = """
import asyncio
from tortoise import Tortoise
from goosebit.db.config import TORTOISE_CONF

async def main():
    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()

asyncio.run(main())
"""
PATIENCE = 120
LOGIN = {"username": "owner@acme.example", "password": "of a test"}


def python() -> str:
    """Return the interpreter of the environment that has gooseBit.

    It has many dependencies, among them plugins of pytest, so it is in none of ours.
    """
    usual = Path(__file__).parents[2] / "build" / "goosebit" / "bin" / "python"
    found = Path(os.environ.get("FWSIGN_GOOSEBIT", usual))
    if not found.exists():
        absent(f"gooseBit is not installed: {found} is not there")
    return str(found)


class GooseBit:
    """The running server, by its API for people."""

    def __init__(self, port: int, ca: Path) -> None:
        self.port, self.ca = port, ca
        self._token: str | None = None

    @property
    def address(self) -> str:
        """The address of devices, without their ids."""
        return f"https://localhost:{self.port}/DEFAULT/controller/v1"

    def ask(self, method: str, path: str, data: Any = None, *, form: bool = False) -> Any:
        """Ask the API; return its answer."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("localhost", self.port, context=context)
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        headers = {"Content-Type": kind}
        if self._token is not None:
            headers["Authorization"] = f"bearer {self._token}"
        body = urlencode(data) if form else json.dumps(data) if data is not None else None
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        assert response.status < 300, (response.status, text)
        return json.loads(text) if text else None

    def set_up(self) -> None:
        """Make the first user, and be that."""
        self._token = self.ask("POST", "/setup", LOGIN, form=True)["access_token"]

    def add(self, url: str) -> str:
        """Add a file on another server as software; return its id."""
        return str(self.ask("PUT", "/api/v1/software", {"url": url}, form=True)["id"])

    def assign(self, device: str, software: str, **more: Any) -> None:
        """Assign software to a device."""
        content = {"devices": [device], "software": software, **more}
        self.ask("PATCH", "/api/v1/devices", content)

    def device(self, name: str) -> dict[str, Any]:
        """Return what the server knows of a device."""
        known = self.ask("GET", "/api/v1/devices")["devices"]
        return next(dict(one) for one in known if one["id"] == name)

    def log(self, name: str) -> str:
        """Return what a device told the server."""
        found: Mapping[str, Any] = self.ask("GET", f"/api/v1/devices/{name}/log")
        return str(found["log"])


@contextmanager
def goosebit(base: Path, certificate: Path, ca: Path) -> Iterator[GooseBit]:
    """Run gooseBit."""
    program, port = python(), _free_port()
    environment = {
        **{key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ},
        "GOOSEBIT_DB_URI": f"sqlite://{base}/db.sqlite3",
        "GOOSEBIT_ARTIFACTS_DIR": str(base / "artifacts"),
        "SSL_CERT_FILE": str(ca),
    }
    made = (program, "-c", TABLES)
    subprocess.run(made, env=environment, check=True, capture_output=True, cwd=base)
    server = ("-m", "uvicorn", "goosebit:app", "--host", "127.0.0.1", "--port", str(port))
    tls = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(certificate))
    process = subprocess.Popen(
        [program, *server, *tls],
        env=environment,
        cwd=base,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = GooseBit(port, ca)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                found.set_up()
                break
            except OSError:
                assert process.poll() is None, "gooseBit has ended"
                assert time.monotonic() < end, "gooseBit does not answer"
                time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def swu(version: str, model: str, content: bytes) -> bytes:
    """Return a file for SWUpdate, as far as gooseBit reads one: a cpio archive."""
    text = f"""software = {{
  version = "{version}";
  {model} = {{ hardware-compatibility: [ "default" ]; }};
  images: ( {{ filename = "app.bin"; type = "rawfile"; path = "/app.bin"; }} );
}}
"""
    return cpio({"sw-description": text.encode(), "app.bin": content})


def cpio(files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive in its form with checksums, as SWUpdate wants it."""
    parts = {**files, "TRAILER!!!": b""}
    return b"".join(_member(name, data) for name, data in parts.items())


def _member(name: str, data: bytes) -> bytes:
    fields = [0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF]
    head = b"070702" + b"".join(b"%08X" % one for one in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
