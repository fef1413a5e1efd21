"""What is done to rows: one noun a file, its SQL beside it."""
