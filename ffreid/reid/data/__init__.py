"""From data sets on disk to batches of pictures or clips."""
