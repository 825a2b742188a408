"""A folder as a store."""

from pathlib import Path

import pytest

from fwsign.publish.folder import FolderStore
from publish.contract import Contract


class TestFolder(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FolderStore:
        return FolderStore(tmp_path / "served" / "x1")
