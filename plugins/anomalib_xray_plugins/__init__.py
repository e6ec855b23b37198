"""The model plugins that come with anomalib-xray, one package a model, in anomalib's own layout."""
