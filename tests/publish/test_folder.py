"""A folder as a store."""

from pathlib import Path

import pytest

from fwsign.publish.folder import Folder
from publish.contract import Contract


class TestFolder(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path / "served" / "x1")
