"""`python -m attribcheck`."""

from .cli.commands import main

main()
