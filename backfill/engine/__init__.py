"""What drives a run: batches, workers, recovery, control; and who watches it beside the operator."""
