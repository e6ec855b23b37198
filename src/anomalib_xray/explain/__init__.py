"""Explanations of trained models, as pictures and tables."""
