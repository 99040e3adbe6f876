"""6D object pose from one RGB-D frame: FFB6D (He et al., CVPR 2021)."""
