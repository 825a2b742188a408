# SPDX-License-Identifier: Apache-2.0
"""The gateway: a device that remembers, fetches, verifies, and installs safely. POSIX only."""
