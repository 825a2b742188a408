# SPDX-License-Identifier: Apache-2.0
"""Questions about a fleet, answered from what a collector has stored; nothing is written."""
