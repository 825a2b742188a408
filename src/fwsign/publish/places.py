# SPDX-License-Identifier: Apache-2.0
"""Open the store that a place names: a folder, a bucket, a registry."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from fwsign.errors import Failed
from fwsign.publish.store import Store

PLACES: Final = "a folder, s3://BUCKET/..., gs://BUCKET/..., az://CONTAINER/... or oci://HOST/NAME"
_BUCKETS: Final = ("s3", "gs", "az")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)


def open_store(place: str, auth: Path | None = None, token_hosts: Collection[str] = ()) -> Store:
    """Open the store that a place names; nothing is fetched or written yet.

    Args:
        place: a folder, or an address: s3://, gs://, az:// or oci://.
        auth: a file with the credentials for a registry.
        token_hosts: token servers that may have these, beside the registry's own.

    Raises:
        Failed: `io.place`: no such kind of place; `state.library`: a library is not there; `io.*`.
    """
    match = _SCHEME.fullmatch(place)
    if match is None:
        from fwsign.publish.folder import FolderStore  # a store is imported on use

        return FolderStore(Path(place))
    scheme = match[1].lower()
    try:
        if scheme in _BUCKETS:
            from fwsign.publish.bucket import open_bucket

            return open_bucket(place)
        if scheme == "oci":
            from fwsign.publish.registry import open_registry

            return open_registry(match[2], auth, token_hosts)
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise Failed(
            "state.library",
            f"places of {scheme}:// need the library {library}, which is not installed",
            expected=library,
            found="nothing",
            hint="pip install 'fwsign[publish]'",
        ) from error
    if scheme == "file":
        return open_store(match[2])
    raise Failed(
        "io.place",
        f'nothing can be published to "{scheme}://"',
        expected=PLACES,
        found=f"{scheme}://",
        hint=f"name {PLACES}",
    )
