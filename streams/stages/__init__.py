"""The stages of a case that needs several keys, each a fold over a topic of its own: pure, as the fold is."""
