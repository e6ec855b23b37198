"""The edge runtime: a bundle and a radiograph in, named scores and a heat map out. No torch, no anomalib.

Example:
    >>> from anomalib_xray.edge.predictor import open_predictor
    >>> result = open_predictor("bundles/cae").predict(read_radiograph("hand.png"))
"""
