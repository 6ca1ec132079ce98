"""Ordering what the indexes propose: fusion of several candidate lists."""
