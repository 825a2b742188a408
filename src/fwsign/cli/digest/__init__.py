# SPDX-License-Identifier: Apache-2.0
"""`fwsign digest`: what is to be signed elsewhere, and the page about it."""
