collect_ignore = ["programs"]  # each runs in a process of its own, under the alias
