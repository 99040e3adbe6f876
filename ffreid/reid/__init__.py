"""Re-identification (CAL): this room is empty until the second system moves in."""
