"""Graph passes: rewrites that compute the same numbers at lower cost, for inner loops without hooks on layers.

`straight_runs` applies them. Each pass has its own file, which names the workload where it pays.
"""
