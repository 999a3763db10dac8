"""Many runs, one after another, and the table of what came out."""
