# SPDX-License-Identifier: Apache-2.0
"""The servers of buckets that the environment names, and how they may be reached."""

import os
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from fwsign.errors import Failed

CONNECT_SECONDS: Final = 10
REQUEST_SECONDS: Final = 600
_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""The variables with the address of a server, by the scheme of the place."""
_EMULATOR: Final = ("AZURE_STORAGE_USE_EMULATOR", "AZURITE_BLOB_STORAGE_URL")
"""With the first one, the library takes the second one's address, and lets it do without TLS."""
_LOOPBACK: Final = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?(?:/.*)?")


def client_options(scheme: str) -> Any:
    """Return the settings of the HTTP client; without TLS it speaks to this machine alone.

    Raises:
        Failed: `io.place`: another machine would be asked, or a proxy, and without TLS.
    """
    endpoints = {one: os.environ.get(one, "") for one in _ENDPOINTS[scheme]}
    if scheme == "az" and os.environ.get(_EMULATOR[0]):
        endpoints[_EMULATOR[1]] = os.environ.get(_EMULATOR[1]) or "http://127.0.0.1:10000"
    plain = {one: url for one, url in endpoints.items() if url.lower().startswith("http:")}
    for name, endpoint in plain.items():
        if not _LOOPBACK.fullmatch(endpoint):
            raise Failed(
                "io.place",
                f"{name} is {endpoint}, which is not https",
                expected="an https address",
                found=endpoint,
            )
        if _is_sent_to_a_proxy(urlsplit(endpoint).hostname or ""):
            raise Failed(
                "io.place",
                f"{name} is {endpoint}, which the proxy of the environment would get without TLS",
                expected="this machine without a proxy",
                found=endpoint,
                hint=f"NO_PROXY={urlsplit(endpoint).hostname} keeps the proxy out of it",
            )
    return {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "allow_http": bool(plain),
    }


def _is_sent_to_a_proxy(host: str) -> bool:
    """Tell whether requests without TLS to a host go to a proxy that the environment names."""
    proxies = getproxies_environment()
    named = "http" in proxies or "all" in proxies
    return named and not proxy_bypass(host)
