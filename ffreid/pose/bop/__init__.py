"""Datasets, results and scores in the format of the BOP benchmark."""
