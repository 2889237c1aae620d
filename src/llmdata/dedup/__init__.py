"""Deduplication: by address, by content, and near-duplicates by MinHash."""
