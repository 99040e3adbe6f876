"""FFB6D object pose and CAL clothes-changing re-identification for today's PyTorch."""

__version__ = "0.1.0"
