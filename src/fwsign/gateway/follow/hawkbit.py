# SPDX-License-Identifier: Apache-2.0
"""hawkBit's device API (DDI): the server says which release it means, and hears what became of it.

The server decides nothing. It names a deployment with artifacts; of these the envelope is judged as
any other, and so are the owner's rules. A server that lies can delay a release, or show another one
that its vendor signed for this device.

After each poll the server is told what came of an open deployment: that it is installed, that it
was refused with which code, or that it has to wait. What it did not hear it hears after the next
poll, so nothing has to be remembered for it.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable, Untrusted
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.gateway.config.device import Device, Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.config.follow_rules import HAWKBIT
from fwsign.gateway.https.call import CallBody, call
from fwsign.gateway.https.fetch import fetch_bytes
from fwsign.gateway.target.sources import Sources

MAX_ANSWER: Final = 256 * 1024
"""Bytes of one answer of the API."""
MAX_ID: Final = 100
"""Characters of a deployment's id."""
MAX_ARTIFACTS: Final = 256
"""Artifacts of one deployment; a release has fewer components."""
MAX_DETAIL: Final = 500
"""Characters of a message; hawkBit takes 512."""
ENDING: Final = ".suit"
_JSON: Final = "application/json"
_FINAL: Final = (Malformed, Tampered, Untrusted, Unsuitable)
"""The refusals that another try does not change."""
_WAITS: Final = ("skip", "unavailable")
"""What the server says of a deployment that is not to be installed now."""


class Artifact(NamedTuple):
    """A file of a deployment: its name, and its address."""

    name: str
    address: str


class Deployment(NamedTuple):
    """What the server wants installed.

    Args:
        number: its id at the server.
        address: its address, without a query.
        artifacts: its files.
    """

    number: str
    address: str
    artifacts: tuple[Artifact, ...]

    @property
    def tag(self) -> str:
        """A tag of this content, as `fwsign.gateway.follow.places.look` gives one."""
        return sha256(json.dumps(self).encode()).hexdigest()

    def sources(self, rules: FetchRules, tell: Tell) -> Sources:
        """Fetch the envelope, and return it with the places of its payloads.

        A server for RAUC and SWUpdate takes their files alone, and one of them for a deployment.
        Then the envelope is beside it, with its name and `.suit`.

        Raises:
            Malformed: `malformed.size`; Failed: `io.missing`: it has no envelope; `io.fetch-*`.
        """
        envelopes = [one for one in self.artifacts if one.name.endswith(ENDING)]
        others = [one for one in self.artifacts if one not in envelopes]
        if not envelopes and len(others) == 1:
            envelopes = [Artifact(f"{others[0].name}{ENDING}", f"{others[0].address}{ENDING}")]
        if len(envelopes) != 1:
            what = f"deployment {self.number} has {len(envelopes)} files *{ENDING}"
            raise Failed("io.missing", what, expected="one envelope", found=len(envelopes))
        place = envelopes[0].address
        data = fetch_bytes(place, rules, MAX_ENVELOPE_SIZE, tell)
        return Sources(place, tuple(one.address for one in others), rules, tell, data)


class DeploymentOutcome(NamedTuple):
    """What became of a deployment, in the words of the API.

    Args:
        execution: "closed", "proceeding" or "scheduled".
        finished: "success", "failure" or "none".
        details: messages for people.
    """

    execution: str
    finished: str
    details: tuple[str, ...] = ()


