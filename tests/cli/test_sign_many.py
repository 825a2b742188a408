"""`fwsign sign` of many files: the work grows with their number."""

import os
from pathlib import Path
from typing import Any

import pytest

from cli.kit import refused, run
from fwsign.cli.sign import existing


def test_each_file_is_looked_at_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.bin" for number in range(100)]
    for file in files:
        file.write_bytes(b"x")
    seen: list[Any] = []
    whole = Path.stat

    def counted(path: Path, **more: Any) -> os.stat_result:
        seen.append(path)
        return whole(path, **more)

    monkeypatch.setattr(Path, "stat", counted)
    existing.check([Path(f"{file}.suit") for file in files], files, force=False)
    assert 100 <= len(seen) <= 100 * 8


@pytest.mark.usefixtures("project")
def test_an_input_under_another_name_is_not_replaced() -> None:
    os.link("build.bin", "other.suit")
    refused(
        run("sign", "build.bin", "--output", "other.suit", "--force"),
        2,
        "other.suit would replace build.bin, which is read",
        "--output names another",
    )
