"""What was done, by whom, to which rows: the schema of our own in the target database."""
