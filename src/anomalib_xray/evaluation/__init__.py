"""How well scores tell abnormal from normal, with intervals, and what needs no model to do so."""
