"""One PKI for all tests of stores: making it is most of their time."""

import importlib.util

import pytest

from fwsign.publish import writing
from publish_kit import Scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE", (0.0, 0.01))
    if importlib.util.find_spec("urllib3"):
        monkeypatch.setattr("fwsign.publish.registry_upload.PART", 4 << 20)
