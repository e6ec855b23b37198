"""Bundles are made here: a checkpoint and normal images in, a folder for the edge runtime out. Needs torch."""
