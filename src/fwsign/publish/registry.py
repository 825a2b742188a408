# SPDX-License-Identifier: Apache-2.0
"""A repository of an OCI registry as a store: blobs by digest, and tags for everything with a name.

    sha256/HEX              the blob sha256:HEX
    releases/HEX.suit       tag releases-HEX.suit: an artifact whose layer is the envelope; its
                            subject is the artifact releases-HEX.payloads with the payloads
    NAME.channel            tag NAME.channel: an artifact whose layer is the channel

So a registry keeps the payloads as long as the release, and tools that list referrers find the
envelope from the payloads. Registries have no conditional write.
"""

import re
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fwsign.errors import Failed
from fwsign.publish import registry_auth
from fwsign.publish.layout import CHANNEL, RELEASES
from fwsign.publish.registry_client import MAX_JSON, RegistryAnswer, RegistryClient
from fwsign.publish.registry_manifest import (
    CHANNEL_TYPE,
    CREATED,
    EMPTY,
    ENVELOPE,
    INDEX,
    MANIFEST,
    PAYLOADS_TYPE,
    RELEASE_TYPE,
    TITLE,
    Held,
    artifact,
    check_layer,
    check_listed,
    descriptor,
    digest_of,
    encode_json,
)
from fwsign.publish.registry_upload import upload, upload_bytes
from fwsign.publish.store import Source, StoredEntry, check_size, conflict, missing

MAX_TAGS: Final = 100_000
"""Tags that are listed at most."""
LONGEST_TAG: Final = 128
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_FALLBACK = re.compile("sha256-[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")


def open_registry(address: str, auth: Path | None, token_hosts: Collection[str] = ()) -> "Registry":
    """Open a repository by its address without oci://.

    Args:
        address: HOST/NAME.
        auth: a file with its credentials; None looks where docker and podman have theirs.
        token_hosts: further token servers that may have these credentials.

    Raises:
        Failed: `io.place`: no such address; `io.*`: the credentials.
    """
    host, _, name = address.rstrip("/").partition("/")
    if not _HOST.fullmatch(host) or not _NAME.fullmatch(name):
        raise Failed(
            "io.place",
            f'"oci://{address}" names no repository',
            expected="oci://HOST/NAME, in lower case and without a tag",
            found=address,
        )
    server = "registry-1.docker.io" if host == "docker.io" else host
    client = RegistryClient(server, name, registry_auth.find(server, auth), token_hosts)
    return Registry(client, f"oci://{host}/{name}")


