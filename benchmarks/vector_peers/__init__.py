"""The vector indexes that are measured: one file each, ours and every peer's.

They are given the same vectors and asked the same queries, each in a process of its own
(``benchmarks.worker``); ``contract`` says what is asked and timed.
"""
