"""From raw logs and tables to a cleaned, id-mapped, split data set."""
