# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash`, `fwsign ports` and `fwsign board`."""
