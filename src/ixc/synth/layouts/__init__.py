"""Kinds of drawn pages, a module for each family of layouts."""
