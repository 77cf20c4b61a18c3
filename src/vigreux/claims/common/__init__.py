"""What several claims share: scales, training of teachers and students, readings of finished runs, checks and figures."""
