"""Runs in, numbers that can be trusted out: reports, tables and what they rest on."""
