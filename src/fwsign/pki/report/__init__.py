# SPDX-License-Identifier: Apache-2.0
"""A PKI as people see it: inventory, tree, page, timeline."""
