"""The index folder on disk: the only writer of catalog, segments and derived files."""
