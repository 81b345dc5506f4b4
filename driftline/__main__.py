"""`python -m driftline` is the command `driftline`."""

from driftline.infra.cli import main

if __name__ == "__main__":
    main()
