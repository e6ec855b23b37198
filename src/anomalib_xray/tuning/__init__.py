"""Search for settings: ranges over a configuration, a stated rule, trials in processes of their own."""
