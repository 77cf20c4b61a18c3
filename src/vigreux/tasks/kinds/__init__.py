"""What each kind of task does with its data: how it builds the task and its batches."""
