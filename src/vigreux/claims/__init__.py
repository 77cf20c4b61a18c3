"""The papers' claims as experiments: each states its claim as a test on numbers, runs it, and writes the verdict."""
