"""Checkpoints: reading and writing, foreign files, which ones a run keeps."""
