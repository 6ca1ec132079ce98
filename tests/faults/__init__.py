"""Fault campaigns: what must not break an index, done to it a great many times.

`python -m tests.faults` runs them at full size and prints one table (``make test-faults``); the
modules ``tests/test_faults_*.py`` run each at a smaller size with the other tests.
"""
