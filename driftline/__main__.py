"""`python -m driftline` is the command `driftline`."""

from infra.cli import main

if __name__ == "__main__":
    main()
