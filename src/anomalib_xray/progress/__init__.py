"""A training as a moving picture, from the grids that it logged."""
