"""The edge runtime: a bundle and a radiograph in, named scores and a heat map out. No torch, no anomalib.

``open_predictor("bundles/cae").predict(read_radiograph("hand.png"))`` of :mod:`anomalib_xray.edge.predictor`.
"""
