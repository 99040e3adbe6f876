"""Clothes-changing re-identification: CAL (Gu et al., CVPR 2022).

Networks, losses and retrieval are here; data sets, the task and the command line are not yet.
"""
