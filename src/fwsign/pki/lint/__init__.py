# SPDX-License-Identifier: Apache-2.0
"""Rules about PKIs: what devices refuse, and what will cause trouble.

```python
from datetime import UTC, datetime
from pathlib import Path

from fwsign.pki.lint import lint

report = lint(Path("pki"), now=datetime.now(UTC))
for finding in report.findings:
    print(finding.severity, finding.code, finding.subject, finding.message, finding.mend)
```

The place is a PKI of fwsign or of other tools, a folder of certificates, or one file. docs/lint.md
lists the rules.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.pki.lint.rules import Finding
    from fwsign.pki.lint.run import Report, lint

__all__ = [
    "Finding",
    "Report",
    "lint",
]

_PLACES = {
    "Finding": "pki.lint.rules",
    "Report": "pki.lint.run",
    "lint": "pki.lint.run",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
