# SPDX-License-Identifier: Apache-2.0
"""ESP chips: the plan, what the boot loader will start, and esptool in its own process."""
