"""The lines of the log about releases, trust updates and native signatures."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fwsign.errors import Failed, Tampered
from fwsign.pki.ci_run import MAX_VALUE, ci_run
from fwsign.pki.log import (
    ELSEWHERE,
    FILE,
    Origin,
    Signature,
    log_signature,
    log_signatures,
    read_log,
    user,
    verify_log,
)
from pki_kit import NOW, make
from support import for_child

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "acme/firmware",
    "GITHUB_RUN_ID": "1234567890",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": "ab" * 20,
    "GITHUB_REF": "refs/tags/v2.4.1",
    "GITHUB_ACTOR": "alice",
    "GITHUB_WORKFLOW_REF": "acme/firmware/.github/workflows/release.yml@refs/tags/v2.4.1",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
}


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "GITEA_ACTIONS", "FORGEJO_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def signature(name: str = "build.bin.suit", **facts: object) -> Signature:
    return Signature("release", name, "ab" * 32, "cd" * 32, "pkcs11:token=t;object=k", facts)


def test_a_line_says_who_when_what_and_with_which_key(tmp_path: Path) -> None:
    file = tmp_path / FILE
    log_signature(file, signature(product="x1", sequence_number=7), NOW)
    [line] = read_log(file)
    assert dict(line.content) | {"fwsign": None} == {
        "kind": "release",
        "clock": NOW.isoformat(),
        "who": user(),
        "name": "build.bin.suit",
        "sha256": "ab" * 32,
        "key": "cd" * 32,
        "place": "pkcs11:token=t;object=k",
        "product": "x1",
        "sequence_number": 7,
        "previous": None,
        "fwsign": None,
    }


def test_facts_cannot_take_the_place_of_what_was_signed(tmp_path: Path) -> None:
    file = tmp_path / FILE
    log_signature(file, signature(kind="crl", who="eve", sha256="00", clock="never"), NOW)
    [line] = read_log(file)
    assert line.content["kind"] == "release"
    assert line.content["who"] == user()
    assert line.content["sha256"] == "ab" * 32
    assert line.content["clock"] == NOW.isoformat()


def test_many_lines_go_with_one_sync_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def sync(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    file = tmp_path / FILE
    log_signatures(file, [signature(f"{number}.suit") for number in range(1000)], NOW)
    assert len(synced) == 2  # the file, and the directory of a new file
    log_signatures(file, [signature("a"), signature("b")], NOW)
    assert len(synced) == 3
    assert [one.content["name"] for one in read_log(file)] == [
        *(f"{number}.suit" for number in range(1000)),
        *("a", "b"),
    ]


def test_they_stand_in_the_chain_of_the_pki(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    before = verify_log(pki)
    log_signature(pki / FILE, signature(), NOW)
    after = verify_log(pki, head=before.head)
    assert (after.receipts, after.since) == (before.receipts + 1, 1)


def test_who_and_the_place_of_a_signature_from_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / FILE
    one = signature()._replace(kind="attach", place=ELSEWHERE)
    log_signature(file, one, NOW + timedelta(1), origin=Origin("alice"))
    [line] = read_log(file)
    assert (line.content["who"], line.content["place"]) == ("alice", "elsewhere")


def test_texts_too_long_for_a_line_are_cut(tmp_path: Path) -> None:
    file = tmp_path / FILE
    log_signature(file, signature("x" * 100_000, surrogate="\udcff", many=["y" * 900] * 90), NOW)
    [line] = read_log(file)
    assert line.content["name"].endswith("[cut, 100000 bytes]")
    assert line.content["surrogate"] == "\\udcff"
    assert len(json.dumps(line.content)) < 64 * 1024


def test_a_part_of_a_line_that_a_kill_left_is_no_line(tmp_path: Path) -> None:
    file = tmp_path / FILE
    log_signatures(file, [signature("a"), signature("b")], NOW)
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole)):
        file.write_bytes(whole[:end])
        assert verify_log(file).receipts == (2 if end == len(whole) - 1 else 1)
    file.write_bytes(whole[:-10])
    log_signature(file, signature("c"), NOW)
    assert [one.content["name"] for one in read_log(file)] == ["a", "c"]


def test_a_lost_or_changed_end_shows_against_a_head(tmp_path: Path) -> None:
    file = tmp_path / FILE
    log_signatures(file, [signature(one) for one in "abc"], NOW)
    head = str(verify_log(file).head)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]))
    with pytest.raises(Tampered, match="none of 2 receipts is the head") as found:
        verify_log(file, head)
    assert found.value.code == "tampered.receipt-head"
    file.write_text("".join([*lines[:1], lines[1].replace('"b"', '"B"'), lines[2]]))
    with pytest.raises(Tampered) as found:
        verify_log(file)
    assert found.value.code == "tampered.receipt-chain"


def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "fwsign.toml"
    file.write_text("vendor = 1\n")
    with pytest.raises(Failed) as found:
        log_signature(file, signature(), NOW)
    assert found.value.code == "io.format"
    assert file.read_text() == "vendor = 1\n"


CHILD = """
import sys
from pathlib import Path
from datetime import UTC, datetime
from fwsign.pki.log import Signature, log_signature
for number in range(40):
    one = Signature("release", f"{sys.argv[2]}-{number}", "ab" * 32, "cd" * 32, "k")
    log_signature(Path(sys.argv[1]), one, datetime.now(UTC))
