# SPDX-License-Identifier: Apache-2.0
"""How commands show their help."""

from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose usage line says FILE where Typer would say {FILE}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


def examples(*lines: str) -> str:
    """Return the end of a help page, which is not wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
