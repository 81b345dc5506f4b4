"""The models of one key: which one serves, which ones learn beside it, how each answer scored."""
