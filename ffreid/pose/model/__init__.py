"""The FFB6D network."""
