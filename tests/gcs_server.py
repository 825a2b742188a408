"""moto with the conditions of Google Cloud Storage's XML API. usage: gcs_server.py PORT

No server of Google's storage that speaks this API can be installed from a registry: the known ones
speak the JSON API. Both APIs are nearly S3's: this adds the generation of an object, and the
condition on it, as https://cloud.google.com/storage/docs/xml-api/reference-headers says.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import request_uri

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.test import Client

Environ = dict[str, Any]
LOCK = threading.Lock()
SERVER = DomainDispatcherApplication(create_backend_app)


def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request: a PUT on its condition, anything with the object's generation."""
    wanted = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
    if environ["REQUEST_METHOD"] != "PUT" or wanted is None:
        answer: Iterable[bytes] = SERVER(environ, with_generation(start))
        return answer
    with LOCK:
        login = {"Authorization": environ["HTTP_AUTHORIZATION"]}
        head = Client(SERVER).head(request_uri(environ, include_query=False), headers=login)
        found = generation(head.headers.get("ETag", "")) if head.status_code == 200 else "0"
        if wanted != found:
            body = b"<Error><Code>PreconditionFailed</Code></Error>"
            start("412 Precondition Failed", [("Content-Length", str(len(body)))])
            return [body]
        return [b"".join(SERVER(environ, with_generation(start)))]


def with_generation(start: Callable[..., Any]) -> Callable[..., Any]:
    """Add the header that names this version of the object."""

    def begin(status: str, headers: list[tuple[str, str]], _: object = None) -> Any:
        tags = [value for name, value in headers if name.lower() == "etag"]
        return start(status, [*headers, *(("x-goog-generation", generation(one)) for one in tags)])

    return begin


def generation(tag: str) -> str:
    """Return a number for a version: another one for another content is all that tests need."""
    return str(int(tag.strip('"').partition("-")[0], 16) >> 66)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
