"""Where a stage gets its teacher's signal: from a live model or from a cache."""
