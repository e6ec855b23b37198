"""Layers, losses and backbones that models share."""
