"""`python -m isojax`, the same as the console command `isojax`."""

from isojax.commands.main import main

main()
