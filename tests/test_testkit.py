"""The vectors in vectors/, run by nothing but their files; and made again, to the byte."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import CODES
from support import for_child
from testkit.every import CHANNELS, PERMITS, RELEASES, UPDATES
from testkit.make import TOP, pack
from testkit.read import Bytes, run
from testkit.written import FORMAT

VECTORS = Path(__file__).parent.parent / "vectors"
FILES = sorted(VECTORS.glob("*/*.json"))
DOCUMENTS = {
    path.relative_to(VECTORS).with_suffix("").as_posix(): json.loads(
        path.read_text(encoding="utf-8")
    )
    for path in FILES
}

NOT_FROM_A_VERIFIER = {
    "malformed.image",
    "tampered.release",  # what a channel names, and what lies there
    "unsuitable.rollout",
    "malformed.receipt",
    "tampered.receipt-chain",
    "tampered.receipt-head",
    "tampered.staged",
    "untrusted.receipt",
    "malformed.trust",
    "malformed.device-data",
    "malformed.document",
    "tampered.native",
    "tampered.content-key",  # these three need a key that opens a payload
    "tampered.plaintext",
    "unsuitable.recipient",
    "untrusted.native-key",
    "unsuitable.name",
    "unsuitable.permit-used",  # a memory knows it
    "unsuitable.security-version",
    "unsuitable.attachment",
    "unsuitable.bootable",
    "unsuitable.chip",
    "unsuitable.device-data",
    "unsuitable.epoch",
    "unsuitable.failed-before",
    "unsuitable.trust-gap",
    "unsuitable.flash-mode",
    "unsuitable.flash-size",
    "unsuitable.locked",
    "unsuitable.partition",
    "unsuitable.payload",
    "unsuitable.region",
    "unsuitable.revision",
    "unsuitable.target",
    "unsuitable.trial",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_vector(name: str) -> None:
    document = DOCUMENTS[name]
    assert run(document, Bytes(VECTORS)) == document["expected"], document["says"]


def test_all_are_found() -> None:
    kinds = Counter(document["kind"] for document in DOCUMENTS.values())
    assert kinds == {
        "release": len(RELEASES),
        "channel": len(CHANNELS),
        "permit": len(PERMITS),
        "trust": len(UPDATES),
    }
    assert kinds["release"] >= 332
    assert kinds["channel"] >= 38
    assert kinds["permit"] >= 53
    assert kinds["trust"] >= 21
    for name, document in DOCUMENTS.items():
        assert document["format"] == FORMAT
        assert f"{document['kind']}/{document['name']}" == name


def test_each_says_what_it_shows_in_words_of_its_own() -> None:
    said = Counter((one["kind"], one["says"]) for one in DOCUMENTS.values())
    assert [words for words, count in said.items() if count > 1] == []
    assert [words for _, words in said if words.startswith("the same")] == []


def test_the_readme_counts_them() -> None:
    verdicts = Counter((one["kind"], one["expected"]["verdict"]) for one in DOCUMENTS.values())
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    counted = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", readme, re.MULTILINE)
    assert counted == [
        (
            kind,
            str(good := verdicts[kind, "accepted"]),
            str(bad := verdicts[kind, "refused"]),
            str(good + bad),
        )
        for kind in ("release", "channel", "permit", "trust")
    ]


def test_the_readme_counts_the_steps() -> None:
    steps = Counter(vector.expected.get("step", 0) for vector in RELEASES)
    counted = " | ".join(str(steps[step]) for step in (*range(1, 11), None))
    assert f"\n| `release` | {counted} |\n" in (VECTORS / "README.md").read_text(encoding="utf-8")


def test_every_member_is_described() -> None:
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    given: set[str] = set()
    for document in DOCUMENTS.values():
        for part in (document, document["expected"], *(document.get(key, {}) for key in PARTS)):
            given |= part.keys()
    assert {member for member in given if f"`{member}`" not in readme} == set()


PARTS = ("device", "policy", "list")


def test_the_codes_are_listed_with_their_meaning() -> None:
    expected = {document["expected"].get("code") for document in DOCUMENTS.values()} - {None}
    listed = json.loads((VECTORS / "codes.json").read_text(encoding="utf-8"))
    assert listed == {code: CODES[code] for code in CODES if code in expected}


def test_every_step_and_code_of_the_verifier_has_a_vector() -> None:
    every = [one.expected for one in RELEASES]
    every += [one.expected for one in CHANNELS]
    every += [one.expected for one in PERMITS]
    refusals = [one for one in every if one["verdict"] == "refused"]
    assert {one["step"] for one in refusals} - {None} == set(range(1, 11))
    reachable = {
        code
        for code in CODES
        if code.split(".", maxsplit=1)[0]
        in ("malformed", "tampered", "untrusted", "stale", "unsuitable")
    }
    codes = Counter(one["code"] for one in refusals)
    assert reachable - codes.keys() == NOT_FROM_A_VERIFIER


def test_expectations_are_those_that_people_wrote() -> None:
    written = {f"release/{one.name}": one.expected for one in RELEASES}
    written |= {f"channel/{one.name}": one.expected for one in CHANNELS}
    written |= {f"permit/{one.name}": one.expected for one in PERMITS}
    written |= {f"trust/{one.name}": one.expected for one in UPDATES}
    assert written.keys() == DOCUMENTS.keys()
    for name, expected in written.items():
        found: dict[str, Any] = DOCUMENTS[name]["expected"]
        assert {key: found[key] for key in expected} == expected


def test_made_again_they_are_the_same_bytes(tmp_path: Path) -> None:
    """Other tests of this process have keys by chance, so that another one makes them."""
    command = (sys.executable, "-m", "testkit.make", str(tmp_path / "again"))
    environment = for_child() | {"PYTHONHASHSEED": "random"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    published, again = contents(VECTORS), contents(tmp_path / "again")
    assert b"NOT FOR PRODUCTION" in published.pop("README.md")
    assert again.keys() == published.keys()
    changed = [name for name in published if again[name] != published[name]]
    assert changed == [], "run `make vectors`, and look at what changed"


def test_the_archive_has_them_all_and_is_the_same_each_time(tmp_path: Path) -> None:
    archives = [tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"]
    copy = shutil.copytree(VECTORS, tmp_path / "copy", copy_function=shutil.copyfile)
    for folder, archive in zip((VECTORS, copy), archives, strict=True):
        pack(folder, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        names = tar.getnames()
        assert {(one.uid, one.gid, one.mtime, one.mode) for one in tar} == {(0, 0, 0, 0o644)}
    expected = {f"{TOP}/{name}" for name in contents(VECTORS)}
    assert names == sorted({*expected, f"{TOP}/format.md"})


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in VECTORS.rglob("*") if path.is_file()) < 2_500_000
