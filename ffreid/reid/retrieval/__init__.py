"""From features to scores: protocols as data, exact ranking, intervals, re-ranking."""
