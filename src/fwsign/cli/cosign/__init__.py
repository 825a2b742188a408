# SPDX-License-Identifier: Apache-2.0
"""`fwsign cosign`: one more signature in envelopes that others signed."""
