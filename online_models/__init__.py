"""Tasks, members, pools, baselines, progressive metrics, drift: models that learn from each label as it comes."""
