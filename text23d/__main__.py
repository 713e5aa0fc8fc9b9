"""`python -m text23d <verb> ...`: the same as the console script `text23d`."""

from text23d.cli import main

if __name__ == "__main__":
    main()
