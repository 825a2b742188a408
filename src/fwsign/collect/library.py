# SPDX-License-Identifier: Apache-2.0
"""The libraries of the collector, which are in an extra."""

from importlib.util import find_spec

from fwsign.errors import Failed


def need_libraries() -> None:
    """Refuse to begin if the libraries of the collector's server are not there.

    Raises:
        Failed: `state.library`.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise Failed(
            "state.library",
            f"the collector needs {' and '.join(missing)}, which is not installed",
            expected="starlette and uvicorn",
            found="none",
            hint="pip install 'fwsign[collect]'",
        )
