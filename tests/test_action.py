"""action.yml: its steps are run here, by bash, with a wheel of this source."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.kit import REPOSITORY, good
from fwsign.documents.recognise import recognise
from support import require_package, require_program
from workflow_kit import Job, environment, wheel, yaml

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its steps are for bash")
PASSPHRASE = "correct horse battery staple"
SBOM = '{"spdxVersion": "SPDX-2.3"}'


@pytest.fixture(scope="module")
def action() -> Any:
    require_package("yaml")
    return yaml((REPOSITORY / "action.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, action: Any) -> Path:
    """The place where the first step has installed fwsign; the other steps find it there."""
    require_program("bash")
    place = tmp_path_factory.mktemp("runner")
    job = Job(place, place)
    only = {**action, "runs": {"steps": action["runs"]["steps"][:1]}, "outputs": {}}
    package = str(wheel(tmp_path_factory.mktemp("wheel")))
    status = job.use(only, {"files": "x", "package": package})
    assert (status, job.log) == (0, job.log)
    assert "fwsign 0." in job.log, job.log
    return place


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as docs/ci.md describes it, with an encrypted key and no PKI."""
    require_program("git")
    pki, place = (tmp_path_factory.mktemp(name) for name in ("ca", "repository"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEY_PASS", PASSPHRASE)
        names = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1")
        good("init", pki, *names, "--pass", "env:KEY_PASS")
    (place / "keys").mkdir()
    source = pki / "pki"
    chain = [source / name for name in ("issued/release.crt", "issued/issuing.crt", "ca.crt")]
    for name, parts in (
        ("chain.pem", chain),
        ("root.crt", [source / "ca.crt"]),
        ("crls.pem", [source / "crl/ca.pem", source / "crl/issuing.pem"]),
        ("release.key", [source / "private/release.key"]),
    ):
        (place / "keys" / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    (place / "fwsign.toml").write_text(
        'vendor = "acme.example"\nproduct = "x1"\nkey = "keys/release.key"\n'
        'chain = "keys/chain.pem"\n'
    )
    for arguments in (
        ("init", "--quiet"),
        ("add", "."),
        ("-c", "user.name=A", "-c", "user.email=a@a.example", "commit", "--quiet", "-m", "a"),
    ):
        subprocess.run(("git", *arguments), cwd=place, check=True)
    return place


@pytest.fixture
def job(installed: Path, repository: Path) -> Job:
    """A job with two builds, one of which has a space in its directory."""
    for name in ("one.bin", "two.bin"):
        (repository / "out dir").mkdir(exist_ok=True)
        (repository / "out dir" / name).write_bytes(name.encode())
    (repository / "sbom.json").write_text(SBOM)
    for path in repository.rglob("*.suit"):
        path.unlink()
    return Job(repository, installed)


INPUTS = {"files": "out dir/*.bin", "anchor": "keys/root.crt", "crl": "keys/crls.pem"}
REST: Any = {"env": {"FWSIGN_PASS": PASSPHRASE}, "without": ("Install fwsign",)}


def test_files_are_signed_verified_and_kept(job: Job, action: Any) -> None:
    assert job.use(action, {**INPUTS, "artifact": "signed"}, **REST) == 0, job.log
    assert job.outputs["envelopes"] == "out dir/one.bin.suit\nout dir/two.bin.suit"
    told = json.loads(Path(job.outputs["json"]).read_text())
    assert [one["result"] for one in told["envelopes"]] == ["signed", "signed"]
    assert job.log.count("verified  out dir/") == 2
    ((name, paths),) = job.uploads
    assert name == "signed"
    assert sorted(paths) == sorted(
        f"out dir/{one}.bin{end}" for one in ("one", "two") for end in ("", ".suit")
    )
    assert PASSPHRASE not in job.log


def test_a_second_run_changes_nothing(job: Job, action: Any) -> None:
    assert job.use(action, INPUTS, **REST) == 0, job.log
    before = {path: path.read_bytes() for path in job.directory.rglob("*.suit")}
    without_key = {**REST, "env": {}}
    assert job.use(action, INPUTS, **without_key) == 0, job.log
    assert {path: path.read_bytes() for path in job.directory.rglob("*.suit")} == before
    assert job.uploads == []
    assert '"result": "unchanged"' in job.log


def test_one_envelope_with_everything(job: Job, action: Any) -> None:
    more = {
        "output": "out dir/all.suit",
        "attach": "sbom.json\n",
        "arguments": "--embed-attachments\n--class=security\n--advisory=CVE-2026-1",
        "version": "2.4.1",
        "sequence": "7",
        "artifact": "a",
    }
    assert job.use(action, {**INPUTS, **more}, **REST) == 0, job.log
    told = json.loads(Path(job.outputs["json"]).read_text())
    (one,) = told["envelopes"]
    assert (one["sequence_number"], one["version"], one["class"]) == (7, "2.4.1", "security")
    assert one["attachments"][0]["name"] == "sbom.json"
    assert job.outputs["envelopes"] == "out dir/all.suit"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"files": "absent.bin"}, 2, "::error::files: nothing is called absent.bin"),
        ({"files": "absent/*"}, 2, "::error::files: nothing is called absent/*"),
        ({"files": "\n"}, 2, "::error::files: none were named"),
        ({"arguments": "--force\n/etc/passwd"}, 2, "not an option with its value: /etc/passwd"),
        ({"arguments": "-f"}, 2, "not an option with its value: -f"),
        ({"key": "gcpkms:x"}, 5, "no key backend for"),
        ({"product": "$(touch pwned)"}, 2, "is not a name"),
        ({"files": "$(touch pwned)"}, 2, "nothing is called $(touch pwned)"),
        ({"files": "--force"}, 2, "nothing is called --force"),
    ],
)
def test_inputs_are_data(
    job: Job, action: Any, change: dict[str, str], status: int, words: str
) -> None:
    found = job.use(action, {**INPUTS, **change}, **REST)
    assert (found, words in job.log) == (status, True), job.log
    assert not (job.directory / "pwned").exists()
    assert not list(job.directory.rglob("*.suit"))


