# SPDX-License-Identifier: Apache-2.0
"""What device.toml says: identity, anchors, policy, and the rules of each task."""
