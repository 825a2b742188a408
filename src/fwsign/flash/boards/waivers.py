# SPDX-License-Identifier: Apache-2.0
"""Names of the checks of a release against a board that a user can waive, one by one."""

from typing import Final

REVISION: Final = "revision"
"""The chip's revision is one that an image is for."""
FLASH_SIZE: Final = "flash-size"
"""An image's header, the partition table and the board agree about the size of the flash."""
FLASH_MODE: Final = "flash-mode"
"""The board's flash has the data lines that an image is built for."""
LAYOUT: Final = "layout"
"""An application lies in a partition for one."""
UNBOOTABLE: Final = "unbootable"
"""The board will start what is written."""
ACCEPTABLE: Final = (REVISION, FLASH_SIZE, FLASH_MODE, LAYOUT, UNBOOTABLE)

ATTACHMENT: Final = "attachment"
"""An attestation that is attached to a release names one of its payloads."""

RAW: Final = "raw"
"""Only images are written to places that are executed, and data only where there is room."""
ERASE_DATA: Final = "erase-data"
"""The board's own data stays when a merged image is written over it."""
