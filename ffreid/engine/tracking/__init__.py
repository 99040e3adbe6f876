"""What a run records and shows: log, progress, folder, state, TensorBoard, list of runs."""
