# SPDX-License-Identifier: Apache-2.0
"""Published example keys."""

EXAMPLE_SPKI: frozenset[str] = frozenset()
