"""`python -m recipes.pocket`."""

from .run import main

main()
