"""``python -m semsearch``: the command, for launchers that start modules."""

from semsearch.cli.main import main

if __name__ == "__main__":
    main()
