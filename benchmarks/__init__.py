"""Measured quality and speed; a peer of the tests, never imported by the package.

Run ``python -m benchmarks``. Files: one for each benchmark, and what they share (``setting``,
``results``, ``machine``, ``processes``, ``texts``).
"""
