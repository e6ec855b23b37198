"""Metrics of scores, with intervals, and simple numbers of pictures that tell abnormal from normal."""
