"""Graph passes: cheaper ways to the same numbers, for inner loops in which no hook sees the calls of layers.

`straight_runs` applies them; each pass is a file that says on which workload it pays.
"""
