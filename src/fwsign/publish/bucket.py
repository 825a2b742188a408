# SPDX-License-Identifier: Apache-2.0
"""Buckets as stores: S3 and what speaks its protocol, Google Cloud Storage, Azure.

obstore finds the credentials where the tools of each provider have them: the environment, files,
the identity of a machine. A payload of several parts goes up in parts at once; a bucket shows it
only once it is whole.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
import urllib3
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from fwsign.errors import Failed
from fwsign.format.payload import CHUNK_SIZE
from fwsign.publish.endpoints import CONNECT_SECONDS, client_options
from fwsign.publish.layout import CHANNEL
from fwsign.publish.store import (
    Source,
    StoredEntry,
    check_size,
    conflict,
    missing,
    written_time,
)

PART: Final = 8 * 1024 * 1024
"""Bytes of a part; the most parts that S3 takes make 80 GB of it."""
PARTS_AT_ONCE: Final = 4
RETRIES: Final = 4
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_WRONG: Final = "0" * 32
"""A tag that no object has."""
_LACKING: Final = re.compile(r"status code: 501\b|<Code>NotImplemented</Code>")


def open_bucket(place: str) -> "Bucket":
    """Open a bucket by its address: s3://BUCKET/PREFIX, gs://..., az://...

    Raises:
        Failed: `io.place`: an address or settings that obstore does not take.
    """
    address = urlsplit(place)
    if not address.netloc or address.query or address.fragment or "@" in address.netloc:
        raise Failed(
            "io.place",
            f'"{place}" names no bucket',
            expected=f"{address.scheme}://BUCKET, or with a prefix",
            found=place,
        )
    try:
        store = from_url(
            place.rstrip("/"),
            client_options=client_options(address.scheme.lower()),
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=60)},
        )
    except (BaseError, ValueError, TypeError) as error:
        raise Failed("io.place", f"{place}: {_plain(error)}", found=place) from None
    return Bucket(store, place.rstrip("/"))


class Bucket:
    """A bucket, or a prefix in one; see `fwsign.publish.store.Store`.

    Args:
        store: obstore's store.
        place: its address.
    """

    def __init__(self, store: Any, place: str) -> None:
        self._store, self._place = store, place
        self._has_conditions = self._removes_many = True  # until it says otherwise

    @property
    def place(self) -> str:
        """The address."""
        return self._place

    def entry(self, path: str) -> StoredEntry | None:
        """Return the facts about an object; None if there is none."""
        try:
            found = obstore.head(self._store, path)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed("read", path, error) from None
        return StoredEntry(path, found["size"], found["last_modified"].timestamp())

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Return bytes of an object."""
        return self._read(path, start, size)[0]

    def _read(self, path: str, start: int = 0, size: int | None = None) -> tuple[bytes, Any]:
        """Return bytes of an object, and what names this version of it."""
        try:
            if size is not None:
                entry = self.entry(path)
                if entry is None:
                    raise missing(self._place, path)
                end = min(start + size, entry.size)
                check_size(self._place, path, end - start)
                if end <= start:
                    return b"", None
                return bytes(obstore.get_range(self._store, path, start=start, end=end)), None
            found = obstore.get(self._store, path)
            facts = found.meta
            check_size(self._place, path, facts["size"] - start)
            version = {key: facts[key] for key in ("e_tag", "version") if facts.get(key)}
            return bytes(found.bytes())[start:], version
        except FileNotFoundError:
            raise missing(self._place, path) from None
        except (BaseError, OSError) as error:
            raise self._failed("read", path, error) from None

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        """Write an object that is not there, of several parts if it is large."""
        if self.entry(path) is not None:
            return False
        if size <= PART:
            return self._create(path, b"".join(_pieces(source)))
        try:
            obstore.put(
                self._store,
                path,
                _pieces(source),
                attributes=_attributes(path),
                use_multipart=True,
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
            )
        except (BaseError, OSError) as error:
            raise self._failed("write", path, error) from None
        return True

    def _create(self, path: str, data: bytes) -> bool:
        """Write a small object that is not there; a store without the condition writes it, too."""
        try:
            self._put(path, data, "create")
        except AlreadyExistsError:
            return False
        except (
            PreconditionError,
            FileNotFoundError,
        ) as error:  # no such bucket
            raise self._failed("write", path, error) from None
        return True

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        """Replace an object on the condition that it is still the one that was seen.

        Some stores ignore the condition. So the first try has one that no object meets: a store
        that takes it ignores conditions, has written what was to be written, and says so by it.
        """
        del names  # objects are kept without being named
        found: bytes | None
        try:
            found, version = self._read(path)
        except Failed as error:
            if error.code != "io.missing":
                raise
            found = version = None
        if found != seen:
            raise conflict(self._place, path)
        wrong = {"e_tag": f'"{_WRONG}"', "version": "1"}
        for condition, guaranteed in ((wrong, False), (version or "create", True)):
            try:
                if not self._put(path, data, condition):
                    return False
            except (PreconditionError, AlreadyExistsError, FileNotFoundError) as error:
                if not guaranteed:
                    continue
                if version is None and isinstance(error, FileNotFoundError):
                    raise self._failed("write", path, error) from None
                raise conflict(self._place, path) from None
            return guaranteed
        raise AssertionError  # the last condition returns or raises

    def _put(self, path: str, data: bytes, condition: Any) -> bool:
        """Write a small object; tell whether the store took the condition."""
        options = {"attributes": _attributes(path), "use_multipart": False}
        try:
            if not self._has_conditions:
                obstore.put(self._store, path, data, **options)
                return False
            try:
                obstore.put(self._store, path, data, mode=condition, **options)
            except (PreconditionError, AlreadyExistsError, FileNotFoundError):
                raise
            except (BaseError, NotImplementedError) as error:
                if not _is_lacking(error):
                    raise
                self._has_conditions = False
                obstore.put(self._store, path, data, **options)
                return False
        except (PreconditionError, AlreadyExistsError, FileNotFoundError):
            raise
        except (BaseError, OSError, NotImplementedError) as error:
            raise self._failed("write", path, error) from None
        return True

    def names(self, prefix: str) -> Iterator[StoredEntry]:
        """Yield the objects below a prefix; for "" those that are not below another one."""
        try:
            if prefix:
                for found in obstore.list(self._store, prefix.rstrip("/")):
                    yield from map(_entry, found)
            else:
                yield from map(_entry, obstore.list_with_delimiter(self._store)["objects"])
        except (BaseError, OSError) as error:
            raise self._failed("list", prefix or "/", error) from None

    def delete(self, path: str) -> None:
        """Remove an object."""
        if not self._removes_many and self._delete_alone(path):
            return
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            self._removes_many = not _is_lacking(error)
            if self._removes_many or not self._delete_alone(path):
                raise self._failed("delete", path, error) from None

    def now(self) -> float:
        """Return the time of the bucket, which a small object gets; it is removed again."""
        return written_time(self, lambda path: self._create(path, b"clock"))

    def _delete_alone(self, path: str) -> bool:
        """Remove an object where a store lacks the removal of many at once, which obstore asks for.

        The address is signed for this one request; no message shows it.
        """
        try:
            address = obstore.sign(self._store, "DELETE", path, timedelta(minutes=1))
            answer = urllib3.request("DELETE", address, retries=False, timeout=CONNECT_SECONDS)
        except (BaseError, urllib3.exceptions.HTTPError, OSError, ValueError):
            return False
        return answer.status in (200, 204, 404)

    def _failed(self, doing: str, path: str, error: Exception) -> Failed:
        words = _plain(error)
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            return Failed(
                "io.permission",
                f"{self._place} does not let us {doing} {path}: {words}",
                expected=f"credentials that may {doing}",
                found="others, or none",
            )
        return Failed("io.place", f"cannot {doing} {path} in {self._place}: {words}", found=words)


def _pieces(source: Source) -> Iterator[bytes]:
    while data := source.read(CHUNK_SIZE):
        yield data


def _entry(found: Any) -> StoredEntry:
    return StoredEntry(found["path"], found["size"], found["last_modified"].timestamp())


def _attributes(path: str) -> Any:
    """Return the headers that a bucket gives with an object."""
    changes = path.endswith((CHANNEL, ".suit"))
    kind = "application/suit-envelope+cose" if changes else "application/octet-stream"
    return {
        "Cache-Control": _ASK_AGAIN if changes else _FOR_EVER,
        "Content-Type": kind,
    }


def _is_lacking(error: Exception) -> bool:
    """Tell whether a store says that it has no such operation, or no such condition."""
    return isinstance(error, NotImplementedError) or _LACKING.search(str(error)) is not None


def _plain(error: Exception) -> str:
    """Return an error of the library in one line, without its types and the server's whole page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    text = re.sub(r"\s+", " ", text)
    said = re.search(r"<Code>(\w+)</Code>(?:.*?<Message>([^<]{0,200}))?", str(error), re.DOTALL)
    if said:
        return f"{said[1]}: {said[2]}" if said[2] else said[1]
    return text[:300]
