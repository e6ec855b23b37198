"""Results of a benchmark as tables, charts and a page."""
