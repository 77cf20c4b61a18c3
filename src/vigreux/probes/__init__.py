"""What a network has learned: functions of (network, task) → records."""
