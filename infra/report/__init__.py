"""HTML pages of a run, of a case's data and of an evaluation: self-contained, without scripts.

What a page shows is computed by the modules, how it is written is in the templates.
"""
