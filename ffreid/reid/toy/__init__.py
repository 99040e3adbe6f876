"""Toy data for re-identification: drawn people at the real layout."""
