"""`python -m infra.cli`."""

from infra.cli.entry import main

if __name__ == "__main__":
    main()
