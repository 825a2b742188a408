# SPDX-License-Identifier: Apache-2.0
"""The cable of a simulated board: a TCP port on this machine, with the faults that cables have."""

import contextlib
import socket
import threading
import time
from typing import Final, NamedTuple, Protocol

LINE_FAULTS: Final = ("cable", "gone", "flip", "flip-back")
"""Pulled after byte N from the host, or gone for `AWAY` after it; a bit flipped in byte N to the
board, or from it."""
AWAY: Final = 0.3
"""Seconds for which a port is gone after the fault `gone`."""
_CHUNK: Final = 4096
_BITS_PER_BYTE: Final = 10  # 8N1


class Fault(NamedTuple):
    """Something that goes wrong once, by name; `at` counts from 0 what the name says."""

    name: str
    at: int


class Machine(Protocol):
    """A simulated boot loader: bytes in, bytes out."""

    @property
    def baud(self) -> int | None:
        """The line's speed in bit/s; None for as fast as the computer."""
        ...

    def connected(self) -> None:
        """Take note that a host has opened the port."""
        ...

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the host and return the answer to all that is complete."""
        ...

    def left(self) -> None:
        """Take note that the host, or the cable, is gone."""
        ...


class Line:
    """Serves a machine on 127.0.0.1, one host after another, until it is closed.

    Args:
        machine: what is at the other end.
        faults: those of `LINE_FAULTS` are this class's.
        port: 0 for any that is free.
    """

    def __init__(self, machine: Machine, faults: tuple[Fault, ...] = (), port: int = 0) -> None:
        self._machine = machine
        self._faults = [fault for fault in faults if fault.name in LINE_FAULTS]
        self._received = self._sent = 0  # bytes, over all connections
        self._due = 0.0  # when the line has carried what was sent so far
        self._closed = threading.Event()
        self._connection: socket.socket | None = None
        self._server = socket.create_server(("127.0.0.1", port))
        self._address = self._server.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> str:
        """What to give pyserial."""
        return f"socket://127.0.0.1:{self._address[1]}"

    def close(self) -> None:
        """Pull the cable for good."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux
        with contextlib.suppress(OSError):
            # Elsewhere a last connection wakes it.
            socket.create_connection(self._address, timeout=0.1).close()
        if (connection := self._connection) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def __enter__(self) -> "Line":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection = connection
                if self._closed.is_set():  # `close` may have looked for a connection before
                    return
                self._machine.connected()
                gone = False
                with contextlib.suppress(OSError):
                    gone = self._talk(connection)
                self._connection = None
                self._machine.left()
                if gone:
                    self._server.close()
            if gone:
                self._closed.wait(AWAY)
                self._server = socket.create_server(self._address)

    def _talk(self, connection: socket.socket) -> bool:
        """Serve one host; return whether the port is gone now."""
        while data := connection.recv(_CHUNK):
            gone = self._take("gone", self._received, len(data))
            pulled = gone or self._take("cable", self._received, len(data))
            if pulled is not None:
                data = data[: pulled.at - self._received]
            data = self._flip("flip", self._received, data)
            self._received += len(data)
            self._carry(len(data))
            answer = self._machine.receive(data)
            if pulled is not None:
                return gone is not None
            answer = self._flip("flip-back", self._sent, answer)
            self._sent += len(answer)
            self._carry(len(answer))
            connection.sendall(answer)
        return False

    def _take(self, name: str, start: int, size: int) -> Fault | None:
        """Return a fault that falls into these bytes; each happens once."""
        for fault in self._faults:
            if fault.name == name and start <= fault.at < start + size:
                self._faults.remove(fault)
                return fault
        return None

    def _flip(self, name: str, start: int, data: bytes) -> bytes:
        flipped = bytearray(data)
        while (fault := self._take(name, start, len(data))) is not None:
            flipped[fault.at - start] ^= 0x10
        return bytes(flipped)

    def _carry(self, size: int) -> None:
        """Let as much time pass as the line needs for this many bytes, in either direction."""
        if not (baud := self._machine.baud):
            return
        now = time.monotonic()
        self._due = max(self._due, now) + size * _BITS_PER_BYTE / baud
        if self._due > now:
            time.sleep(self._due - now)
