"""New code beside the code that serves, until it takes over: what it folds, holds back, and plans."""
