"""Sets of runs: many configurations in one call, and the comparison of curricula."""
