"""Colours of what is drawn."""

import colorsys


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class, well separated for close numbers."""
    red, green, blue = colorsys.hsv_to_rgb(0.13 + class_id * 0.618034 % 1, 0.75, 1)
    return round(red * 255), round(green * 255), round(blue * 255)
