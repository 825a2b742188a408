"""One PostgreSQL server for all questions, and a store of each kind, as for the collector."""

from collect.conftest import postgres, store

__all__ = ["postgres", "store"]