def test_a_wrong_passphrase_is_a_failure_that_programs_can_read(job: Job, action: Any) -> None:
    rest = {**REST, "env": {"FWSIGN_PASS": "wrong"}}
    assert job.use(action, INPUTS, **rest) == 5
    assert '"code": "key.passphrase"' in job.log
    assert not list(job.directory.rglob("*.suit"))


def test_what_a_device_refuses_fails(job: Job, action: Any) -> None:
    other = job.directory / "other.crt"
    other.write_bytes((REPOSITORY / "keys.example/ca.crt").read_bytes())
    assert job.use(action, {**INPUTS, "anchor": "other.crt"}, **REST) == 1
    assert "verified  " not in job.log


FILES = sorted([REPOSITORY / "action.yml", *(REPOSITORY / ".github/workflows").glob("*.yml")])


def test_there_are_workflows() -> None:
    assert {path.name for path in FILES} >= {"action.yml", "ci.yml", "release.yml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestForm:
    def steps(self, path: Path) -> list[dict[str, Any]]:
        require_package("yaml")
        content = yaml(path.read_text(encoding="utf-8"))
        jobs = content["jobs"].values() if "jobs" in content else [content["runs"]]
        return [step for job in jobs for step in job["steps"]]

    def test_no_script_has_an_expression(self, path: Path) -> None:
        """What an expression gives becomes part of the script, whatever it is."""
        assert [step for step in self.steps(path) if "${{" in step.get("run", "")] == []

    def test_actions_are_pinned(self, path: Path) -> None:
        used = [step["uses"] for step in self.steps(path) if "uses" in step]
        assert used
        loose = [
            one for one in used if one != "./" and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)
        ]
        assert loose == []

    def test_every_pin_says_its_version(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if "uses: " in line and "./" not in line]
        assert [line for line in lines if not re.search(r" # v\d+\.\d+\.\d+$", line)] == []

    def test_bash_can_read_the_scripts(self, path: Path) -> None:
        bash = require_program("bash")
        for step in self.steps(path):
            if "run" in step:
                found = subprocess.run(
                    (bash, "-n"), input=step["run"], text=True, capture_output=True, check=False
                )
                assert (found.returncode, found.stderr) == (0, "")

    def test_jobs_have_no_rights_that_they_do_not_name(self, path: Path) -> None:
        require_package("yaml")
        content = yaml(path.read_text(encoding="utf-8"))
        if "jobs" in content:
            assert content["permissions"] == {}
            for job in content["jobs"].values():
                assert "permissions" in job or "uses" not in str(job["steps"])


