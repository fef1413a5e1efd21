"""What a run costs, beside other ways to do the same work. Never a test: machines differ, ratios hold."""
