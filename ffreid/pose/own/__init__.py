"""People's own RGB-D frames: finding them, their cameras, reading them, predicted poses."""
