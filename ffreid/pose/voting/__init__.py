"""From per-point votes to poses: mean shift, rigid fit, and both for a frame."""
