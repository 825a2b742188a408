# SPDX-License-Identifier: Apache-2.0
"""Time one decision, steps 1 to 9, on the version of cryptography that is installed.

It takes a test vector, since an old version makes no PKI: one signer with P-256, and its CRLs.
"""

import json
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "tests"))

from fwsign.verify import Verifier  # noqa: E402 - after the path
from testkit.read import Bytes, anchor, policy  # noqa: E402

RUNS = 400


def main() -> None:
    """Print seconds: the median, and the fastest."""
    vectors = PROJECT / "vectors"
    document = json.loads((vectors / "release" / "good.json").read_text(encoding="utf-8"))
    read = Bytes(vectors)
    demands = policy({**document["device"], **document["policy"]}, read)
    verifier = Verifier([anchor(one, read) for one in document["anchors"]], demands)
    envelope, at = read(document["envelope"]), datetime.fromisoformat(document["at"])
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        verifier.verify(envelope, at=at)
        times.append(time.perf_counter() - begin)
    print(json.dumps([statistics.median(times), min(times)]))


if __name__ == "__main__":
    main()
