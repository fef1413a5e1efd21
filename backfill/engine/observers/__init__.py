"""Who watches a run beside the operator: logs, hooks, metrics."""
