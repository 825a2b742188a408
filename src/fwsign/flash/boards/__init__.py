# SPDX-License-Identifier: Apache-2.0
"""What all boards share: the protocol, ports, payloads in memory, waivers."""
