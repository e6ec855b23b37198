"""Where the hands are: by the outlines of the foreground, or by a trained detector."""
