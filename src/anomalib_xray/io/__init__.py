"""Reading and writing radiographs. No torch: the device runs this too."""
