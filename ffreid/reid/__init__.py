"""Clothes-changing person re-identification: CAL (Gu et al., CVPR 2022)."""
