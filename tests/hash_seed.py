"""A plugin of pytest that gives the tests the hash seed that folds have.

Named by `-p` in pyproject.toml: pytest imports those before it takes standard output over, so that the run
can still be executed again.
"""

from driftline.streams.code.hash_seed import pin

pin()
