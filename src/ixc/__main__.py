"""`python -m ixc`: the same as the command `ixc`."""

from ixc.cli.main import main

if __name__ == "__main__":
    main()
