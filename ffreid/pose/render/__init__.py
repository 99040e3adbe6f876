"""Rendered training data: a BOP dataset of an object set, see `ffreid.pose.render.command`."""
