"""Whatever is in place of its values, a document is recognised, none, or refused with a code."""

import json
import random
from contextlib import suppress
from typing import Any

import pytest

from documents.test_recognise import BOM, CYCLONEDX, OPENVEX, SPDX, STATEMENT, bundle, dsse
from fwsign.documents.recognise import recognise
from fwsign.errors import Malformed

RELATED = {"relationships": [{"relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-a"}]}
CSAF = {"document": {"category": "csaf_vex", "csaf_version": "2.0"}}
DOCUMENTS: list[Any] = [SPDX, {**SPDX, **RELATED}, CYCLONEDX, OPENVEX, CSAF, STATEMENT]
OTHERS: list[Any] = [None, True, 1, 1.5, "x", "", [], {}, [1], [[]], [{}], {"a": 1}, {"a": [{}]}]


def replaced(value: Any, rng: random.Random) -> Any:
    """Return a document in which some values are other ones."""
    if rng.random() < 0.15:
        return rng.choice(OTHERS)
    if isinstance(value, dict):
        return {key: replaced(one, rng) for key, one in value.items()}
    return [replaced(one, rng) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("document", [*DOCUMENTS, dsse(), bundle()])
def test_other_values(document: Any) -> None:
    rng = random.Random(1)
    for _ in range(1500):
        with suppress(Malformed):
            recognise(json.dumps(replaced(document, rng)).encode())
        with suppress(Malformed):
            recognise(json.dumps(dsse(replaced(STATEMENT, rng))).encode())


@pytest.mark.parametrize("text", [BOM, *map(json.dumps, DOCUMENTS)])
def test_other_bytes(text: str) -> None:
    rng = random.Random(2)
    for _ in range(1500):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    del data[place : place + rng.randint(1, 20)]
                case _:
                    data[place:place] = data[place : place + 20]
        with suppress(Malformed):
            recognise(bytes(data))
