"""Vector indexes: they propose passages for query vectors and know nothing of documents."""
