# SPDX-License-Identifier: Apache-2.0
"""`fwsign attach`: signatures that were made elsewhere."""
