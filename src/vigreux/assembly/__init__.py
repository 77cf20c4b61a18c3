"""From a configuration to what the engine runs."""
