"""What tests of following share: a server with files, and a place where channels are published."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.channel_place import Place
from gateway.follow_kit import Follower
from gateway.server import Server, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def place(follower: Follower, tmp_path: Path) -> Place:
    """A folder with releases and channels, which the module's own follower looks at."""
    return Place(tmp_path / "place", follower)