"""


def test_writers_at_the_same_time_keep_the_chain_whole(tmp_path: Path) -> None:
    file = tmp_path / FILE
    running = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(file), name], env=for_child())
        for name in "abc"
    ]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    names = [one.content["name"] for one in read_log(file)]
    assert len(names) == 120
    for name in "abc":  # each writer's own lines are in order
        own = [one for one in names if one.startswith(name)]
        assert own == [f"{name}-{number}" for number in range(40)]


# --- the CI run -----------------------------------------------------------------------------


def test_outside_of_ci_there_is_no_run() -> None:
    assert ci_run({"GITHUB_RUN_ID": "1", "CI_JOB_URL": "x", "PATH": "/bin"}) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            GITHUB,
            {
                "system": "github",
                "url": "https://github.example/acme/firmware/actions/runs/1234567890",
                "attempt": "2",
                "commit": "ab" * 20,
                "ref": "refs/tags/v2.4.1",
                "actor": "alice",
                "workflow": GITHUB["GITHUB_WORKFLOW_REF"],
            },
        ),
        (
            {**GITHUB, "GITEA_ACTIONS": "true", "GITHUB_RUN_NUMBER": "8"},
            {
                "system": "gitea",
                "url": "https://github.example/acme/firmware/actions/runs/8",
                "commit": "ab" * 20,
                "ref": "refs/tags/v2.4.1",
                "actor": "alice",
            },
        ),
        (
            {
                "GITLAB_CI": "true",
                "CI_JOB_URL": "https://lab.example/a/-/jobs/7",
                "CI_PIPELINE_URL": "https://lab.example/a/-/pipelines/3",
                "CI_JOB_TOKEN": "secret",
            },
            {
                "system": "gitlab",
                "url": "https://lab.example/a/-/jobs/7",
                "pipeline": "https://lab.example/a/-/pipelines/3",
            },
        ),
        (
            {"JENKINS_URL": "https://ci/", "BUILD_URL": "https://ci/job/fw/12/"},
            {"system": "jenkins", "url": "https://ci/job/fw/12/"},
        ),
        (
            {"BUILDKITE": "true", "BUILDKITE_BUILD_URL": "https://b.example/1"},
            {"system": "buildkite", "url": "https://b.example/1"},
        ),
        (
            {
                "TF_BUILD": "True",
                "SYSTEM_COLLECTIONURI": "https://dev.example/acme/",
                "SYSTEM_TEAMPROJECT": "fw",
                "BUILD_BUILDID": "9",
            },
            {"system": "azure", "url": "https://dev.example/acme/fw/_build/results?buildId=9"},
        ),
    ],
)
def test_the_run_is_named(given: dict[str, str], expected: dict[str, str]) -> None:
    assert ci_run(given) == expected


def test_a_value_is_bounded_escaped_and_without_a_login() -> None:
    found = ci_run(
        {
            "JENKINS_URL": "x",
            "BUILD_URL": "https://bob:hunter2@ci.example/job\n\x1b[31m\u202e",
            "BRANCH_NAME": "b" * 1000,
            "GIT_COMMIT": "\udcff",
        }
    )
    assert found is not None
    assert found["url"] == "https://ci.example/job\\n\\x1b[31m\\u202e"
    assert len(found["ref"].encode()) <= MAX_VALUE
    assert found["commit"] == "\\udcff"


def test_the_run_of_this_process_is_in_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / FILE
    log_signature(file, signature(), NOW)
    [line] = read_log(file)
    assert line.content["run"] == ci_run(GITHUB)
    assert "secret" not in file.read_text()
