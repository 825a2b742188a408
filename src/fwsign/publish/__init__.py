# SPDX-License-Identifier: Apache-2.0
"""How do releases get to a place from which devices fetch them, and what may leave it again?"""
