"""A model plugin from outside of anomalib-xray."""
