# SPDX-License-Identifier: Apache-2.0
"""The run of a CI system that this process belongs to, as that system's variables name it.

Nothing here proves anything: whoever starts a process chooses its environment. It helps people who
read a log, and it is never judged. Only the variables in the table are read, so that no secret of
the environment can get into a log.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.receipts.fit import cut

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_VALUE: Final = 256
"""Bytes of one value: an address of a run has some 80."""
_LOGIN: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


class _System(NamedTuple):
    """A CI system.

    Args:
        name: its name in the log.
        mark: the variable that only this system sets.
        url: how its variables make the address of the run.
        others: the variables of further facts, by the facts' names.
    """

    name: str
    mark: str
    url: str
    others: Mapping[str, str]


_SYSTEMS: Final = (
    # The first two also set the variables of GitHub.
    _System(
        "forgejo",
        "FORGEJO_ACTIONS",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_NUMBER}",
        {"commit": "GITHUB_SHA", "ref": "GITHUB_REF", "actor": "GITHUB_ACTOR"},
    ),
    _System(
        "gitea",
        "GITEA_ACTIONS",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_NUMBER}",
        {"commit": "GITHUB_SHA", "ref": "GITHUB_REF", "actor": "GITHUB_ACTOR"},
    ),
    _System(
        "github",
        "GITHUB_ACTIONS",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        {
            "attempt": "GITHUB_RUN_ATTEMPT",
            "commit": "GITHUB_SHA",
            "ref": "GITHUB_REF",
            "actor": "GITHUB_ACTOR",
            "workflow": "GITHUB_WORKFLOW_REF",
        },
    ),
    _System(
        "gitlab",
        "GITLAB_CI",
        "{CI_JOB_URL}",
        {
            "pipeline": "CI_PIPELINE_URL",
            "commit": "CI_COMMIT_SHA",
            "ref": "CI_COMMIT_REF_NAME",
            "actor": "GITLAB_USER_LOGIN",
        },
    ),
    _System(
        "jenkins", "JENKINS_URL", "{BUILD_URL}", {"commit": "GIT_COMMIT", "ref": "BRANCH_NAME"}
    ),
    _System(
        "buildkite",
        "BUILDKITE",
        "{BUILDKITE_BUILD_URL}",
        {"commit": "BUILDKITE_COMMIT", "ref": "BUILDKITE_BRANCH"},
    ),
    _System(
        "azure",
        "TF_BUILD",
        "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
        {"commit": "BUILD_SOURCEVERSION", "ref": "BUILD_SOURCEBRANCH"},
    ),
    _System(
        "circleci",
        "CIRCLECI",
        "{CIRCLE_BUILD_URL}",
        {"commit": "CIRCLE_SHA1", "ref": "CIRCLE_BRANCH", "actor": "CIRCLE_USERNAME"},
    ),
    _System(
        "woodpecker",
        "CI_PIPELINE_FORGE_URL",
        "{CI_PIPELINE_URL}",
        {"commit": "CI_COMMIT_SHA", "ref": "CI_COMMIT_REF"},
    ),
)


def ci_run(environment: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Return the facts of the CI run that this process belongs to; None outside of one.

    Every value is one line of printable text, at most `MAX_VALUE` bytes, and an address has no
    user and no password in it.

    Args:
        environment: the variables; None for those of this process.
    """
    given = os.environ if environment is None else environment
    system = next((one for one in _SYSTEMS if given.get(one.mark)), None)
    if system is None:
        return None
    url = re.sub(r"\{(\w+)\}", lambda name: given.get(name[1], ""), system.url)
    found = {"url": url, **{fact: given.get(name, "") for fact, name in system.others.items()}}
    return {"system": system.name, **{fact: _line(text) for fact, text in found.items() if text}}


def _line(text: str) -> str:
    """Return a value without a login, escaped and cut."""
    plain = _LOGIN.sub(r"\1", text)
    shown = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in plain)
    return cut("".join(shown), MAX_VALUE)
