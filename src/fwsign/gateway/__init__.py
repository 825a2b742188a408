# SPDX-License-Identifier: Apache-2.0
"""The gateway: a device that fetches, verifies, installs and remembers releases. POSIX only."""
