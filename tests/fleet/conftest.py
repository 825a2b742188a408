"""One PostgreSQL server for all questions, as for the collector."""

from collect.conftest import postgres

__all__ = ["postgres"]