PAGE = (REPOSITORY / "docs/ci.md").read_text(encoding="utf-8")


def block(language: str, mark: str) -> str:
    """Return the block of docs/ci.md with a mark in it."""
    found = [one for one in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if mark in one]
    assert len(found) == 1
    return str(found[0])


def script_of(name: str) -> str:
    """Return the shell script of a snippet."""
    if name == "GitLab":
        require_package("yaml")
        return "\n".join(yaml(block("yaml", "id_tokens"))["sign"]["script"])
    found = re.search(r"sh '''\n(.*?)'''", block("groovy", "withCredentials"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["GitLab", "Jenkins"])
def test_the_scripts_of_the_page_run(
    installed: Path, repository: Path, tmp_path: Path, name: str
) -> None:
    """All lines but the two that install fwsign, which is there already."""
    bash = require_program("bash")
    clone = tmp_path / "clone"
    shutil.copytree(repository, clone)
    (clone / "build").mkdir()
    for file in ("a.bin", "b.bin"):
        (clone / "build" / file).write_bytes(file.encode())
    (clone / ".fwsign").symlink_to(installed / "fwsign")
    own = {"FWSIGN_PASS": PASSPHRASE}
    script = script_of(name)
    for line in ("python3 -m venv .fwsign", ".fwsign/bin/pip install --quiet fwsign==0.1.0"):
        assert f"{line}\n" in script
        script = script.replace(line, "true")
    if name == "Jenkins":  # its credentials name the file of the key
        own["FWSIGN_KEY"] = str(clone / "keys/release.key")
        text = (clone / "fwsign.toml").read_text()
        (clone / "fwsign.toml").write_text(text.replace("keys/release.key", "absent"))
    else:  # the key in a file stands in for that of a service, which needs no passphrase
        script = script.replace(" --json", " --pass env:FWSIGN_PASS --json")
    found = subprocess.run(
        (bash, "-eo", "pipefail", "-c", script),
        cwd=clone,
        env={**environment(tmp_path, tmp_path), **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found
    told = json.loads((clone / "fwsign.json").read_text())
    assert [one["envelope"] for one in told["envelopes"]] == [
        "build/a.bin.suit",
        "build/b.bin.suit",
    ]
    assert found.stdout.count("verified  build/") == 2


def test_the_yaml_of_the_page_is_that_of_the_action() -> None:
    require_package("yaml")
    inputs = yaml((REPOSITORY / "action.yml").read_text(encoding="utf-8"))["inputs"]
    steps = yaml(block("yaml", "environment: release  "))["jobs"]["sign"]["steps"]
    (own,) = [
        step for step in steps if step["uses" if "uses" in step else "id"].startswith("OWNER")
    ]
    assert own["with"].keys() <= inputs.keys()
    others = [step["uses"] for step in steps if "uses" in step and step is not own]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in others)
    assert [step for step in steps if "${{" in step.get("run", "")] == []


def test_the_bill_of_materials_names_each_file(tmp_path: Path) -> None:
    """The digests are those of the files, and the same files give the same bytes."""
    (tmp_path / "fwsign.pyz").write_bytes(b"program")
    (tmp_path / "old.suit").write_bytes(b"an envelope")
    command = (sys.executable, str(REPOSITORY / "packaging/sbom"), str(tmp_path))
    made = []
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
        made.append((tmp_path / "fwsign.cdx.json").read_bytes())
    assert made[0] == made[1]
    bill = json.loads(made[0])
    (file,) = [one for one in bill["components"] if one["type"] == "file"]
    assert file["name"] == "fwsign.pyz"
    assert file["hashes"][0]["content"] == hashlib.sha256(b"program").hexdigest()
    names = {one["name"] for one in bill["components"]}
    assert {"cryptography", "typer", "shellingham", "annotated-doc"} <= names
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(set(references)) == len(references)
    assert sorted(references) == bill["dependencies"][0]["dependsOn"]
    document = recognise(made[0])
    assert document is not None
    assert document.media_type == "application/vnd.cyclonedx+json"
