"""`python -m attribcheck`."""

from .cli import main

main()
