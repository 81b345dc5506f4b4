"""How a case names its features, and what their keys and values may be."""
