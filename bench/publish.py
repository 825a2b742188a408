# SPDX-License-Identifier: Apache-2.0
"""Publishing into a bucket against an upload by boto3, for `bench/run`; prints JSON.

usage: publish.py [MIB [RUNS]]       a payload of MIB (16 without), RUNS times in turn

Both write to the same SeaweedFS. fwsign also verifies the release before, hashes the payload once
more while it goes up, writes the envelope, and reads back. The upload by boto3 is what
`aws s3 cp` does: parts of 8 MiB, ten at once.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
LOCAL = "127.0.0.1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "access",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
UPLOAD = """
import sys, boto3
client = boto3.client("s3", endpoint_url=sys.argv[1])
client.upload_file(sys.argv[2], "updates", sys.argv[3])
"""
START = 60  # seconds


def main() -> None:
    """Measure both in turn."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        print(json.dumps(None))
        return
    with tempfile.TemporaryDirectory(prefix="fwsign-bench-") as name:
        place = Path(name)
        with (place / "server.log").open("wb") as log:
            server, address = serve(weed, place, log)
            try:
                print(json.dumps(measured(place, address, size, runs)))
            finally:
                server.kill()
                server.wait()


def serve(weed: Path, place: Path, log: Any) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a server with an empty bucket; return it with its address."""
    ports = free_ports(6)
    names = ("master", "volume", "filer", "s3", "s3.port.iceberg", "s3.port.lance")
    options = [
        f"-{name if '.' in name else f'{name}.port'}={port}"
        for name, port in zip(names, ports, strict=True)
    ]
    (place / "data").mkdir()
    command = [str(weed), "server", f"-dir={place / 'data'}", f"-ip={LOCAL}", f"-ip.bind={LOCAL}"]
    more = ["-filer", "-s3", "-volume.max=200", "-master.volumeSizeLimitMB=512"]
    server = subprocess.Popen(
        [*command, *more, "-volume.minFreeSpace=0", *options], stdout=log, stderr=log
    )
    address = f"http://{LOCAL}:{ports[3]}"
    end = time.monotonic() + START
    while not answers(address):
        if server.poll() is not None or time.monotonic() > end:
            server.kill()
            sys.exit("bench: error: the server of buckets does not answer")
        time.sleep(0.1)
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_REGION"],
    )
    client.create_bucket(Bucket="updates")
    return server, address


def answers(address: str) -> bool:
    """Tell whether a server answers anything."""
    try:
        urllib.request.urlopen(address, timeout=2).close()  # noqa: S310 - ours
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, low enough for those of gRPC 10,000 above."""
    held: list[socket.socket] = []
    found: list[int] = []
    while len(found) < count:
        one = socket.socket()
        held.append(one)
        one.bind((LOCAL, 0))
        if one.getsockname()[1] < 55000:
            found.append(int(one.getsockname()[1]))
    for one in held:
        one.close()
    return found


def measured(place: Path, address: str, size: int, runs: int) -> dict[str, Any]:
    """Return the seconds and the CPU of each run: of fwsign, of boto3, and of fwsign again."""
    environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": address}
    fwsign = [sys.executable, "-m", "fwsign", "--quiet"]
    about = ("--org", "Acme", "--vendor", "acme.example", "--product", "bench", "--no-passphrase")
    subprocess.run((*fwsign, "init", *about), cwd=place, check=True, capture_output=True)
    payload = place / "large.bin"
    samples: dict[str, Any] = {"fwsign": [], "boto3": [], "again": []}
    for index in range(runs):
        with payload.open("wb") as file:  # other bytes each time: nothing is there already
            for _ in range(size):
                file.write(os.urandom(MIB))
        signing = (*fwsign, "sign", "--force", str(payload))
        subprocess.run(signing, cwd=place, check=True, capture_output=True)
        ours = [*fwsign, "publish", f"{payload}.suit", "--to", "s3://updates/x1"]
        theirs = [sys.executable, "-c", UPLOAD, address, str(payload), f"copy-{index}"]
        order = [("fwsign", ours), ("boto3", theirs)]
        for name, command in order if index % 2 == 0 else order[::-1]:
            samples[name].append(timed(command, place, environment))
        samples["again"].append(timed(ours, place, environment))
    shutil.rmtree(place / "data", ignore_errors=True)
    return samples


def timed(command: list[Any], place: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a program to its good end; return seconds on the wall and of CPU."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        complaint = child.stderr.read().decode(errors="replace") if child.stderr else ""
        sys.exit(f"bench: error: {command[-3:]}: {complaint}")
    return seconds, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
