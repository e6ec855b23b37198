"""The viewer: radiographs in a browser window, scored and overlaid by bundles. No torch, no anomalib."""
