# SPDX-License-Identifier: Apache-2.0
"""Credentials for a registry: from a file, or from where `docker login` and podman keep them."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import read_bytes

LIMIT: Final = 1024 * 1024
"""Bytes of a file with credentials."""
HELPER_SECONDS: Final = 60
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DOCKER: Final = "https://index.docker.io/v1/"
"""The name under which docker keeps the credentials of its own registry."""
TOKEN_SERVERS: Final[Mapping[str, str]] = MappingProxyType(
    {"registry-1.docker.io": "auth.docker.io", "registry.gitlab.com": "gitlab.com"}
)
"""Registries whose token server has another name, as their providers say -> that name."""


class Credentials(NamedTuple):
    """A user and a password, which no message shows."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"Credentials({self.user!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        both = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


def is_token_server(server: str, registry: str, named: Collection[str] = ()) -> bool:
    """Tell whether a token server may have the credentials for a registry.

    The registry's own word does not count, since whoever has the registry's name alone must not
    get a password with it. Nor does a common ending: two owners have names below co.uk, and below
    github.io.

    Args:
        server: the host of the token server, without a port.
        registry: that of the registry.
        named: the hosts that the user named.
    """
    server, registry = server.lower(), registry.lower()
    if server in (registry, TOKEN_SERVERS.get(registry), *(one.lower() for one in named)):
        return True
    return not _is_ip(registry) and server.endswith(f".{registry}")


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def find(host: str, given: Path | None) -> Credentials | None:
    """Return the credentials for a registry; None if there are none.

    Args:
        host: the registry, with its port.
        given: a file with a line USER:PASSWORD, or one as docker writes it; None to look where
            docker and podman have theirs.

    Raises:
        Failed: `io.*`; `io.format`: a file of neither form; `key.unreachable`: a helper failed.
    """
    if given is not None:
        data = read_bytes(given, LIMIT)
        if not data.lstrip().startswith(b"{"):
            return _line(data, given)
        found = _in_docker_file(data, given, host)
        if found is None:
            raise Failed(
                "io.format",
                f"{given} has no credentials for {host}",
                expected=host,
                found="other registries",
            )
        return found
    for path in _places():
        if path.is_file():
            return _in_docker_file(read_bytes(path, LIMIT), path, host)
    return None


def _places() -> Iterator[Path]:
    """Yield the files that docker and podman read, in their order."""
    if typed := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(typed)
    if folder := os.environ.get("DOCKER_CONFIG"):
        yield Path(folder) / "config.json"
    else:
        yield Path(os.path.expanduser("~")) / ".docker" / "config.json"  # noqa: PTH111
    if run := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(run) / "containers" / "auth.json"


def _line(data: bytes, path: Path) -> Credentials:
    try:
        user, colon, password = data.decode().splitlines()[0].partition(":")
    except (UnicodeDecodeError, IndexError):
        user = colon = password = ""
    if not user or not colon or not password:
        raise Failed(
            "io.format",
            f"{path} has no line USER:PASSWORD, and is no configuration of docker",
            expected="USER:PASSWORD",
            found="something else",
        )
    return Credentials(user, password)


def _in_docker_file(data: bytes, path: Path, host: str) -> Credentials | None:
    try:
        content: Any = json.loads(data)
        auths, helpers = content.get("auths") or {}, content.get("credHelpers") or {}
        helper = helpers.get(host) or content.get("credsStore")
        entry: Any = next((auths[name] for name in _names(host) if name in auths), {})
        if "auth" in entry:
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return Credentials(user, password.rstrip("\0"))
        if "username" in entry:
            return Credentials(str(entry["username"]), str(entry["password"]))
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise Failed(
            "io.format",
            f"{path} is no configuration of docker that can be read",
            expected="JSON with auths",
            found="something else",
        ) from None
    return _ask(str(helper), host) if helper else None


def _names(host: str) -> Iterator[str]:
    """Yield the names that a registry has in such files."""
    for name in (host, f"https://{host}", f"https://{host}/", f"https://{host}/v1/"):
        yield name
        yield f"{name}/v2/"
    if host == "registry-1.docker.io":
        yield from ("docker.io", "index.docker.io", _DOCKER)


def _ask(helper: str, host: str) -> Credentials | None:
    """Ask a credential helper of docker, over its standard input."""
    if not _HELPER.fullmatch(helper):
        raise Failed("io.format", f'"{helper}" cannot be the name of a credential helper')
    program = f"docker-credential-{helper}"
    asked = _DOCKER if host == "registry-1.docker.io" else host
    try:
        done = subprocess.run(  # noqa: S603 - the program that the user's own file names
            [program, "get"],
            input=asked.encode(),
            capture_output=True,
            check=False,
            timeout=HELPER_SECONDS,
        )
        if done.returncode:  # it has none for this registry
            return None
        answer = json.loads(done.stdout)
        return Credentials(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, ValueError, TypeError, KeyError, subprocess.TimeoutExpired):
        raise Failed(
            "key.unreachable",
            f"the credential helper {program} gave no credentials for {host}",
            expected="user and password",
            found="none",
        ) from None
