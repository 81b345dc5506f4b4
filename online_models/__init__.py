"""Tasks, members, pools, baselines, metrics, drift: models that learn from each label as it comes."""
