"""Throttle: sensors that look at what may be hurting, one a file, and the watch that asks them.

The first breach holds all workers, and its reason stands in the status. A sensor that cannot look
is a breach as well: it means "wait and say so", never "go on".
"""
