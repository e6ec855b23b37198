"""The edge runtime: an exported model and a radiograph in, a score and a heat map out. No torch, no anomalib.

Example:
    >>> from anomalib_xray.edge.bundle import Bundle
    >>> from anomalib_xray.edge.runtime import Runtime
    >>> prediction = Runtime(Bundle.open("weights/openvino")).predict(read_radiograph("hand.png"))
"""
