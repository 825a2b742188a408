# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign` and `fwsign staple`."""
