"""What both tasks share: the loop, processes, optimisers, checkpoints and the run folder."""
