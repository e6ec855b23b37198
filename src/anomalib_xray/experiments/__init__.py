"""Grids and searches: trainings written as tasks, run, and read again."""
