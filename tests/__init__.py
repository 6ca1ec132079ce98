"""The tests of semsearch, and the command that runs every check (`python -m tests.check`)."""
