"""The command `ixc`: one module for each group of commands."""
