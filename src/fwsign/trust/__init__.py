# SPDX-License-Identifier: Apache-2.0
"""Trust updates: the next list of anchors, signed by holders of the current one."""
