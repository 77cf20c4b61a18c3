"""What is learned: documents or rows → a `Task` (training samples, held-out samples, collation); its
evaluation.
"""
