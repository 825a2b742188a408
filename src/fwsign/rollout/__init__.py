# SPDX-License-Identifier: Apache-2.0
"""Rollouts simulated: who takes a release when, and how many have it before it is paused."""
