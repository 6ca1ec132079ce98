"""Lexical search: BM25 over words that we cut ourselves, script by script, by tantivy."""
