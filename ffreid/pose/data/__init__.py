"""RGB-D frames: readers of each dataset's layout, augmentation, sampling, neighbours."""
