"""Ways to tell the hands from the background, one a file; :mod:`anomalib_xray.preparation.foreground` chooses one."""
