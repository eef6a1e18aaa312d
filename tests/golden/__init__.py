"""Twelve jobs of the command line and the pictures that they have always made."""
