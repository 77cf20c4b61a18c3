"""From a configuration, or Python objects, to a run: models, data and curriculum."""
