"""seqjourney."""