class HawkbitDevice(NamedTuple):
    """This device at a server.

    Args:
        address: https://HOST/TENANT/controller/v1/ID.
        rules: the limits of fetching, and the gateway's credentials.
        tell: told of redirects.
    """

    address: str
    rules: FetchRules
    tell: Tell

    @classmethod
    def at(cls, address: str, rules: FetchRules, tell: Tell) -> "HawkbitDevice":
        """Return the device of an address with `HAWKBIT` before it."""
        return cls(address.removeprefix(HAWKBIT).rstrip("/"), rules, tell)

    def deployment(self) -> Deployment | None:
        """Return what the server wants installed now; None if that is nothing.

        Raises:
            Failed: `io.fetch-*`; `io.fetch-protocol`: the answer is not of this API.
        """
        return self._deployment(self._links())

    def tell_server(
        self, outcome: DeploymentOutcome | None, facts: dict[str, str], tag: str | None
    ) -> None:
        """Answer what the server asks: an open deployment, one that it cancels, this device's data.

        Args:
            outcome: what became of the deployment; None if there is nothing to say.
            facts: the device's data.
            tag: the tag of the deployment that was judged. Meanwhile there may be another one, and
                no verdict closes that.

        Raises:
            Failed: as `deployment`.
        """
        links = self._links()
        if (place := links.get("configData")) is not None:
            self._send("PUT", place, {"mode": "merge", "data": facts})
        if (place := links.get("cancelAction")) is not None:
            # Nothing runs between two polls, and what was installed stays: it is always done.
            number = self._number(self._read(place))
            self._feedback(
                number, place, DeploymentOutcome("closed", "success", ("nothing is under way",))
            )
            return
        found = self._deployment(links) if outcome is not None else None
        if found is None or outcome is None:
            return
        if outcome.execution != "closed" or found.tag == tag:
            self._feedback(found.number, found.address, outcome)

    def _deployment(self, links: dict[str, str]) -> Deployment | None:
        place = links.get("deploymentBase")
        if place is None:
            return None
        answer = self._read(place)
        wanted = answer.get("deployment")
        if not isinstance(wanted, dict):
            raise self._strange("a deployment without content")
        if any(wanted.get(one) in _WAITS for one in ("download", "update", "maintenanceWindow")):
            return None
        artifacts = tuple(self._artifacts(wanted))
        return Deployment(self._number(answer), _bare(place), artifacts)

    def _number(self, answer: dict[str, Any]) -> str:
        """Return the id in an answer."""
        found = answer.get("id")
        if not isinstance(found, (str, int)) or not 0 < len(str(found)) <= MAX_ID:
            raise self._strange("no id")
        return str(found)

    def _artifacts(self, wanted: dict[str, Any]) -> Iterator[Artifact]:
        number = 0
        for chunk in _list(wanted, "chunks"):
            for one in _list(chunk, "artifacts"):
                number += 1
                if number > MAX_ARTIFACTS:
                    raise self._strange(f"more than {MAX_ARTIFACTS} artifacts")
                name = one.get("filename") if isinstance(one, dict) else None
                place = _links_of(one).get("download")
                if not isinstance(name, str) or place is None:
                    raise self._strange("an artifact without a name or an address")
                yield Artifact(name, place)

    def _links(self) -> dict[str, str]:
        return _links_of(self._read(self.address))

    def _read(self, place: str) -> dict[str, Any]:
        try:
            found = json.loads(call("GET", place, self.rules, MAX_ANSWER))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._strange("no JSON object")
        return found

    def _feedback(self, number: str, place: str, outcome: DeploymentOutcome) -> None:
        status = {
            "execution": outcome.execution,
            "result": {"finished": outcome.finished},
            "details": [one[:MAX_DETAIL] for one in outcome.details],
        }
        self._send("POST", f"{_bare(place)}/feedback", {"id": number, "status": status})

    def _send(self, method: Any, place: str, content: dict[str, Any]) -> None:
        call(method, place, self.rules, MAX_ANSWER, CallBody(json.dumps(content).encode(), _JSON))

    def _strange(self, found: str) -> Failed:
        what = f"{self.address} does not speak hawkBit's device API: it answers with {found}"
        return Failed("io.fetch-protocol", what, expected="an answer of that API", found=found)


def facts_of(device: Device, version: str) -> dict[str, str]:
    """Return a device's data for the server; gooseBit finds its software by the last three."""
    trust = device.trust
    return {
        "vendor": trust.vendor,
        "product": trust.product,
        "hw_boardname": trust.product,
        "hw_revision": "default",
        "sw_version": version,
    }


def outcome_of(error: FwsignError) -> DeploymentOutcome:
    """Return what a server hears of an error: whether it was a verdict, or will be tried again."""
    said = (f"{error.code}: {error.message}",)
    if isinstance(error, _FINAL):
        return DeploymentOutcome("closed", "failure", said)
    return DeploymentOutcome("proceeding", "none", said)


def _links_of(answer: Any) -> dict[str, str]:
    """Return the addresses in an object's links, by name; `call` refuses all but https."""
    links = answer.get("_links") if isinstance(answer, dict) else None
    found = {}
    for name, one in links.items() if isinstance(links, dict) else ():
        place = one.get("href") if isinstance(one, dict) else None
        if isinstance(place, str):
            found[str(name)] = place
    return found


def _list(answer: Any, key: str) -> list[Any]:
    found = answer.get(key) if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def _bare(place: str) -> str:
    """Return an address without its query: the number of a state, which hawkBit adds."""
    parts = urlsplit(place)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
