"""A model that fails to load."""

raise RuntimeError("the weights are missing")
