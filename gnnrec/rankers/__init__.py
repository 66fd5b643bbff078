"""Everything that ranks items, neural or classical, behind one protocol."""
