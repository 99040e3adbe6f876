"""From datasets on disk to batches of images or clips."""