class Registry:
    """A repository of a registry; see `fwsign.publish.store.Store`.

    Args:
        client: sends the requests.
        place: its address.
    """

    def __init__(self, client: RegistryClient, place: str) -> None:
        self._client, self._place = client, place

    @property
    def place(self) -> str:
        """The address."""
        return self._place

    def entry(self, path: str) -> StoredEntry | None:
        """Return the facts about a blob or a tag; None if it is not there."""
        if (digest := _blob(path)) is not None:
            answer = self._client.ask("HEAD", f"blobs/{digest}", good=(200, 404))
            size = answer.headers.get("Content-Length", "")
            return (
                StoredEntry(path, int(size), 0.0)
                if answer.status == 200 and re.fullmatch("[0-9]{1,18}", size)
                else None
            )
        held = self._held(_tag(path))
        return None if held is None else self._facts(path, held)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a blob, or of the layer behind a tag."""
        if (digest := _blob(path)) is not None:
            entry = self.entry(path)
            if entry is None:
                raise missing(self._place, path)
            return self._part(path, digest, entry.size, start, size)
        held = self._held(_tag(path))
        if held is None:
            raise missing(self._place, path)
        layer = held.layer
        data = self._part(path, layer["digest"], layer["size"], 0, None)
        if digest_of(data) != layer["digest"]:
            raise self._failed(f"it gave other bytes for {layer['digest']}")
        return data[start:] if size is None else data[start : start + size]

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        """Upload a blob; the registry checks its digest."""
        digest = _blob(path)
        if digest is None:
            raise AssertionError(path)
        if self.entry(path) is not None:
            return False
        upload(self._client, digest, source, size)
        return True

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        """Put a tag on new content, after another look at what is there."""
        tag = _tag(path)
        before = self._held(tag)
        found = None if before is None else self.read(path)
        if found != seen:
            raise conflict(self._place, path)
        self._upload_small(EMPTY)
        self._upload_small(data)
        subject = self._put_payloads(path, names) if names else None
        kind = CHANNEL_TYPE if path.endswith(CHANNEL) else RELEASE_TYPE
        layer = descriptor(ENVELOPE, data, title=path.rpartition("/")[2])
        made = datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="seconds")
        manifest = artifact(kind, [layer], subject, {CREATED: made})
        answer = self._put(tag, manifest)
        if subject is not None and "OCI-Subject" not in answer.headers:
            self._refer(subject, manifest, kind)
        if before is not None and before.digest != digest_of(manifest):
            self._drop(before.digest, good=(202, 400, 403, 404, 405))
        return False

    def names(self, prefix: str) -> Iterator[StoredEntry]:
        """Yield the releases or the channels; blobs cannot be listed."""
        if prefix not in (RELEASES, ""):
            return
        for tag in self._tags():
            if prefix and re.fullmatch(r"releases-[0-9a-f]+\.suit", tag):
                path = tag.replace("-", "/", 1)
            elif not prefix and tag.endswith(CHANNEL):
                path = tag
            else:
                continue
            if (entry := self.entry(path)) is not None:
                yield entry

    def delete(self, path: str) -> None:
        """Remove a tag with its payloads; blobs go when the registry collects its garbage."""
        if (digest := _blob(path)) is not None:
            self._client.ask("DELETE", f"blobs/{digest}", good=(202, 404, 405, 400))
            return
        tag = _tag(path)
        held = self._held(tag)
        if held is None:
            return
        payloads = self._held(_payloads_tag(path))
        self._drop(held.digest)
        if payloads is not None:
            self._drop(payloads.digest)
            index = self._held(payloads.digest.replace(":", "-"))
            if index is not None:
                self._drop(index.digest)

    def now(self) -> float:
        """Return the time that the registry's answers have, which new tags get, too."""
        answer = self._client.ask("GET", "/v2/", good=(200, 404), limit=MAX_JSON)
        return _time_of(answer)

    # --- tags --------------------------------------------------------------------------------

    def _held(self, reference: str) -> Held | None:
        answer = self._client.ask(
            "GET",
            f"manifests/{reference}",
            good=(200, 404),
            headers={"Accept": f"{MANIFEST}, {INDEX}"},
            limit=MAX_JSON,
        )
        if answer.status == 404:
            return None
        held = Held(answer.body, self._client.json(answer.body))
        try:
            if "manifests" in held.content and _FALLBACK.fullmatch(reference):
                check_listed(held.content["manifests"])
            else:
                check_layer(held.layer)
        except (LookupError, TypeError, ValueError):
            raise self._failed(f"the tag {reference} is no artifact of fwsign") from None
        return held

    def _facts(self, path: str, held: Held) -> StoredEntry:
        try:
            made = datetime.fromisoformat(held.content["annotations"][CREATED])
            modified = made.replace(tzinfo=made.tzinfo or UTC).timestamp()
        except (LookupError, TypeError, ValueError, OverflowError):
            modified = time.time()  # of unknown age: nobody removes it as old
        return StoredEntry(path, held.layer["size"], modified)

    def _tags(self) -> Iterator[str]:
        place, count = "tags/list?n=1000", 0
        while place:
            answer = self._client.ask("GET", place, good=(200, 404), limit=MAX_JSON)
            if answer.status == 404:
                return
            tags = self._client.json(answer.body).get("tags") or []
            if not isinstance(tags, list):
                raise self._failed("a list of tags that is none")
            for tag in tags:
                count += 1
                if count > MAX_TAGS:
                    raise self._failed(f"more than {MAX_TAGS} tags")
                yield str(tag)
            place = self._next(answer, place)

    def _next(self, answer: RegistryAnswer, place: str) -> str:
        """Return the address of the next page; "" if there is none."""
        link = re.match(r'<([^>]+)>;\s*rel="?next', answer.headers.get("Link", ""))
        if link is None:
            return ""
        return self._client.resolve(link[1], place)

    def _put(self, reference: str, manifest: bytes, kind: str = MANIFEST) -> RegistryAnswer:
        return self._client.ask(
            "PUT",
            f"manifests/{reference}",
            good=(201,),
            headers={"Content-Type": kind},
            body=manifest,
            limit=MAX_JSON,
        )

    def _put_payloads(self, path: str, names: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Put the artifact that keeps a release's payloads; return its descriptor.

        It has the release's name, so that two releases with the same payloads have one each.
        """
        layers = [
            {"mediaType": "application/octet-stream", "digest": _blob(name), "size": size}
            for name, size in names
        ]
        tag = _payloads_tag(path)
        manifest = artifact(PAYLOADS_TYPE, layers, None, {TITLE: tag})
        self._put(tag, manifest)
        return descriptor(MANIFEST, manifest)

    def _refer(self, subject: dict[str, Any], manifest: bytes, kind: str) -> None:
        """List a referrer under the fallback tag, for a registry that lists none itself."""
        tag = subject["digest"].replace(":", "-")
        before = self._held(tag)
        listed = before.content.get("manifests", []) if before is not None else []
        others = [one for one in listed if one.get("artifactType") != kind]
        one = {**descriptor(MANIFEST, manifest), "artifactType": kind}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, one]}
        self._put(tag, encode_json(index), INDEX)

    def _drop(self, digest: str, good: tuple[int, ...] = (202, 404)) -> None:
        try:
            self._client.ask("DELETE", f"manifests/{digest}", good=good)
        except Failed as error:
            if "status 405" in error.message:
                raise self._failed("it does not allow to delete anything") from error
            raise

    # --- blobs -------------------------------------------------------------------------------

    def _part(self, path: str, digest: str, whole: int, start: int, size: int | None) -> bytes:
        rest = max(whole - start, 0)
        wanted = rest if size is None else min(size, rest)
        check_size(self._place, path, wanted)
        if not wanted:
            return b""
        headers = {} if wanted == whole else {"Range": f"bytes={start}-{start + wanted - 1}"}
        answer = self._client.ask(
            "GET", f"blobs/{digest}", good=(200, 206, 404), headers=headers, limit=wanted
        )
        if answer.status == 404:
            raise missing(self._place, path)
        if headers and answer.status != 206:
            raise self._failed("it does not give parts of blobs")
        return answer.body

    def _upload_small(self, data: bytes) -> None:
        digest = digest_of(data)
        found = self._client.ask("HEAD", f"blobs/{digest}", good=(200, 404))
        if found.status == 404:
            upload_bytes(self._client, digest, data)

    def _failed(self, words: str) -> Failed:
        return Failed("io.place", f"{self._place}: {words}", found=words)


def _time_of(answer: RegistryAnswer) -> float:
    """Return the time of an answer; that of this machine if it has none."""
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return time.time()


def _blob(path: str) -> str | None:
    """Return the digest of a payload's path; None for another path."""
    algorithm, _, value = path.partition("/")
    return f"{algorithm}:{value}" if algorithm.startswith("sha") and value else None


def _tag(path: str) -> str:
    tag = path.replace("/", "-")
    if len(tag) > LONGEST_TAG:
        raise Failed(
            "io.place",
            f"registries have no tag as long as {tag}",
            expected=f"at most {LONGEST_TAG} characters",
            found=f"{len(tag)} characters",
        )
    return quote(tag)


def _payloads_tag(path: str) -> str:
    return _tag(path).removesuffix(".suit") + ".payloads"
