# SPDX-License-Identifier: Apache-2.0
"""Rules about PKIs: what devices refuse, and what will cause trouble."""
