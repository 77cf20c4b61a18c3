"""The papers' claims: each file tests one claim on numbers and writes the verdict."""
