"""Preparation: raw radiographs become clean, masked ones. No torch: the device prepares with the same code."""
