"""Documents from files and data sets: read, checked and split."""
