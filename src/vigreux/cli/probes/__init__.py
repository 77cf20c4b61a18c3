"""The probes of `vigreux probe`, one a module: each brings its options, what it measures and its table."""
