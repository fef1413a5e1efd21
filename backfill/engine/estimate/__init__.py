"""What a run would cost here: measured on a sample of each table, scaled, and compared with the fact afterwards."""
