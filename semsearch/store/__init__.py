"""The catalog (one SQLite file, the only commit point) and the immutable vector segments."""
