"""Object sets: people's own meshes as models, keypoints and symmetries for training."""
