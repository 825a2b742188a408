# SPDX-License-Identifier: Apache-2.0
"""The program `fwsign`, also as `python -m fwsign`."""

import gc

# Imports take most of a command's time. Garbage collection during the imports, and once more at
# the end, would add a fifth.
gc.set_threshold(100_000)


def main() -> None:
    """Run the program."""
    from fwsign.cli import main as run  # the line above comes first

    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
