"""Synthetic data for re-identification, in the layouts of LTCC and CCVID."""
