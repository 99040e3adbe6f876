"""Toy data for pose: rendered objects at the real layout."""
