# SPDX-License-Identifier: Apache-2.0
"""A port that pyserial opens: serial, TCP or RFC 2217. Its errors become `Failed`."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed

if TYPE_CHECKING:
    from serial import Serial

_ERRNO: Final = re.compile(r"(?:\[Errno -?\d+\] |\(-?\d+, ')([^:'\]]+)")
_WRITE_TIMEOUT: Final = 10.0  # seconds; a port that takes nothing for this long is dead


class Port:
    """An open port.

    Args:
        url: a device path, `COM5`, `socket://host:port` or `rfc2217://host:port`.
        baud: bit/s; of no effect on a socket.
        timeout: seconds after which `read` returns what there is.

    Raises:
        Failed: `device.port`: it cannot be opened; `device.support`: pyserial is not there.
    """

    def __init__(self, url: str, baud: int, timeout: float) -> None:
        try:
            import serial  # only where a board is flashed
        except ImportError:
            raise missing("pyserial") from None
        self.url = url
        self._errors = (OSError, serial.SerialException, ValueError)
        try:
            self._serial: Serial = serial.serial_for_url(
                url, baudrate=baud, timeout=timeout, write_timeout=_WRITE_TIMEOUT, exclusive=True
            )
        except self._errors as error:
            reason = why(error)
            raise Failed(
                "device.port", f"cannot open {url}: {reason}", expected="a port", found=reason
            ) from error

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer after the timeout.

        Raises:
            Failed: `device.lost`.
        """
        try:
            return bytes(self._serial.read(size))
        except self._errors as error:
            raise self._lost(error) from error

    def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            Failed: `device.lost`.
        """
        try:
            self._serial.write(data)
            self._serial.flush()
        except self._errors as error:
            raise self._lost(error) from error

    def drop_input(self) -> None:
        """Discard unread input.

        Raises:
            Failed: `device.lost`.
        """
        try:
            self._serial.reset_input_buffer()
        except self._errors as error:
            raise self._lost(error) from error

    def set_timeout(self, seconds: float) -> None:
        """Set the timeout of `read`."""
        self._serial.timeout = seconds

    def low_latency(self) -> None:
        """Ask a USB adapter to pass on each byte at once, if it supports that."""
        with contextlib.suppress(AttributeError, NotImplementedError, *self._errors):
            self._serial.set_low_latency_mode(True)

    def touch(self) -> None:
        """Set DTR low, which with 1200 bit/s means "enter the boot loader"."""
        with contextlib.suppress(*self._errors):
            self._serial.dtr = False

    def close(self) -> None:
        """Close the port."""
        # pyserial leaves a socket open if the other end has closed it first.
        connection = getattr(self._serial, "_socket", None)
        with contextlib.suppress(*self._errors):
            self._serial.close()
        if connection is not None:
            connection.close()

    def _lost(self, error: Exception) -> Failed:
        reason = why(error)
        return Failed("device.lost", f"the connection over {self.url} was lost: {reason}")


INSTALL: Final = (
    'pipx install --force "fwsign[flash]"; in an environment: pip install "fwsign[flash]"'
)


def missing(package: str) -> Failed:
    """Return the refusal for a package that is not installed."""
    return Failed(
        "device.support",
        f"{package} is not installed",
        expected=package,
        found="nothing",
        hint=INSTALL,
    )


def why(error: BaseException) -> str:
    """Return the operating system's words in an error of pyserial, without the port's name."""
    text = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
    if "exclusively lock" in text:
        return "another program is using it"
    if (found := _ERRNO.search(text)) is not None:
        return found[1].lower()
    return text[:200].rstrip(".") or type(error).__name__
