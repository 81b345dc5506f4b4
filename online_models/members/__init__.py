"""Models as a case declares them, how often they may fail, and reactions to drift."""
