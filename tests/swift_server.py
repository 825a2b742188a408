"""OpenStack Swift in one process, with S3's protocol, which has no conditional writes there.

usage: /usr/bin/python3 swift_server.py DIR PROXY ACCOUNT CONTAINER OBJECT      (the last are ports)

Debian's Python runs it, with Debian's package python3-swift.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventlet

eventlet.monkey_patch()

import swift.common.storage_policy  # noqa: E402 - after the sockets were replaced
import swift.common.utils  # noqa: E402
from eventlet import wsgi  # noqa: E402

LOCAL = "127.0.0.1"
NAMES = ("account", "container", "object")
PIPELINE = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "s3api", "tempauth", "slo")


class Cache:
    """As much of memcached as the login needs."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def get(self, key: str, **_: Any) -> Any:
        return self._held.get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._held[key] = value

    def delete(self, key: str, **_: Any) -> None:
        self._held.pop(key, None)

    def incr(self, key: str, delta: int = 1, **_: Any) -> int:
        self._held[key] = self._held.get(key, 0) + delta
        return int(self._held[key])


def main() -> None:
    place = Path(sys.argv[1])
    proxy, *ports = map(int, sys.argv[2:])
    about = place / "swift.conf"
    about.write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for module in (swift.common.utils, swift.common.storage_policy):
        module.SWIFT_CONF_FILE = str(about)
    swift.common.utils.validate_hash_conf()
    swift.common.storage_policy.reload_storage_policies()
    (place / "node/disk").mkdir(parents=True)
    for name, port in zip(NAMES, ports, strict=True):
        make_ring(place, name, port)
        serve(application(place, name, f"[pipeline:main]\npipeline = {name}\n", name), port)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PIPELINE)
    filters = filters.replace("#tempauth\n", "#tempauth\nuser_test_access = secret .admin\n")
    filters = filters.replace("#s3api\n", "#s3api\nlocation = us-east-1\n")
    pipeline = f"[pipeline:main]\npipeline = {' '.join(PIPELINE)} proxy-server\n"
    serve(cached(application(place, "proxy-server", pipeline + filters, "proxy")), proxy).wait()


def make_ring(place: Path, name: str, port: int) -> None:
    from swift.common.ring import RingBuilder

    builder = RingBuilder(4, 1, 0)
    where = {"ip": LOCAL, "port": port, "replication_ip": LOCAL, "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "disk", "weight": 1.0, **where})
    builder.rebalance()
    builder.get_ring().save(str(place / f"{name}.ring.gz"))


def application(place: Path, name: str, pipeline: str, egg: str) -> Any:
    from swift.common.wsgi import loadapp

    config = place / f"{name}.conf"
    config.write_text(
        f"[DEFAULT]\nswift_dir = {place}\ndevices = {place / 'node'}\nmount_check = false\n"
        f"disable_fallocate = true\nlog_level = ERROR\n{pipeline}"
        f"[app:{name}]\nuse = egg:swift#{egg}\naccount_autocreate = true\n"
    )
    return loadapp(str(config), global_conf={"log_name": name})


def cached(app: Any) -> Callable[[dict[str, Any], Any], Any]:
    cache = Cache()

    def call(environment: dict[str, Any], start: Any) -> Any:
        environment["swift.cache"] = cache
        return app(environment, start)

    return call


def serve(app: Any, port: int) -> Any:
    return eventlet.spawn(wsgi.server, eventlet.listen((LOCAL, port)), app, log_output=False)


if __name__ == "__main__":
    main()
