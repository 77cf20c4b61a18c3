"""What is learned: documents → a `Task` (training samples, fixed held-out samples, collation), and its evaluation."""
