"""`python -m driftline.infra.cli`."""

from driftline.infra.cli.entry import main

if __name__ == "__main__":
    main()
