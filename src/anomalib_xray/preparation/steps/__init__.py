"""The steps of the preparation, one a module; each is declared as an entry point."""
