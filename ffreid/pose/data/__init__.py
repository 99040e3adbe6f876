"""RGB-D frames: readers of each data set's layout, augmentation, sampling, neighbours."""
