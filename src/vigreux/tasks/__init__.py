"""Builds a `Task` (training samples, held-out samples, collation) from documents or rows; evaluates it."""
