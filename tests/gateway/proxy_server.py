"""A proxy that tunnels, or answers as it is told to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

Answer = Callable[[socket.socket], object]


class Proxy(NamedTuple):
    """A running proxy."""

    port: int
    heads: list[bytes]
    answers: list[Answer]
    """The next answers; a tunnel if there are none."""


@contextmanager
def proxying() -> Iterator[Proxy]:
    """Run a proxy."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(32)
        found = Proxy(door.getsockname()[1], [], [])
        thread = threading.Thread(target=_serve, args=(door, found))
        thread.start()
        try:
            yield found
        finally:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(door: socket.socket, proxy: Proxy) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_handle, args=(client, proxy), daemon=True).start()


def _handle(client: socket.socket, proxy: Proxy) -> None:
    with client, suppress(OSError):
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        proxy.heads.append(bytes(head))
        if proxy.answers:
            proxy.answers.pop(0)(client)
            return
        _, _, port = head.split()[1].rpartition(b":")
        with socket.create_connection(("127.0.0.1", int(port))) as server:
            client.sendall(b"HTTP/1.0 200 Connection established\r\nVia: a proxy\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
