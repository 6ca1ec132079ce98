"""The systems that are measured: one file each, ours and every peer's.

A file defines classes with one of the contracts in ``contract``; the libraries are imported when an
object is made, in a process of its own (``benchmarks.worker``).
"""
