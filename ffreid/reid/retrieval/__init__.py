"""From features to scores: protocols, exact ranking, confidence intervals, re-ranking."""
