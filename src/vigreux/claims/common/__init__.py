"""What claims share: scales, the training of teachers and students, measures, checks and figures."""
