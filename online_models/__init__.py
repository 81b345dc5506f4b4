"""Models that learn from each label as it comes: tasks, members, pools, promotion, drift."""
